"""Files of tf.train.Example records as samples, by a map of columns.

What ArrayRecord and TFRecord have in common: a column is a feature, and one
with several values is a list. A picture is bytes, or a path beside the file.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cooper_jax.data import (
  columns,
  data_sets,
  folders,
  picture_files,
  tf_examples,
)
from cooper_jax.data.folders import Listed
from cooper_jax.errors import UserError

_LONGEST = 1024  # bytes of a path
# opened(path) -> the records of a file by number, each bytes.
Opened = Callable[[str], Sequence[bytes]]


def samples(
  root: Path,
  own: columns.ColumnConfig,
  paths: Sequence[str],
  opened: Opened,
  source: str,
) -> list[Listed]:
  """Every record of the files; what can't be read of them is a bad sample.

  Raises UserError where no record has the columns: a wrong setting.
  """
  given, found, otherwise = columns.parse(own.columns), [], 0
  cell = functools.partial(_cell, opened=opened)
  for path in paths:
    split = data_sets.split_in(path)
    try:
      records = opened(str(root / path))
      count = len(records)
    except UserError as error:
      problem = f"{source}: {path}: {error}"
      found.append(Listed(path, path, problem=problem, split=split))
      continue
    for row in range(count):
      name = f"{path}:{row}"
      try:
        values = _parsed(records, row, f"{source}: {name}")
      except UserError as error:
        one = Listed(name, path, problem=str(error), split=split)
        found.append(one)
        continue
      try:
        chosen = columns.chosen(list(values), given, f"{source}: {name}")
      except UserError as error:
        one = Listed(name, path, problem=str(error), split=split)
        found.append(one)
        otherwise += 1
        continue
      shown = [n for n in columns.pictured() if n in chosen]
      named = {
        ours: _alone(ours, values[theirs])
        for ours, theirs in chosen.items()
        if ours not in shown
      }
      named |= {n: _held(values[chosen[n]]) for n in shown}
      found.append(
        columns.listed(
          name,
          named,
          path=path,
          row=row,
          root=root,
          columns=chosen,
          usual=own.usual,
          cell=cell,
          split=split,
          source=source,
        )
      )
  if found and otherwise == len(found):
    raise UserError(found[0].problem)
  return found


def _held(value: list) -> str | None:
  """What a feature of a picture has: a path, `columns.HELD`, or nothing.

  A path is printable text, which no kind of picture that is read can be: each
  begins with, or soon has, bytes that are none.
  """
  if len(value) == 1 and isinstance(value[0], bytes):
    with contextlib.suppress(UnicodeDecodeError):
      text = value[0].decode() if len(value[0]) <= _LONGEST else ""
      if text and text.isprintable():
        return text
  return columns.HELD if value else None


def _alone(ours: str, value: list) -> Any:
  """The one value of a feature; a list where a list is meant; None of none."""
  if not value or ours in ("options", "camera") or len(value) > 1:
    return value or None
  return value[0]


def _cell(path: str, row: int, column: str, where: str, *, opened: Opened):
  """What a feature of a record holds."""
  value = _parsed(opened(path), row, where).get(column)
  return value if value and len(value) > 1 else (value or [None])[0]


def _parsed(records, row: int, where: str) -> dict[str, list]:
  try:
    return tf_examples.parse(records[row])
  except (*picture_files.BROKEN, KeyError) as error:
    said = picture_files.reason(error)
    raise UserError(f"{where}: record {row} can't be read: {said}") from error


def ending(root: Path, *names: str) -> list[str]:
  """Files below the root with an ending, or with shard numbers behind it."""
  there = folders.files(root, "")
  return [
    path
    for name in names
    for path in there
    if Path(path).name.endswith(f".{name}") or f".{name}-" in Path(path).name
  ]
