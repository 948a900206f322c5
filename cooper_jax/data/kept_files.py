"""Files that a command reads are not written over by what it writes."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cooper_jax.data import picture_files, records
from cooper_jax.errors import UserError


def keep_off(out: Path, read: Iterable[tuple[Path, str]]) -> None:
  """Raises UserError where `out` is a file that is read, by whatever name.

  read: (path, what it is); looked at only where there is a file to lose.
  """
  if not out.exists():
    return
  for path, what in read:
    # A line may name what no path can be.
    with contextlib.suppress(OSError, ValueError):
      if os.path.samefile(out, path):
        raise UserError(f"{out} is {what}; choose another --out")


def of_lines(path: Path) -> Iterator[tuple[Path, str]]:
  """A JSONL file and all that its lines name, the wrong lines too."""
  yield path, "the file of lines that is read"
  for number, raw in records.lines(path):
    for text in records.strings(raw):
      file = picture_files.beside(path.parent, text)
      yield Path(file), f"a file that line {number} of {path} names"
