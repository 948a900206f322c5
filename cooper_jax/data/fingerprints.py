"""Fingerprints of files: whether what was made of them is of them still.

A compressed picture by its size and some bytes of its head, its middle and its
end: a PNG ends with a checksum of all its pixels, and a JPEG has other bytes
from where its pixels are others. A file of plain numbers, where one object may
differ and nothing else, by all its bytes; a large one, of which a data set has
tens of thousands, by its time of change, its head and its end. So a copy is the
same data, if it keeps the times of large files of plain numbers (`cp -p`).
"""

import concurrent.futures
import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

PART = 2048  # bytes read at each of the three places
COMPRESSED = (b"\x89PNG", b"\xff\xd8\xff", b"\x89HDF")
ALL_BYTES = 1 << 19  # bytes of plain numbers that are all read, at most
END_BYTES = 1 << 16  # bytes read at each end of a larger file of these
THREADS = 32  # files are waited for, not computed on
# Seconds since its last change from when on a file that is changed again has
# another time; file systems may count in steps.
SETTLED = 3.0
_KNOWN: dict[tuple, bytes] = {}  # parts of files, read once by a process


def of_files(
  names: Sequence[str],
  paths: Sequence[str | Path],
  more: Sequence[str] = (),
) -> str:
  """Twelve hexadecimal digits for files by the names they are known by.

  more: what else is told apart, of the lines that name the files.

  A file that can't be read counts as one without bytes: whoever reads it says
  what is wrong.
  """
  with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
    parts = pool.map(_part, paths)
    digest = hashlib.sha256()
    for name, part in zip(names, parts, strict=True):
      digest.update(f"{name}\0".encode(errors="surrogateescape"))
      digest.update(part)
  for text in more:
    digest.update(f"{text}\0".encode(errors="surrogateescape"))
  return digest.hexdigest()[:12]


def version(path: str | Path) -> tuple:
  """What is another once a file has changed: a key of what was read of it."""
  with contextlib.suppress(OSError):
    return _lasting(os.stat(path)) or (object(),)
  return (object(),)


def _lasting(found: os.stat_result) -> tuple | None:
  """A file's place, size and times; None while they may stay, and it change."""
  times = (found.st_mtime_ns, found.st_ctime_ns)
  if time.time() - max(times) / 1e9 < SETTLED:
    return None
  return (found.st_ino, found.st_size, *times)


def _part(path: str | Path) -> bytes:
  """A digest of what tells a file's bytes from others."""
  try:
    found = os.stat(path)
  except OSError:
    return hashlib.sha256().digest()
  lasting = _lasting(found)
  if lasting is None:
    return _read(path, found)
  key = (str(path), *lasting)
  if key not in _KNOWN:
    _KNOWN[key] = _read(path, found)
  return _KNOWN[key]


def _read(path: str | Path, found: os.stat_result) -> bytes:
  digest, size = hashlib.sha256(str(found.st_size).encode()), found.st_size
  try:
    with open(path, "rb") as file:
      head = file.read(PART)
      if head.startswith(COMPRESSED):
        part, places = PART, {0, max(0, size // 2), max(0, size - PART)}
      elif size <= ALL_BYTES:
        digest.update(head + file.read())
        return digest.digest()
      else:
        digest.update(str(found.st_mtime_ns).encode())
        part, places = END_BYTES, {0, size - END_BYTES}
      for place in sorted(places):
        file.seek(place)
        digest.update(file.read(part))
  except OSError:
    pass
  return digest.digest()
