"""Source "ade20k": ADE20K, classes of scenes.

SceneParsing-150: 8-bit PNG, 0 = other (ignored), 1 to 150. The full set: the
class is R // 10 * 256 + G of `*_seg.png`, one of 3,688, of which the table
`mapFromADE.txt` of the sceneparsing toolkit makes the 150; without it the set
is refused. Run with maps.segmentation.classes=ade20k. The official validation
is the test here, for that of the server has no labels.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import colour_maps, data_sets, folders
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists

SPLITS = {"training": "train", "validation": "test"}
_FULL = "_seg.png"
# Of config.maps, what suits this data.
MAPS = {"segmentation": {"classes": "ade20k"}}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies, and the table of the full set."""

  root: str = ""  # folder of images/ and annotations/, or of the full set
  # The toolkit's convertFromADE/mapFromADE.txt, for the full set; "" = none.
  table: str = ""


def samples(root: Path, own: Config) -> list[Listed]:
  """Every image that has labels, of either form."""
  names = class_lists.read("ade20k").names
  found = []
  for part, split in SPLITS.items():
    for name in folders.files(root / "annotations" / part, ".png"):
      stem = name.removesuffix(".png")
      each = MapPath(f"annotations/{part}/{name}", names=names)
      found.append(
        Listed(
          f"{part}/{stem}",
          f"images/{part}/{stem}.jpg",
          {"segmentation": each},
          split=split,
        )
      )
  full = folders.files(root, _FULL)
  if full and not own.table:
    raise UserError(
      f"ade20k: {root} holds the full set, of 3,688 classes; name the toolkit's"
      " table of the 150: --config.data.settings.ade20k.table="
      "convertFromADE/mapFromADE.txt (github.com/CSAILVision/sceneparsing)"
    )
  if full:
    _table(own.table)  # refused before any sample is read
  for path in full:
    parts = path.split("/")
    split = next((SPLITS[part] for part in parts if part in SPLITS), "train")
    stem = path.removesuffix(_FULL)
    read = functools.partial(_full, table=own.table)
    maps = {"segmentation": MapPath(path, names=names, read=read)}
    found.append(Listed(stem, f"{stem}.jpg", maps, split=split))
  return found


def _full(file, *, table: str) -> np.ndarray:
  """Of the 150 classes, of a picture of the full set's."""
  rgb = colour_maps.colours(file).astype(np.int32)
  own = rgb[..., 0] // 10 * 256 + rgb[..., 1]
  return _table(table)[own]


@functools.lru_cache(maxsize=2)
def _table(path: str) -> np.ndarray:
  """The class of 150 of each class of the full set [n], 0 = none of them.

  A line is "class of 150, class of the full set"; several of the full set may
  be one.
  """
  found = np.zeros(26 * 256, np.int32)
  try:
    pairs = np.loadtxt(Path(path).expanduser(), np.int64, ndmin=2)
    if pairs.shape[1] != 2 or pairs.min() < 1 or pairs[:, 0].max() > 150:
      raise ValueError("a line is two numbers, the first from 1 to 150")
    found[pairs[:, 1]] = pairs[:, 0]
  except (OSError, ValueError, IndexError) as error:
    raise UserError(
      f"config.data.settings.ade20k.table={path} can't be read: {error}"
    ) from error
  return found


DATA = data_sets.DataSet(
  "ade20k",
  download="ADEChallengeData2016.zip (SceneParsing-150) or the full ADE20K,"
  " ade20k.csail.mit.edu, BSD-3",
  layout="images/training/ADE_train_00000001.jpg with"
  " annotations/training/ADE_train_00000001.png (validation/ alike), or the"
  " full set's images/ADE/training/.../ADE_train_00000001.jpg with"
  " ..._00000001_seg.png",
  samples=samples,
  tables=("table",),
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
