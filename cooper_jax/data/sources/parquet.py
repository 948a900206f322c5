"""Source "parquet": Parquet files, as the hub has them, by a map of columns.

A row is a line of own data: `image`, `question`, `answer` and the others, maps
of modalities too, or columns of other names (`columns`). Pictures are
{bytes, path} or bytes, or paths beside the file. A file is of the split that
its path names (`data/train-00000-of-00005.parquet`), or is divided.
"""

import dataclasses
from pathlib import Path

from cooper_jax.data import columns, data_sets, folders, parquet_files
from cooper_jax.data.columns import HELD, ColumnConfig
from cooper_jax.data.folders import Listed


@dataclasses.dataclass(frozen=True)
class Config(ColumnConfig):
  """Where the files lie, and what their columns are."""


def samples(root: Path, own: Config) -> list[Listed]:
  """Every row of every file."""
  found = []
  for path in folders.files(root, ".parquet"):
    found += rows(root, path, own, columns.parse(own.columns), "parquet")
  return found


def rows(root: Path, path: str, own: Config, given, source: str):
  """Yields the rows of a file; one that can't be read is one bad sample."""
  try:
    yield from _rows(root, path, own, given, source)
  except parquet_files.Unreadable as error:
    yield Listed(path, path, problem=str(error), split=data_sets.split_in(path))


def _rows(root: Path, path: str, own: Config, given, source: str):
  where, file = f"{source}: {path}", root / path
  there = parquet_files.names(file, where)
  chosen = columns.chosen(there, given, where)
  shown = [name for name in columns.pictured() if name in chosen]
  held = {
    name: parquet_files.held(file, chosen[name], HELD, where) for name in shown
  }
  texts = [name for name in chosen if name not in shown]
  total = parquet_files.count(file, where)
  told = (
    parquet_files.rows(file, [chosen[n] for n in texts], where)
    if texts
    else ({} for _ in range(total))
  )
  usual, split = own.usual, data_sets.split_in(path)
  for row, values in enumerate(told):
    named = {name: values[chosen[name]] for name in texts}
    named |= {name: held[name][row] for name in shown}
    yield columns.listed(
      f"{path}:{row}",
      named,
      path=path,
      row=row,
      root=root,
      columns=chosen,
      usual=usual,
      cell=parquet_files.cell,
      split=split,
      source=source,
    )


DATA = data_sets.DataSet(
  "parquet",
  download="Parquet files of the hub, or write them",
  layout="data/train-00000-of-00005.parquet with the columns image, question,"
  " answer, depth, segmentation or what data.settings.parquet.columns names",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
