"""Fingerprints of files: whether what was made of them is of them still.

A compressed picture by its size and some bytes of its head, its middle and its
end: a PNG ends with a checksum of all its pixels, and a JPEG has other bytes
from where its pixels are others. A file of plain numbers, where one object may
differ and nothing else, by all its bytes. Times of change are no part, so that
a copy is the same data.
"""

import concurrent.futures
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

PART = 2048  # bytes read at each of the three places
COMPRESSED = (b"\x89PNG", b"\xff\xd8\xff", b"\x89HDF")
MANY = 8192  # files from which none is read wholly: there may be terabytes
ALL_BYTES = 1 << 25  # bytes of a file that are all read, at most
THREADS = 32  # files are waited for, not computed on


def of_files(names: Sequence[str], paths: Sequence[str | Path]) -> str:
  """Twelve hexadecimal digits for files by the names they are known by.

  A file that can't be read counts as one without bytes: whoever reads it says
  what is wrong.
  """
  with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
    most = ALL_BYTES if len(paths) < MANY else 0
    parts = pool.map(functools.partial(_part, most=most), paths)
    digest = hashlib.sha256()
    for name, part in zip(names, parts, strict=True):
      digest.update(f"{name}\0".encode(errors="surrogateescape"))
      digest.update(part)
  return digest.hexdigest()[:12]


def _part(path: str | Path, most: int) -> bytes:
  """A digest of what tells a file's bytes from others.

  most: bytes of a plain file that is read wholly.
  """
  digest = hashlib.sha256()
  try:
    size = os.stat(path).st_size
    digest.update(str(size).encode())
    with open(path, "rb") as file:
      head = file.read(PART)
      if not head.startswith(COMPRESSED) and size <= most:
        digest.update(head + file.read())
        return digest.digest()
      for place in sorted({0, max(0, size // 2), max(0, size - PART)}):
        file.seek(place)
        digest.update(file.read(PART))
  except OSError:
    pass
  return digest.digest()
