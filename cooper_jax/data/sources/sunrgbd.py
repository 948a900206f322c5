"""Source "sunrgbd": SUN RGB-D, rooms seen by four sensors.

Depth is a 16-bit PNG whose words are rotated by three bits: d >> 3 | d << 13 is
millimetres, what is beyond 8 m is set to 8 m by the toolbox. Read is
`depth_bfx`, whose holes are filled, or `depth` as measured. The test is that of
the toolbox's allsplit.mat, where it lies in the root or beside it.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import data_sets, folders, matlab_files
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError

FARTHEST = 8.0  # metres, of the toolbox's read3dPoints
# The official division of 5,285 and 5,050 frames, where the toolbox has it.
SPLIT_FILES = (
  "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat",
  "traintestSUNRGBD/allsplit.mat",
  "allsplit.mat",
)
_ABOVE = "SUNRGBD/"  # of its paths, which begin on another machine


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies, and which depth is read."""

  root: str = ""  # folder of kv1, kv2, realsense and xtion
  depth: str = "depth_bfx"  # depth_bfx (holes filled) | depth (as measured)

  def __post_init__(self):
    if self.depth not in ("depth_bfx", "depth"):
      raise UserError(f"depth is {self.depth!r}; allowed: depth_bfx, depth")


def samples(root: Path, own: Config) -> list[Listed]:
  """Every folder of a frame: image/, depth/, depth_bfx/, intrinsics.txt."""
  pictures: dict[str, str] = {}
  for path in folders.files(root, ".jpg"):
    if Path(path).parent.name == "image":
      pictures[Path(path).parent.parent.as_posix()] = path
  found, official = [], _official(root)
  for path in folders.files(root, ".png"):
    if Path(path).parent.name != own.depth:
      continue
    folder = Path(path).parent.parent.as_posix()
    intrinsics = root / folder / "intrinsics.txt"
    camera, problem = folders.tried(_camera, intrinsics)
    parts = folder.split("/")
    found.append(
      Listed(
        folder,
        pictures.get(folder, f"{folder}/image/{Path(path).stem}.jpg"),
        {"depth": MapPath(path, 1000.0, read=_millimetres)},
        split=official.get(folder, ""),
        group="/".join(parts[:3]) if len(parts) > 3 else "",
        camera=camera,
        problem=problem,
      )
    )
  return found


def _official(root: Path) -> dict[str, str]:
  """Folder of a frame -> split; the test has the authors' 5,050.

  {} where the toolbox's file is not there: scenes are divided then.
  """
  beside = (root / name for name in SPLIT_FILES)
  above = (root.parent / name for name in SPLIT_FILES[:2])
  path = next((p for p in (*beside, *above) if p.is_file()), None)
  if path is None:
    return {}
  found = {}
  for key, split in (("alltrain", "train"), ("alltest", "test")):
    for written in matlab_files.texts(path, key, "sunrgbd"):
      found[written.rpartition(_ABOVE)[2].strip("/")] = split
  return found


@functools.lru_cache(maxsize=64)
def _camera(path: Path) -> tuple[float, ...]:
  """Of the nine numbers of intrinsics.txt, whose first pixel is 1."""
  if not path.is_file():
    return ()
  k = folders.numbers(path, "sunrgbd", 9)
  return folders.pinhole(k[0], k[4], k[2], k[5], first=1)


def _millimetres(file) -> np.ndarray:
  words = file.pixels(
    lambda mode: mode.startswith("I"), wanted="SUN RGB-D has 16-bit PNG"
  ).astype(np.uint16)
  turned = (words >> 3) | (words << 13)
  return np.minimum(turned, np.uint16(FARTHEST * 1000))


DATA = data_sets.DataSet(
  "sunrgbd",
  download="SUNRGBD.zip, rgbd.cs.princeton.edu, for research",
  layout="kv1/NYUdata/NYU0001/image/NYU0001.jpg with depth_bfx/NYU0001.png,"
  " depth/NYU0001.png and intrinsics.txt (kv2, realsense and xtion alike)",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
