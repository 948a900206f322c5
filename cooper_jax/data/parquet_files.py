"""Parquet files: values of columns by row, and one cell at a time.

Rows lie in groups that are read as a whole: of a column with pictures the last
groups are held, so that rows in order are quick, and rows at random are not.
Whoever trains on large files builds them first (`data/build.py`).
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cooper_jax.data import picture_files
from cooper_jax.errors import UserError

ROW_GROUPS = 2  # row groups of pictures that a process holds
_ROWS = 1024  # rows that are looked at together


class Unreadable(UserError):
  """A file that is broken, or no Parquet; nobody knows how many rows it has."""


@contextlib.contextmanager
def opened(path: str | Path, where: str):
  """The file; what is broken in it becomes one line."""
  try:
    import pyarrow
    from pyarrow import parquet
  except ImportError as error:
    raise UserError(
      f"{where}: Parquet is read with the package pyarrow: pip install pyarrow"
    ) from error
  try:
    with parquet.ParquetFile(path, memory_map=True) as file:
      yield file
  except (*picture_files.BROKEN, pyarrow.ArrowException) as error:
    shown = picture_files.shown(path)
    raise Unreadable(
      f"{where}: {shown} can't be read: {picture_files.reason(error)}"
    ) from error


def names(path: Path, where: str) -> list[str]:
  """The columns of a file, as they stand in it; a name may stand twice."""
  with opened(path, where) as file:
    return list(file.schema_arrow.names)


def _once(file, columns: Iterable[str], where: str) -> None:
  """UserError where a column that is read stands twice: one would be lost."""
  there = file.schema_arrow.names
  for name in columns:
    count = there.count(name)
    if count > 1:
      raise UserError(
        f"{where} has {count} columns {name!r}; write it again with one, or"
        " with other names"
      )


def rows(
  path: Path, columns: Sequence[str], where: str
) -> Iterator[dict[str, Any]]:
  """The values of some columns, row by row, of which few are in memory."""
  with opened(path, where) as file:
    _once(file, columns, where)
    # As doubles, 2.4 of 32 bits is 2.4000000953674316.
    short = {
      field.name: field.type.to_pandas_dtype()
      for field in file.schema_arrow
      if str(field.type) in ("float", "halffloat")
    }
    for batch in file.iter_batches(_ROWS, columns=list(columns)):
      for row in batch.to_pylist():
        for name in short.keys() & row.keys():
          if row[name] is not None:
            row[name] = short[name](row[name])
        yield row


def count(path: Path, where: str) -> int:
  """Rows of a file."""
  with opened(path, where) as file:
    return file.metadata.num_rows


def lengths(path: Path, column: str, where: str) -> Iterator[int]:
  """How many items the list of each row has; 0 where it is none.

  Their bytes are read, and not kept.
  """
  import pyarrow.compute

  with opened(path, where) as file:
    _once(file, [column], where)
    for batch in file.iter_batches(64, columns=[column]):
      found = pyarrow.compute.list_value_length(batch.column(0))
      yield from (each or 0 for each in found.to_pylist())


def held(path: Path, column: str, mark: str, where: str) -> list[str | None]:
  """What each row of a column of pictures has: bytes, a path or nothing.

  Text is a path; bytes, and the bytes of {bytes, path} as the hub writes it,
  are `mark`, and where they are null its path counts. Bytes are read of those
  row groups alone that have both.
  """
  import pyarrow

  with opened(path, where) as file:
    _once(file, [column], where)
    kind = file.schema_arrow.field(column).type
    if pyarrow.types.is_dictionary(kind):  # of few values, each once
      kind = kind.value_type
    if _is_text(kind):
      return [row[column] for row in rows(path, [column], where)]
    fields = {kind.field(i).name for i in range(kind.num_fields)}
    hub = pyarrow.types.is_struct(kind) and {"bytes", "path"} <= fields
    found = []
    for group in range(file.num_row_groups):
      total = file.metadata.row_group(group).num_rows
      leaf = f"{column}.bytes" if hub else column
      nulls = _nulls(file, leaf, group)
      if nulls == 0 or pyarrow.types.is_list(kind):
        found += [mark] * total
        continue
      read = [column]
      if hub and nulls == total:
        read = [f"{column}.path"]
      for value in file.read_row_group(group, columns=read).to_pylist():
        found.append(_held(value[column], mark))
  return found


def _is_text(kind) -> bool:
  """Whether a column's type is one of the strings of this pyarrow."""
  import pyarrow

  checks = ("is_string", "is_large_string", "is_string_view")  # the last is new
  found = (getattr(pyarrow.types, each, None) for each in checks)
  return any(check is not None and check(kind) for check in found)


def _held(value: Any, mark: str) -> str | None:
  if not isinstance(value, dict):
    return None if value is None else mark
  return mark if value.get("bytes") is not None else value.get("path")


def _nulls(file, leaf: str, group: int) -> int:
  """Values of a leaf in a group that are null, -1 where its facts say less."""
  facts = file.metadata.row_group(group)
  for i in range(facts.num_columns):
    column = facts.column(i)
    if column.path_in_schema == leaf and column.statistics is not None:
      return column.statistics.null_count
  return -1


def cell(path: str, row: int, column: str, where: str) -> Any:
  """What one cell holds; bytes, a list, a dict, None."""
  ends = _ends(path)
  group = int(np.searchsorted(ends, row, side="right"))
  first = int(ends[group - 1]) if group else 0
  try:
    return _read_group(path, group, column)[row - first].as_py()
  except UserError as error:
    raise UserError(f"{where}: {error}") from error


@functools.lru_cache(maxsize=256)
def _ends(path: str) -> np.ndarray:
  with opened(path, "Parquet") as file:
    facts = file.metadata
    counts = [facts.row_group(i).num_rows for i in range(facts.num_row_groups)]
  return np.cumsum(counts)


@functools.lru_cache(maxsize=ROW_GROUPS)
def _read_group(path: str, group: int, column: str):
  with opened(path, "row group") as file:
    return file.read_row_group(group, columns=[column]).column(0)
