"""Source "scannet": ScanNet frames, as its SensReader or `25k` export has them.

Depth is a 16-bit PNG of millimetres, 640x480 beside colour of 1296x968, aligned
with it. Labels of 8 bits (`label`, of the `25k` export) are NYU40 as they are;
those of 16 bits (`label-filt`, ids of ScanNet) become NYU40 by
`scannetv2-labels.combined.tsv`. Frames whose pose is infinite were lost by the
tracker: their depth is right, and they are read.
"""

import csv
import dataclasses
import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import data_sets, folders
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists

# Of config.maps, what suits this data.
MAPS = {"segmentation": {"classes": "nyu40"}}
TABLE = "scannetv2-labels.combined.tsv"
LABELS = ("label-filt", "label")
SPLITS = {"train": "train", "val": "test"}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies."""

  # Folder of the scenes, of scannetv2-labels.combined.tsv and of the lists of
  # scenes scannetv2_train.txt and scannetv2_val.txt.
  root: str = ""


def samples(root: Path, own: Config) -> list[Listed]:
  """Every colour picture of every scene."""
  del own
  splits = _lists(root)
  there = {*folders.files(root, ".png"), *folders.files(root, ".jpg")}
  names = class_lists.read("nyu40").names
  found = []
  for path in sorted(there):
    folder, frame = Path(path).parent, Path(path).stem
    if folder.name != "color":
      continue
    inside = folder.parent.as_posix()
    before = "" if inside == "." else f"{inside}/"
    scene = next((p for p in folder.parts if p.startswith("scene")), root.name)
    maps = {}
    if f"{before}depth/{frame}.png" in there:
      maps["depth"] = MapPath(f"{before}depth/{frame}.png", 1000.0)
    labels = (f"{before}{kind}/{frame}.png" for kind in LABELS)
    label = next((each for each in labels if each in there), "")
    if label:
      read = functools.partial(_classes, table=str(root / TABLE))
      maps["segmentation"] = MapPath(label, names=names, read=read)
    camera, problem = folders.tried(_camera, root / inside)
    # Labels of the 25k need no table.
    needs = label and ("label-filt/" in label or (root / TABLE).is_file())
    found.append(
      Listed(
        f"{scene}/{frame}",
        path,
        maps,
        split=splits.get(scene, ""),
        group=scene.partition("_")[0],  # scene0000_01 is the same room again
        camera=camera,
        problem=problem,
        beside=(TABLE,) if needs else (),
      )
    )
  return found


def _lists(root: Path) -> dict[str, str]:
  found = {}
  for part, split in SPLITS.items():
    path = root / f"scannetv2_{part}.txt"
    if path.is_file():
      with folders.reading(f"scannet: {path}"):
        scenes = path.read_text(encoding="utf-8").split()
      found.update(dict.fromkeys(scenes, split))
  return found


@functools.lru_cache(maxsize=64)
def _camera(folder: Path) -> tuple[float, ...]:
  """Of the colour's 4x4 matrix; () where there is none."""
  for name in ("intrinsic/intrinsic_color.txt", "intrinsics_color.txt"):
    if (folder / name).is_file():
      k = folders.numbers(folder / name, "scannet", 16)
      return folders.pinhole(k[0], k[5], k[2], k[6])
  return ()


def _classes(file, *, table: str) -> np.ndarray:
  """NYU40's ids: as they are of 8 bits, by the table of 16."""
  ids = file.pixels(
    lambda mode: mode == "L" or mode.startswith("I"),
    wanted="labels are an 8-bit or a 16-bit grey PNG",
  )
  if ids.dtype == np.uint8:
    return ids
  known = _table(table)
  if ids.max() >= len(known) or (known[ids] < 0).any():
    raise UserError(f"{file.said} has labels that {TABLE} does not list")
  return known[ids]


@functools.lru_cache(maxsize=2)
def _table(path: str) -> np.ndarray:
  """NYU40's id of each of ScanNet's labels [n], -1 where there is none."""
  try:
    with open(path, encoding="utf-8", newline="") as file:
      pairs = [
        (int(row["id"]), int(row["nyu40id"] or 0))
        for row in csv.DictReader(file, delimiter="\t")
      ]
  except (OSError, KeyError, ValueError, TypeError) as error:
    raise UserError(
      f"scannet: {path} can't be read ({error}); labels need it, beside the"
      " scenes"
    ) from error
  found = np.full(max(id for id, _ in pairs) + 1, -1, np.int32)
  found[0] = 0
  for own, nyu in pairs:
    found[own] = nyu if nyu <= 40 else 0
  return found


DATA = data_sets.DataSet(
  "scannet",
  download="ScanNet frames (SensReader, or scannet_frames_25k), scan-net.org,"
  " on its terms",
  layout="scene0000_00/color/0.jpg with depth/0.png, label-filt/0.png and"
  " intrinsic/intrinsic_color.txt (of the 25k: label/000000.png and"
  " intrinsics_color.txt); beside the scenes"
  " scannetv2-labels.combined.tsv, scannetv2_train.txt and scannetv2_val.txt",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
