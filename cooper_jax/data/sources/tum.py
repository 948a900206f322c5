"""Source "tum": TUM RGB-D, Kinect sequences.

Depth is a 16-bit PNG of 5,000 units a metre, 0 = no reading. Colour and depth
were taken at other moments: pictures are paired as the benchmark's
own script does it, the nearest pairs first, within .02 seconds.
"""

import dataclasses
import math
from pathlib import Path

from cooper_jax.data import data_sets, folders
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError

SCALE = 5000.0  # units a metre
APART = 0.02  # seconds between colour and depth, at most
CAMERAS = {
  "freiburg1": folders.pinhole(517.3, 516.5, 318.6, 255.3),
  "freiburg2": folders.pinhole(520.9, 521.0, 325.1, 249.7),
  "freiburg3": folders.pinhole(535.4, 539.2, 320.1, 247.6),
}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies."""

  root: str = ""  # folder of the sequences, or one of them


def samples(root: Path, own: Config) -> list[Listed]:
  """Every pair of colour and depth of every sequence."""
  del own
  found = []
  for path in folders.files(root, "depth.txt"):
    if Path(path).name != "depth.txt":
      continue
    name = Path(path).parent.as_posix()
    before = "" if name == "." else f"{name}/"
    sequence = root.name if name == "." else name
    try:
      colour = _stamped(root, f"{before}rgb.txt")
      depth = _stamped(root, f"{before}depth.txt")
    except UserError as error:
      found.append(Listed(sequence, "", problem=str(error), group=sequence))
      continue
    cameras = (c for key, c in CAMERAS.items() if key in sequence)
    camera = next(cameras, ())
    found += [*_wrong(colour, sequence), *_wrong(depth, sequence)]
    for one, other in associated([*colour], [*depth]):
      found.append(
        Listed(
          f"{sequence}/{one:.6f}",
          before + colour[one],
          {"depth": MapPath(before + depth[other], SCALE)},
          group=sequence,
          camera=camera,
        )
      )
  return found


def _wrong(stamped: dict, sequence: str) -> list[Listed]:
  """Takes the lines that are none out of a list: bad samples."""
  return [
    Listed(f"{sequence}/{key}", "", problem=stamped.pop(key), group=sequence)
    for key in [*stamped]
    if isinstance(key, str)
  ]


def _stamped(root: Path, written: str) -> dict[float | str, str]:
  """Seconds -> path, of a list of "1305031102.175304 rgb/....png".

  "rgb.txt:17" -> what is wrong, of a line that is none.
  """
  path, found = root / written, {}
  if not path.is_file():
    raise UserError(f"tum: {path} does not exist; a sequence has it")
  with folders.reading(f"tum: {path}"):
    lines = path.read_text(encoding="utf-8").splitlines()
  for number, line in enumerate(lines, 1):
    parts = line.partition("#")[0].split()
    if not parts:
      continue
    try:
      stamp, name = float(parts[0]), *parts[1:]
      if not math.isfinite(stamp):  # it is near to none, and far from none
        raise ValueError
      found[stamp] = name
    except ValueError:
      line = f"{path.name}:{number}"
      found[line] = f"tum: {path}:{number}: a line is a time and a path"
  return found


def associated(first: list[float], second: list[float]) -> list[tuple]:
  """Pairs of times that are near, the nearest first, each once; in order."""
  pairs, start = [], 0
  first, second = sorted(first), sorted(second)
  for one in first:
    while start < len(second) and second[start] <= one - APART:
      start += 1
    for other in second[start:]:
      if other >= one + APART:
        break
      pairs.append((abs(one - other), one, other))
  left, right, found = set(first), set(second), []
  for _, one, other in sorted(pairs):
    if one in left and other in right:
      left.remove(one)
      right.remove(other)
      found.append((one, other))
  return sorted(found)


DATA = data_sets.DataSet(
  "tum",
  download="sequences of TUM RGB-D, cvg.cit.tum.de/data/datasets/rgbd-dataset,"
  " CC BY 4.0",
  layout="rgbd_dataset_freiburg1_desk/rgb.txt and depth.txt, which name"
  " rgb/1305031102.175304.png and depth/1305031102.160407.png",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
