"""HDF5 files of data sets: one array of a file, or one line of what is wrong.

A file is opened for each array: handles must not be shared by processes. h5py
is asked for where a source needs it, no run without such files does.
"""

import contextlib
from pathlib import Path

import numpy as np

from cooper_jax.data import picture_files
from cooper_jax.errors import UserError


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
    return file[key][()] if index is None else file[key][index]
