"""Source "kitti": KITTI's annotated depth, sparse metres from a laser.

Depth is a 16-bit PNG of 256 units a metre, 0 = no reading; a fifth of the
pixels have one, a third of these beyond 20 m: set maps.depth.farthest=80 and
maps.depth.least_valid=0.1. Three layouts are read: the training set beside the
raw recordings, `val_selection_cropped`, and frames in `rgb/` and `depth/`. The
official validation is the test here, for that of the server has no depth.
"""

import dataclasses
import functools
import json
import re
from pathlib import Path

from cooper_jax.data import data_sets, folders
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError

SCALE = 256.0  # units a metre
DRIVE = re.compile(r"(\d{4}_\d{2}_\d{2})_drive_\d+_sync")
_DEPTH = "proj_depth/groundtruth/"
_CROPPED = "val_selection_cropped/groundtruth_depth/"
# Of config.maps, what suits this data.
MAPS = {"depth": {"nearest": 1.0, "farthest": 80.0, "least_valid": 0.1}}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies."""

  root: str = ""  # folder of train/, val/ and the raw recordings


def samples(root: Path, own: Config) -> list[Listed]:
  """Every frame that has depth."""
  del own
  depth = folders.files(root, ".png")
  there = set(depth)
  known = _intrinsics(root / "test_annotations.json")
  found = []
  for path in depth:
    if _DEPTH in path:
      found.append(_annotated(path, there, root))
    elif _CROPPED in path:
      found.append(_cropped(path, root))
    elif Path(path).parent.name == "depth":
      image = str(Path(path).parent.parent / "rgb" / Path(path).name)
      camera = known.get(Path(path).name, ())
      found.append(_listed(Path(path).stem, image, path, camera=camera))
  if any(one.split == "test" and one.group for one in found):
    # The selection is of the same frames.
    found = [one for one in found if one.split != "test" or one.group]
  return found


def _listed(name, image, path, **more) -> Listed:
  return Listed(name, image, {"depth": MapPath(path, SCALE)}, **more)


def _annotated(path: str, there: set[str], root: Path) -> Listed:
  """train/DRIVE/proj_depth/groundtruth/image_02/0000000005.png."""
  before, _, after = path.partition(_DEPTH)
  side, name = after.split("/")[-2:]
  drive = before.rstrip("/").split("/")[-1]
  match = DRIVE.fullmatch(drive)
  date = match[1] if match else ""
  beside = f"{before}{side}/data/{name}"
  raw = (f"{date}/{drive}/{side}/data/{name}",)
  choices = (beside, *raw, *(f"raw/{each}" for each in raw))
  image = next((each for each in choices if each in there), choices[1])
  camera, problem = folders.tried(_calibrated, root, image, side)
  return _listed(
    f"{drive}/{side}/{Path(name).stem}",
    image,
    path,
    split="test" if "val" in before.split("/") else "train",
    group=drive,
    camera=camera,
    problem=problem,
  )


def _cropped(path: str, root: Path) -> Listed:
  """depth_selection/val_selection_cropped/groundtruth_depth/....png."""
  folder = path.partition("groundtruth_depth/")[0]
  name = Path(path).name.replace("groundtruth_depth", "image")
  intrinsics = root / folder / "intrinsics" / f"{Path(name).stem}.txt"
  camera, problem = folders.tried(_cropped_camera, intrinsics)
  return _listed(
    f"val_selection_cropped/{Path(name).stem}",
    f"{folder}image/{name}",
    path,
    split="test",
    camera=camera,
    problem=problem,
  )


def _cropped_camera(path: Path) -> tuple[float, ...]:
  """Of the nine numbers of a picture's intrinsics; () without the file."""
  if not path.is_file():
    return ()
  k = folders.numbers(path, "kitti", 9)
  return folders.pinhole(k[0], k[4], k[2], k[5])


def _calibrated(root: Path, image: str, side: str) -> tuple[float, ...]:
  """Of the recordings' calib_cam_to_cam.txt, () where it is not there."""
  day = Path(image).parents[3] if len(Path(image).parents) > 3 else Path()
  return _rectified(root / day / "calib_cam_to_cam.txt", side)


@functools.lru_cache(maxsize=64)
def _rectified(path: Path, side: str) -> tuple[float, ...]:
  if path.is_file():
    for line in path.read_text(errors="replace").splitlines():
      if line.startswith(f"P_rect_{side[-2:]}:"):
        with folders.reading(f"kitti: {path}"):
          p = [float(each) for each in line.split()[1:]]
          return folders.pinhole(p[0], p[5], p[2], p[6])
  return ()


def _intrinsics(path: Path) -> dict[str, tuple[float, ...]]:
  """By file name, of a list of frames with `cam_in`."""
  if not path.is_file():
    return {}
  try:
    listed = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {
      Path(each["depth"]).name: folders.pinhole(*map(float, each["cam_in"]))
      for each in listed
      if "cam_in" in each
    }
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise UserError(
      f'kitti: {path} can\'t be read: it should be {{"files": [{{"depth": PATH,'
      f' "cam_in": [fx, fy, cx, cy]}}, ...]}} ({error!r})'
    ) from error


DATA = data_sets.DataSet(
  "kitti",
  download="KITTI's annotated depth maps (data_depth_annotated.zip) and raw"
  " recordings, cvlibs.net/datasets/kitti, CC BY-NC-SA 3.0",
  layout="train/DRIVE_sync/proj_depth/groundtruth/image_02/0000000005.png with"
  " DATE/DRIVE_sync/image_02/data/0000000005.png, or"
  " depth_selection/val_selection_cropped/{image,groundtruth_depth}/, or rgb/"
  " and depth/ with the same names",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
