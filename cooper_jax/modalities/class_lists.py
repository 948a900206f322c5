"""Class lists: names of the classes of a segmentation, from a text file.

One name a line, in the order of the ids, the first has id 0; what follows `#`
is a comment. A word in square brackets behind a name says what it is:

  unlabelled [ignore]     its pixels say nothing: no loss, no metric
  background [uncounted]  drawn, but its IoU is no part of the mean
  wall [room]             what encloses things; all others are objects

Lists that come with the package (assets/classes) are named by their file.
"""

import dataclasses
import functools
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cooper_jax.errors import UserError, nearest

MARKS = ("ignore", "uncounted", "room")
MOST_CLASSES = 512  # classes: a confusion matrix of each test image is held
WORLD = "world"
FOLDER = Path(__file__).parents[1] / "assets" / "classes"
_LINE = re.compile(r"([^\[\]]+?)\s*((?:\[[^\[\]]*\]\s*)*)")
# A number before a name, or three behind it, as of a file of colours.
_COLUMNS = re.compile(r"^\d+\b|(?:\s\d+){3}$")
_FILE_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class ClassList:
  """Names by id, and which of them are ignored, count and are of the room.

  lines: as a file has them, without comments and doubled blanks.
  """

  lines: tuple[str, ...]

  @functools.cached_property
  def parts(self) -> tuple[tuple[str, frozenset[str]], ...]:
    """(name, its marks) of each class."""
    return tuple(_split(line) for line in self.lines)

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """The name of each id."""
    return tuple(name for name, _ in self.parts)

  def _marked(self, *marks: str) -> np.ndarray:
    return np.array([bool(own & {*marks}) for _, own in self.parts])

  @functools.cached_property
  def ignored(self) -> np.ndarray:
    """Which classes are read as "ignore", bool [n]."""
    return self._marked("ignore")

  @functools.cached_property
  def counted(self) -> np.ndarray:
    """Which classes the mean IoU is over, bool [n]."""
    return ~self._marked("ignore", "uncounted")

  @functools.cached_property
  def room(self) -> np.ndarray:
    """Which classes that count enclose the others, bool [n]."""
    return self._marked("room") & self.counted

  @functools.cached_property
  def objects(self) -> np.ndarray:
    """Which classes that count are objects, bool [n]."""
    return ~self._marked("room") & self.counted

  @property
  def ignore(self) -> int:
    """The id of pixels that say nothing: the greatest of its type."""
    return int(np.iinfo(self.dtype).max)

  @property
  def dtype(self):
    """The type of maps: u8 where 255 is no class."""
    return np.uint8 if len(self.lines) <= 255 else np.uint16

  def __len__(self) -> int:
    return len(self.lines)


def packaged() -> list[str]:
  """The lists that come with this version."""
  return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(which: str) -> ClassList:
  """The list of a packaged name, or of a text file.

  Raises UserError, one line that names file and line.
  """
  if not which.strip():
    raise UserError(
      "classes is empty; name a text file with a name a line, or one of"
      f" {', '.join(packaged())}"
    )
  path = Path(os.path.expanduser(which))
  if which in packaged():
    path = FOLDER / f"{which}.txt"
  try:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
      raise ValueError("no regular file")
    if found.st_size > _FILE_BYTES:
      raise UserError(f"class list {which} is over {_FILE_BYTES >> 10} kB")
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, ValueError) as error:
    raise UserError(
      f"class list {which} can't be read"
      f" ({getattr(error, 'strerror', None) or error}); name a text file, or"
      f" one of {', '.join(packaged())}{nearest(which, packaged())}"
    ) from error
  kept, wheres, blank = [], [], 0
  for number, written in enumerate(text.splitlines(), 1):
    line = written.partition("#")[0].strip()
    if not written.strip() and kept:
      blank = blank or number
    if not line:
      continue
    if blank:
      raise UserError(
        f"{path}:{blank}: a blank line among the names; the ids of those below"
        " are unclear: remove it, or write a name"
      )
    if "\t" in line or _COLUMNS.search(line):
      raise UserError(
        f"{path}:{number}: {line[:60]!r} is a line of a table; write a name a"
        " line in the order of the ids from 0, without ids, colours or other"
        " columns"
      )
    kept.append(" ".join(line.split()))
    wheres.append(f"{path}:{number}")
  return checked(kept, wheres, str(path))


def checked(
  lines: Sequence[str], wheres: Sequence[str] = (), whole: str = "class list"
) -> ClassList:
  """The list of some lines; UserError where it can't be one."""
  if not 2 <= len(lines) <= MOST_CLASSES:
    raise UserError(
      f"{whole} has {len(lines)} classes; allowed are 2 to {MOST_CLASSES}, a"
      " name a line in the order of the ids"
    )
  seen: dict[str, str] = {}
  for number, line in enumerate(lines):
    where = wheres[number] if wheres else f"{whole}, class {number}"
    match = _LINE.fullmatch(line)
    for c in line:
      if c == "/" or not c.isprintable():  # a slash parts the keys of metrics
        raise UserError(
          f"{where}: {line[:60]!r} is no class: it holds the character {c!r};"
          " write a name without it"
        )
    if not match or len(line) > 200:
      raise UserError(
        f"{where}: {line[:60]!r} is no class; write a name, and marks behind it"
        f" in square brackets: {', '.join(MARKS)}"
      )
    name, marks = _split(line)
    for mark in marks - {*MARKS}:
      raise UserError(
        f"{where}: no mark [{mark}]; there are {', '.join(MARKS)}"
        f"{nearest(mark, MARKS)}"
      )
    if name in seen:
      raise UserError(
        f"{where}: class {name!r} is that of {seen[name]} as well; each name"
        " stands for one id"
      )
    seen[name] = where
  found = ClassList(tuple(lines))
  if not found.counted.any():
    raise UserError(f"{whole}: none of the classes counts")
  return found


def _split(line: str) -> tuple[str, frozenset[str]]:
  name, _, rest = line.partition("[")
  return name.strip(), frozenset(re.findall(r"[^\[\]\s,]+", rest))


@functools.cache
def palette(count: int) -> np.ndarray:
  """Colours u8 [count, 3] that are far apart, the first black.

  One after the other, the colour of a grid that is farthest from all before
  it and from the grey of ignored pixels, as seen: in Oklab (Ottosson 2020).
  """
  levels = np.round(np.linspace(0, 255, 17)).astype(np.uint8)
  grid = np.stack(np.meshgrid(*[levels] * 3, indexing="ij"), -1).reshape(-1, 3)
  seen = _oklab(grid)
  grey = _oklab(np.full((1, 3), 128, np.uint8))
  distance = np.sum((seen - grey) ** 2, -1)
  chosen = [0]
  while len(chosen) < count:
    distance = np.minimum(distance, np.sum((seen - seen[chosen[-1]]) ** 2, -1))
    chosen.append(int(np.argmax(distance)))
  return grid[chosen[:count]]


def _oklab(rgb: np.ndarray) -> np.ndarray:
  """sRGB u8 [n, 3] -> Oklab [n, 3]."""
  share = rgb / 255
  linear = np.where(
    share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4
  )
  cones = np.cbrt(
    linear
    @ np.array(
      [
        (0.4122214708, 0.2119034982, 0.0883024619),
        (0.5363325363, 0.6806995451, 0.2817188376),
        (0.0514459929, 0.1073969566, 0.6299787005),
      ]
    )
  )
  return cones @ np.array(
    [
      (0.2104542553, 1.9779984951, 0.0259040371),
      (0.7936177850, -2.4285922050, 0.7827717662),
      (-0.0040720468, 0.4505937099, -0.8086757660),
    ]
  )
