"""Source "diode": DIODE, laser depth indoors and outdoors.

`*_depth.npy` are metres f32 [h, w, 1], `*_depth_mask.npy` is 1 where they are
measured. Outdoors reach 300 m: set maps.depth.farthest. The official validation
is the test here; DIODE has no public test.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import data_sets, folders, numpy_files
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError

SPLITS = {"train": "train", "val": "test"}
_DEPTH, _MASK = "_depth.npy", "_depth_mask.npy"
# Of config.maps, what suits this data.
MAPS = {"depth": {"nearest": 0.5, "farthest": 300.0}}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies."""

  root: str = ""  # folder of train and val
  part: str = ""  # "indoors" or "outdoor" alone; "" = both

  def __post_init__(self):
    if self.part not in ("", "indoors", "outdoor"):
      raise UserError(f"part is {self.part!r}; allowed: indoors, outdoor, ''")


def samples(root: Path, own: Config) -> list[Listed]:
  """Every picture that has depth."""
  found = []
  for path in folders.files(root, _DEPTH):
    parts = path.split("/")
    if own.part and own.part not in parts:
      continue
    stem = path.removesuffix(_DEPTH)
    mask = f"{stem}{_MASK}"
    read = functools.partial(_masked, mask_path=str(root / mask))
    found.append(
      Listed(
        stem,
        f"{stem}.png",
        {"depth": MapPath(path, 1.0, read=read)},
        split=next((SPLITS[p] for p in parts if p in SPLITS), ""),
        group=next((p for p in parts if p.startswith("scene_")), ""),
        beside=(mask,),
      )
    )
  return found


def _masked(file, *, mask_path: str) -> np.ndarray:
  """Metres [h, w], 0 where the mask says that nothing was measured."""
  metres = file.numpy(axes=2, wanted="metres are floats [h, w, 1]")
  mask = numpy_files.array(mask_path, file.where, "mask")
  if mask.shape[:2] != metres.shape:
    raise UserError(
      f"{file.said} is {list(metres.shape)}, its mask {list(mask.shape)}"
    )
  return np.where(mask.reshape(metres.shape) > 0, metres, np.float32(0))


DATA = data_sets.DataSet(
  "diode",
  download="DIODE (train.tar.gz, val.tar.gz), diode-dataset.org, MIT",
  layout="train/indoors/scene_00000/scan_00000/00000_00000_indoors_000_000.png"
  " with ..._depth.npy and ..._depth_mask.npy (val and outdoor alike)",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
