"""Columns of tables and records as samples: whose names and cells are others'.

A row has what a line of own data has (`sources/jsonl.py`), under the names that
a user gives: "image=rgb, answer=label". A picture is the bytes of a file, as
{"bytes", "path"} or alone, an array, or a path beside the table's file. Texts
are read when the rows are listed, pictures when a sample is read, by the
`cell(path, row, column, where)` of the file's format.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cooper_jax import modalities
from cooper_jax.data import (
  conversations,
  line_maps,
  own_questions,
  picture_files,
  pictures,
  records,
  tag_checks,
)
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.data.line_maps import Usual
from cooper_jax.data.picture_files import Embedded
from cooper_jax.errors import UserError, nearest

_IMAGE = "image"
HELD = "in the table"  # in place of a path, of a picture that a cell holds
Cell = Callable[[str, int, str, str], Any]


@dataclasses.dataclass(frozen=True)
class ColumnConfig:
  """Where tables lie, and what their columns are."""

  root: str = ""  # folder of the files
  # Our name of each column that has another: "image=rgb, answer=label"; ours
  # are those of own data (docs/data.md). "flag=": its column is not read.
  columns: str = ""
  # Units a metre of depth whose row has no depth_scale; 0 = metres of floats,
  # millimetres of integers.
  depth_scale: float = 0.0
  # Class list of the ids in class maps: a packaged name or a text file; "" =
  # maps.segmentation.classes.
  class_list: str = ""

  def __post_init__(self):
    parse(self.columns)
    _ = self.usual

  @property
  def usual(self) -> Usual:
    """What holds for rows that do not say it."""
    return Usual(self.depth_scale, self.class_list)


def pictured() -> tuple[str, ...]:
  """Our columns that hold pictures: the image, and the map of a modality."""
  return (_IMAGE, *modalities.names())


def parse(written: str) -> dict[str, str]:
  """Our name -> the column's; "" where a column of our name is another thing.

  In: "image=rgb, flag="   Out: {"image": "rgb", "flag": ""}
  """
  known = (*records.keys(), *conversations.FORMS)
  found = {}
  for each in filter(None, (part.strip() for part in written.split(","))):
    ours, equals, theirs = (part.strip() for part in each.partition("="))
    if not equals:
      raise UserError(
        f"columns has {each!r}; write ours=theirs: image=rgb, answer=label, or"
        " flag= for a column that is not to be read"
      )
    if ours not in known:
      raise UserError(
        f"columns names {ours!r}; ours are {', '.join(known)}"
        f"{nearest(ours, known)}"
      )
    if ours in found:
      raise UserError(f"columns names {ours!r} twice; each has one column")
    found[ours] = theirs
  return found


def chosen(
  there: Sequence[str], columns: Mapping[str, str], where: str
) -> dict[str, str]:
  """Our name -> column of those that are read.

  Those that are named, and of the others those that have our names already.
  Raises UserError where a named one, or the image, is missing.
  """
  for ours, theirs in columns.items():
    if theirs and theirs not in there:
      raise UserError(
        f"{where} has no column {theirs!r}, which is {ours!r} by 'columns'; it"
        f" has {', '.join(map(picture_files.shown, there))}"
        f"{nearest(theirs, list(there))}"
      )
  taken = {*columns, *columns.values()}
  own = (*records.keys(), *conversations.FORMS)
  found = {ours: theirs for ours, theirs in columns.items() if theirs}
  found |= {n: n for n in own if n in there and n not in taken}
  if _IMAGE not in found:
    raise UserError(
      f"{where} has no column 'image'; say which it is: 'columns' is"
      f" image=NAME, of {', '.join(map(picture_files.shown, there))}"
    )
  asks = conversations.form_of(found) or {"question", "answer"} <= set(found)
  if not asks and not set(modalities.names()) & set(found):
    raise UserError(
      f"{where} has neither a map nor a question among"
      f" {', '.join(map(picture_files.shown, there))}; say which columns they"
      f" are: 'columns' is {modalities.names()[0]}=NAME, or question=NAME,"
      " answer=NAME"
    )
  return found


def listed(
  name: str,
  values: Mapping[str, Any],
  *,
  path: str,
  row: int,
  root: Path,
  columns: Mapping[str, str],
  usual: Usual,
  cell: Cell,
  split: str = "",
  source: str = "",
) -> Listed:
  """A row as a sample.

  name: of the sample. values: by our names; of a picture that its cell holds
  `HELD`, else its path beside the file, or None. path: of the file, below the
  root. columns: our name -> the column's.
  """
  where, folder = f"{source}: {name}", Path(path).parent
  record, problems = _record(values)
  expanded = [({}, problems)]
  if not problems:
    try:
      lines = conversations.expand(record, records.keys())
      expanded = [records.checked(line) for line in lines]
    except ValueError as error:
      expanded = [({}, [str(error)])]
  questions, known = [], line_maps.Known({}, (), ())
  for line, more in expanded:
    problems += [each for each in more if each not in problems]
    if {"question", "answer"} <= set(line) and not more:
      question, more = own_questions.make(line)
      problems += more
      questions += [question] if question else []
    if line and not problems:
      known = line_maps.of(line, usual, root / folder, problems)
      record = line
  if problems:
    return Listed(name, path, problem=f"{where}: {problems[0]}")
  maps = {}
  for which in modalities.names():
    if not record.get(which):
      continue
    held = record[which] == HELD
    maps[which] = MapPath(
      path if held else str(folder / record[which]),
      known.scales.get(which),
      known.classes,
      held=_reader(cell, row, columns[which]) if held else None,
      certain=False,
    )
  try:
    tag_checks.check(questions, maps, where)
  except UserError as error:
    return Listed(name, path, problem=str(error))
  image = str(folder / record[_IMAGE]) if record[_IMAGE] != HELD else path
  read = None
  if record[_IMAGE] == HELD:
    alone = not maps and not known.camera
    read = functools.partial(
      _image, cell=cell, row=row, column=columns[_IMAGE], alone=alone
    )
  return Listed(
    name,
    image,
    maps,
    split=split,
    # Rows about one picture are in one split.
    group="" if record[_IMAGE] == HELD else image,
    camera=known.camera,
    questions=tuple(questions),
    read=read,
    beside=(path,),
  )


def _reader(cell: Cell, row: int, column: str):
  return functools.partial(_held, cell=cell, row=row, column=column)


def _held(path: str, where: str, *, cell: Cell, row: int, column: str):
  """What the cell of a map holds: an array [h, w], or a file's bytes."""
  return _one(cell(path, row, column, where), where, column)


def _image(
  path: str, where: str, *, cell: Cell, row: int, column: str, alone: bool
) -> Image.Image:
  """The picture of a cell, upright, in RGB."""
  found = _one(cell(path, row, column, where), where, column)
  if isinstance(found, np.ndarray):
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[-1] != 3:
      raise UserError(
        f"{where}: column {column!r} is {found.dtype}{list(found.shape)}; an"
        " image is uint8 [height, width, 3]"
      )
    return Image.fromarray(found)
  with picture_files.opened(found, where, "image") as picture:
    return pictures.upright(picture, where, alone=alone)


def _one(value: Any, where: str, column: str) -> Embedded | np.ndarray:
  """The bytes of one file, or the array, of a cell."""
  if isinstance(value, list):
    if len(value) != 1:
      raise UserError(f"{where}: {several(len(value))}")
    (value,) = value
  if isinstance(value, Mapping):
    value = value.get("bytes")
  if isinstance(value, np.ndarray):
    return value[..., 0] if value.ndim == 3 and value.shape[-1] == 1 else value
  if not isinstance(value, bytes):
    raise UserError(
      f"{where}: column {column!r} is {type(value).__name__}; a picture is the"
      " bytes of a file, {bytes, path}, or a path"
    )
  return Embedded(value, f"of column {column!r}")


def several(count: int) -> str:
  """Why a row of several images, or of none, is not read."""
  return (
    f"{count} images: one image a question is read; lay several out in one"
    " picture, or leave the row out"
  )


def _record(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
  """Values as those of a JSON line, numbers as they are written."""
  found, problems = {}, []
  for key, value in values.items():
    try:
      found[key] = _plain(value)
    except ValueError as error:
      problems.append(f"{key!r} {error}")
  return found, problems


def _plain(value: Any) -> Any:
  """A value as JSON has it: bytes are UTF-8, numbers stay as written."""
  if isinstance(value, np.floating):
    return _finite(value)
  if isinstance(value, np.ndarray):
    value = list(value)
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError as error:
      raise ValueError(f"is not UTF-8 at byte {error.start}") from error
  if isinstance(value, bool) or value is None or isinstance(value, str):
    return value
  if isinstance(value, int):
    return records.Number(value)
  if isinstance(value, float):
    return _finite(value)
  if isinstance(value, list | tuple):
    return [_plain(each) for each in value]
  if isinstance(value, Mapping):
    return {str(k): _plain(each) for k, each in value.items()}
  raise ValueError(f"is {type(value).__name__}; text or a number is read")


def _finite(value: float | np.floating) -> records.Number:
  """A number as short as its own precision allows.  In: f32 2.4  Out: 2.4"""
  if not np.isfinite(value):
    raise ValueError(f"is {value}, no number; leave the cell empty")
  return records.Number(value)
