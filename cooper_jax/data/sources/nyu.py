"""Source "nyu": NYU Depth v2, Kinect frames of rooms.

Two forms: folders with `rgb_00045.jpg` beside `sync_depth_00045.png` (16-bit,
millimetres), as most depth estimators train on, and the labelled 1,449 frames
of `nyu_depth_v2_labeled.mat` (HDF5, arrays transposed, metres), whose 894
labels become NYU40 where `classMapping40.mat` lies beside it. Depth is planar.
"""

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax.data import data_sets, folders, hdf5, matlab_files
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.modalities import class_lists

LABELLED = "nyu_depth_v2_labeled.mat"
MAPPING, SPLITS = "classMapping40.mat", "splits.mat"
# Of the toolbox's camera_params.m, whose first pixel has its centre at 1.
CAMERA = folders.pinhole(518.85790, 519.46961, 325.58245, 253.73617, first=1)
# Of config.maps, what suits this data.
MAPS = {"segmentation": {"classes": "nyu40"}}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies."""

  root: str = ""  # folder of sync_depth_*.png, or of the labelled .mat


def samples(root: Path, own: Config) -> list[Listed]:
  """Every frame of the folders and of the labelled file."""
  del own
  found = []
  pictures = {*folders.files(root, ".jpg"), *folders.files(root, ".png")}
  for path in sorted(pictures):
    name = Path(path).name
    if not name.startswith("sync_depth_"):
      continue
    folder, stem = path[: -len(name)], name[len("sync_depth_") : -len(".png")]
    jpeg, png = (f"{folder}rgb_{stem}.{kind}" for kind in ("jpg", "png"))
    parts = folder.strip("/").split("/")
    found.append(
      Listed(
        f"{folder}{stem}",
        png if png in pictures else jpeg,
        {"depth": MapPath(path, 1000.0)},
        split="test" if "test" in parts else "train",
        # basement_0001a and basement_0001b are recordings of one room.
        group=re.sub(r"(_\d+)[a-z]$", r"\1", parts[-1]),
        camera=CAMERA,
      )
    )
  return found + _labelled(root)


def _labelled(root: Path) -> list[Listed]:
  if not (root / LABELLED).is_file():
    return []
  with hdf5.opened(root / LABELLED, "nyu") as file:
    count = len(file["images"])
  test = set()
  if (root / SPLITS).is_file():
    test = {
      int(i) - 1 for i in matlab_files.numbers(root / SPLITS, "testNdxs", "nyu")
    }
  names = class_lists.read("nyu40").names
  mapped = (root / MAPPING).is_file()
  found = []
  for i in range(count):
    maps = {"depth": MapPath(LABELLED, read=functools.partial(_depth, index=i))}
    if mapped:
      read = functools.partial(_classes, index=i)
      maps["segmentation"] = MapPath(LABELLED, names=names, read=read)
    found.append(
      Listed(
        f"labeled/{i + 1:04d}",
        LABELLED,
        maps,
        split="test" if i in test else "train",
        camera=CAMERA,
        read=functools.partial(_image, index=i),
        beside=(MAPPING,) if mapped else (),
      )
    )
  return found


def _image(path: str, where: str, *, index: int) -> Image.Image:
  """MATLAB's [480, 640, 3, n] is [n, 3, 640, 480] in the file."""
  pixels = hdf5.array(path, where, "images", index)
  return Image.fromarray(np.ascontiguousarray(pixels.transpose(2, 1, 0)))


def _depth(file, *, index: int) -> np.ndarray:
  return hdf5.array(file.path, file.said, "depths", index).T


def _classes(file, *, index: int) -> np.ndarray:
  labels = hdf5.array(file.path, file.said, "labels", index).T
  return _mapping(str(Path(file.path).parent / MAPPING))[labels]


@functools.lru_cache(maxsize=2)
def _mapping(path: str) -> np.ndarray:
  """NYU40's id of each of the 894 labels and of 0 [895]."""
  return np.append(
    0, matlab_files.numbers(Path(path), "mapClass", "nyu")
  ).astype(np.int32)


DATA = data_sets.DataSet(
  "nyu",
  download="NYU Depth v2, cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html, for"
  " research",
  layout="train/SCENE/rgb_00045.jpg with train/SCENE/sync_depth_00045.png"
  " (test/ alike, any depth of folders), or nyu_depth_v2_labeled.mat with"
  " classMapping40.mat and splits.mat",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
