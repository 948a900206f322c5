"""Source "arkitscenes": ARKitScenes, rooms seen by a tablet with a laser.

Depth is a 16-bit PNG of millimetres: of the 3dod and raw parts 256x192
(`lowres_depth`, with `confidence` of 0 to 2), of the upsampling part 1920x1440
(`highres_depth`, of a fixed scanner, beside `wide`). The official validation is
the test here.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import data_sets, folders, picture_files
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError

SPLITS = {"Training": "train", "Validation": "test"}
# Folder of depth -> folders of the pictures that it belongs to.
KINDS = {
  "highres_depth": ("wide",),
  "lowres_depth": ("lowres_wide", "vga_wide"),
}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies, and which readings count."""

  root: str = ""  # folder of raw, 3dod or upsampling
  confidence: int = 0  # least confidence of a reading of lowres_depth, 0 to 2

  def __post_init__(self):
    if self.confidence not in (0, 1, 2):
      raise UserError(f"confidence is {self.confidence}; allowed: 0, 1, 2")


def samples(root: Path, own: Config) -> list[Listed]:
  """Every picture that has depth of the same moment; the finest where two."""
  there = set(folders.files(root, ".png"))
  chosen: dict[str, Listed] = {}
  for path in sorted(there, key=lambda p: ("highres" not in p, p)):
    parts = path.split("/")
    kind = parts[-2] if len(parts) > 1 else ""
    if kind not in KINDS:
      continue
    before = "".join(f"{part}/" for part in parts[:-2])
    name, stem = parts[-1], parts[-1].removesuffix(".png")
    images = [f"{before}{folder}/{name}" for folder in KINDS[kind]]
    image = next((each for each in images if each in there), "")
    if not image:
      continue  # depth was taken more often than pictures
    depth, beside = MapPath(path, 1000.0), ()
    if own.confidence and kind == "lowres_depth":
      beside = (f"{before}confidence/{name}",)
      sure = str(root / beside[0])
      read = functools.partial(_trusted, sure=sure, least=own.confidence)
      depth = MapPath(path, 1000.0, read=read)
    folder = image.split("/")[-2]
    pincam = root / f"{before}{folder}_intrinsics/{stem}.pincam"
    camera, problem = folders.tried(_camera, pincam)
    video = stem.partition("_")[0]
    chosen.setdefault(
      f"{video}/{stem}",
      Listed(
        f"{video}/{stem}",
        image,
        {"depth": depth},
        split=next((SPLITS[p] for p in parts if p in SPLITS), ""),
        group=video,
        camera=camera,
        problem=problem,
        beside=beside,
      ),
    )
  return sorted(chosen.values(), key=lambda one: one.id)


def _camera(path: Path) -> tuple[float, ...]:
  """Of "width height fx fy cx cy"; () where it is not there."""
  if not path.is_file():
    return ()
  return folders.pinhole(*folders.numbers(path, "arkitscenes", 6)[2:])


def _trusted(file, *, sure: str, least: int) -> np.ndarray:
  """Millimetres, 0 where the sensor is less sure, by the picture `sure`."""
  depth = file.pixels(
    lambda mode: mode.startswith("I"), wanted="depth is a 16-bit PNG"
  )
  with picture_files.opened(sure, file.where, "confidence") as picture:
    levels = np.asarray(picture)
  if levels.shape != depth.shape:
    raise UserError(
      f"{file.said} is {list(depth.shape)}, its confidence {list(levels.shape)}"
    )
  return np.where(levels >= least, depth, 0)


DATA = data_sets.DataSet(
  "arkitscenes",
  download="ARKitScenes (raw, 3dod or upsampling),"
  " github.com/apple/ARKitScenes, CC BY-NC-SA 4.0",
  layout="raw/Training/41069021/lowres_wide/41069021_305.377.png with"
  " lowres_depth/, confidence/ and lowres_wide_intrinsics/*.pincam of the same"
  " names, or upsampling/Training/41069021/wide/ with highres_depth/",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
