"""Files of one array, .npy, of which no more is taken than there is.

A header may claim any shape: the numbers stay in the file, or in the bytes that
were read, and what ends before its header says is one line.
"""

import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cooper_jax.data.picture_files import BROKEN, Embedded, reason, shown, sized
from cooper_jax.errors import UserError


def array(
  path: str | Path | Embedded, where: str, what: str, said: str = ""
) -> np.ndarray:
  """The array of a .npy, read-only; UserError where it can't be read.

  said: what begins the message, by default the place, what it is and its path.
  """
  file = sized(path, where, what)
  try:
    with file.open("rb") as raw:
      shape, columns_first, dtype = _header(raw)
      start = raw.tell()
      have = raw.seek(0, os.SEEK_END) - start
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > have:
      raise ValueError(
        f"it is cut: {dtype}{list(shape)} are {count * dtype.itemsize:,} bytes,"
        f" and {have:,} are there"
      )
    embedded = isinstance(file, Embedded)
    data = file.data if embedded else np.memmap(file, np.uint8, "r")
    flat = np.frombuffer(data, dtype, count, start)
    return flat.reshape(shape, order="F" if columns_first else "C")
  except BROKEN as error:
    said = said or f"{where}: {what} {shown(path)}"
    raise UserError(f"{said} can't be read as .npy: {reason(error)}") from error


def _header(raw: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
  """(shape, whether columns go first, type) of a .npy's array."""
  if raw.read(2) == b"PK":
    raise ValueError("it is a .npz of several arrays; write one with np.save")
  raw.seek(0)
  if np.lib.format.read_magic(raw) == (1, 0):
    return np.lib.format.read_array_header_1_0(raw)
  return np.lib.format.read_array_header_2_0(raw)
