"""Source "arrayrecord": ArrayRecord files of tf.train.Example, by columns.

Records are those of `sources/tfrecord.py`, in files that are read at any place
(written with `group_size:1`). What `cooper_jax.data.build` wrote is read with
the source `built`, and prepared tensorflow-datasets with `tfds`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from cooper_jax.data import data_sets, picture_files, record_files, shards
from cooper_jax.data.columns import ColumnConfig
from cooper_jax.data.folders import Listed
from cooper_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config(ColumnConfig):
  """Where the files lie, and what their columns are."""


@functools.lru_cache(maxsize=256)
def opened(path: str) -> Sequence[bytes]:
  """A file's records by number; UserError where it can't be read."""
  # Imported here: absl and its flags, which few commands need.
  from array_record.python import array_record_data_source

  try:
    return array_record_data_source.ArrayRecordDataSource(path)
  except (ValueError, RuntimeError, OSError) as error:
    raise UserError(
      f"{path} can't be read: {picture_files.reason(error)}"
    ) from error


def samples(root: Path, own: Config) -> list[Listed]:
  """Every record of every file."""
  if (root / shards.MANIFEST).is_file():
    raise UserError(
      f"arrayrecord: {root} was made by cooper_jax.data.build; read it with the"
      " source built"
    )
  paths = record_files.ending(root, "array_record", "arrayrecord")
  return record_files.samples(root, own, paths, opened, "arrayrecord")


DATA = data_sets.DataSet(
  "arrayrecord",
  download="ArrayRecord files of tf.train.Example",
  layout="train-00000-of-00010.array_record with the features image, question,"
  " answer, depth or what data.settings.arrayrecord.columns names",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
