"""HDF5 files of data sets: one array of a file, or one line of what is wrong.

A file is opened for each array: handles must not be shared by processes. h5py
is asked for where a source needs it, no run without such files does.
"""

import contextlib
import math
from pathlib import Path

import numpy as np

from cooper_jax.data import picture_files
from cooper_jax.errors import UserError

MOST = 3 * picture_files.PIXELS  # numbers of an array; zeros pack to nothing


@contextlib.contextmanager
def opened(path: str | Path, where: str):
  """The file, to be read; UserError where it can't be."""
  try:
    import h5py
  except ImportError as error:
    raise UserError(
      f"{where}: HDF5 is read with the package h5py: pip install h5py"
    ) from error
  try:
    with h5py.File(path, "r") as file:
      yield file
  except picture_files.BROKEN as error:
    shown = picture_files.shown(path)
    raise UserError(
      f"{where}: {shown} can't be read: {picture_files.reason(error)}"
    ) from error


def array(
  path: str | Path, where: str, key: str = "dataset", index: int | None = None
) -> np.ndarray:
  """The array under a key, or its index-th part."""
  with opened(path, where) as file:
    if key not in file:
      raise UserError(
        f"{where}: {picture_files.shown(path)} has no {key!r}, only"
        f" {', '.join(map(repr, file)) or 'nothing'}"
      )
    found = file[key]
    part = found.shape if index is None else found.shape[1:]
    if math.prod(part) > MOST:
      raise UserError(
        f"{where}: {picture_files.shown(path)} holds {list(part)} under"
        f" {key!r}, the most is {MOST // 10**6} million numbers; shrink it"
      )
    return found[()] if index is None else found[index]
