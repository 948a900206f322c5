"""Small MATLAB files of data sets: splits, and tables of classes."""

from pathlib import Path

import numpy as np

from cooper_jax.data import folders
from cooper_jax.errors import UserError


def numbers(path: Path, key: str, source: str) -> np.ndarray:
  """The numbers [n] under a key of a file; UserError without them."""
  found = _read(path, key, source)
  if found.dtype.kind not in "iuf":
    raise UserError(f"{source}: {path} has no numbers under {key!r}")
  return found.ravel()


def texts(path: Path, key: str, source: str) -> list[str]:
  """The strings of a cell array under a key; UserError without them."""
  found = [np.asarray(each).ravel() for each in _read(path, key, source).flat]
  if not all(each.size == 1 and each.dtype.kind == "U" for each in found):
    raise UserError(f"{source}: {path} has no strings under {key!r}")
  return [str(each[0]) for each in found]


def _read(path: Path, key: str, source: str) -> np.ndarray:
  from scipy.io import loadmat, matlab

  said = f"{source}: {path}"
  with folders.reading(said):
    try:
      found = loadmat(path)
    except (matlab.MatReadError, NotImplementedError) as error:
      raise UserError(f"{said} can't be read: {error}") from error
    if key not in found:
      raise UserError(f"{said} has nothing under {key!r}")
    return np.asarray(found[key])
