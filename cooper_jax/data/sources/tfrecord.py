"""Source "tfrecord": TFRecord files of tf.train.Example, by a map of columns.

A record is a line of own data whose features are named as its keys are, or by
`columns`; pictures are the bytes of image files, depth of 16-bit PNG or .npy,
or paths beside the file. A file is of the split that its name says, or is
divided.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import data_sets, record_files, tf_examples
from cooper_jax.data.columns import ColumnConfig
from cooper_jax.data.folders import Listed


@dataclasses.dataclass(frozen=True)
class Config(ColumnConfig):
  """Where the files lie, and what their columns are."""


class Records:
  """The records of a TFRecord file by number."""

  def __init__(self, path: str, places: np.ndarray):
    self.path, self.places = path, places

  def __len__(self) -> int:
    return len(self.places)

  def __getitem__(self, index: int) -> bytes:
    start, stop = self.places[index].tolist()
    with open(self.path, "rb") as file:
      file.seek(start)
      return file.read(stop - start)


@functools.lru_cache(maxsize=1024)
def opened(path: str) -> Records:
  """A file whose places are found once."""
  return Records(path, tf_examples.places(path, "TFRecord"))


def samples(root: Path, own: Config) -> list[Listed]:
  """Every record of every file."""
  paths = record_files.ending(root, "tfrecord")
  return record_files.samples(root, own, paths, opened, "tfrecord")


DATA = data_sets.DataSet(
  "tfrecord",
  download="TFRecord files, not packed, of tf.train.Example",
  layout="train.tfrecord-00000-of-00010 with the features image, question,"
  " answer, depth or what data.settings.tfrecord.columns names",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
