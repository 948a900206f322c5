"""Source "hypersim": Hypersim, rendered rooms with exact depth and classes.

`depth_meters` is the distance to the camera's centre, along the ray; it becomes
planar with the scene's own projection (`M_cam_from_uv_*`), for in scenes with a
tilted lens the usual focal length of 886.81 pixels is 2 % wrong on average. The
image is tone mapped as Apple's script does it, or is its preview where the
colours are not downloaded. `semantic` are NYU40's
classes, -1 is ignored. Frames and splits are those of the published CSV.
"""

import csv
import dataclasses
import functools
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax.data import data_sets, folders, hdf5, picture_files
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists

FRAMES = "metadata_images_split_scene_v1.csv"
CAMERAS = "metadata_camera_parameters.csv"
# Of the root, and where the repository ml-hypersim has them.
PLACES = ("", "contrib/mikeroberts3000", "evermotion_dataset/analysis")
SPLITS = {"train": "train", "val": "validation", "test": "test"}
GAMMA, PERCENTILE, BRIGHTNESS = 1 / 2.2, 90, 0.8
DARKEST = 1e-4  # of that percentile, below which the image stays black
# Of config.maps, what suits this data.
MAPS = {"segmentation": {"classes": "nyu40"}}


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies, and how much of it."""

  root: str = ""  # folder of ai_001_001 and the other scenes, and of the CSVs
  partial: bool = False  # leave out frames whose scene is not downloaded


def samples(root: Path, own: Config) -> list[Listed]:
  """Every frame of the public release, with the split that it is in."""
  if not any(root.glob("ai_*")) and not (root / FRAMES).is_file():
    return []
  cameras = _metadata(root, CAMERAS)
  matrices, beside = _matrices(cameras), str(cameras.relative_to(root))
  columns = ("scene_name", "camera_name", "frame_id")
  columns += ("included_in_public_release", "split_partition_name")
  there: dict[str, bool] = {}
  found = []
  for line, row in _rows(_metadata(root, FRAMES), columns):
    included = row["included_in_public_release"].strip().lower()
    if included and included != "true":
      continue
    scene, camera = row["scene_name"], row["camera_name"]
    known = there.setdefault(scene, (root / scene / "images").is_dir())
    if own.partial and not known:
      continue
    if problem := _problem(row, matrices):
      name = f"{FRAMES}:{line}"
      found.append(Listed(name, "", problem=f"hypersim: {name}: {problem}"))
      continue
    split = SPLITS[row["split_partition_name"]]
    frame = int(row["frame_id"])
    one = _frame(root, scene, camera, frame, split, matrices[scene])
    found.append(dataclasses.replace(one, beside=(*one.beside, beside)))
  return found


def _problem(row, matrices) -> str:
  """What is wrong with a row of a frame, "" for a right one."""
  if row["scene_name"] not in matrices:
    return f"scene {row['scene_name']} is not in {CAMERAS}"
  if not row["frame_id"].isdecimal():
    return f"frame_id is {row['frame_id']!r}, no number"
  if row["split_partition_name"] not in SPLITS:
    return (
      f"split_partition_name is {row['split_partition_name']!r}; allowed:"
      f" {', '.join(SPLITS)}"
    )
  return ""


def _frame(root, scene, camera, frame, split, matrix) -> Listed:
  images = f"{scene}/images/scene_{camera}"
  name = f"frame.{frame:04d}"
  geometry = f"{images}_geometry_hdf5/{name}"
  colour = f"{images}_final_hdf5/{name}.color.hdf5"
  preview = f"{images}_final_preview/{name}.tonemap.jpg"
  read, beside = _tone_mapped, (f"{geometry}.render_entity_id.hdf5",)
  if not (root / colour).is_file() and (root / preview).is_file():
    colour, read, beside = preview, None, ()
  planar = functools.partial(_planar, matrix=matrix)
  maps = {"depth": MapPath(f"{geometry}.depth_meters.hdf5", read=planar)}
  if (root / f"{geometry}.semantic.hdf5").is_file():
    maps["segmentation"] = MapPath(
      f"{geometry}.semantic.hdf5", names=_names(), read=_classes
    )
  return Listed(
    f"{scene}/{camera}/{frame:04d}",
    colour,
    maps,
    split=split,
    group=scene,
    read=read,
    beside=beside,
  )


@functools.cache
def _names() -> tuple[str, ...]:
  return class_lists.read("nyu40").names


def _metadata(root: Path, name: str) -> Path:
  for place in PLACES:
    if (root / place / name).is_file():
      return root / place / name
  raise UserError(
    f"hypersim: {root} has no {name}; copy it there from"
    f" github.com/apple/ml-hypersim ({' or '.join(PLACES[1:])})"
  )


def _rows(path: Path, columns):
  """(line, row) of a CSV file that must have the columns."""
  with (
    folders.reading(f"hypersim: {path}"),
    path.open(encoding="utf-8-sig", newline="") as file,
  ):
    reader = csv.DictReader(file)
    for column in columns:
      if column not in (reader.fieldnames or ()):
        raise UserError(f"hypersim: {path} has no column {column!r}")
    for row in reader:
      # What a short line lacks is no value that a column can have.
      yield reader.line_num, {k: v or "" for k, v in row.items() if k}


def _matrices(path: Path) -> dict[str, tuple[float, ...]]:
  """M_cam_from_uv, row by row, of each scene."""
  columns = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
  found = {}
  for line, row in _rows(path, ("scene_name", *columns)):
    try:
      found[row["scene_name"]] = tuple(float(row[name]) for name in columns)
    except ValueError as error:
      raise UserError(f"hypersim: {path}:{line}: {error}") from error
  return found


@functools.lru_cache(maxsize=8)
def cosines(matrix: tuple[float, ...], height: int, width: int) -> np.ndarray:
  """Planar depth by distance along the ray, f32 [height, width].

  Rays are M_cam_from_uv (u, v, 1), u from -1 to 1 to the right and v upwards,
  at the centres of pixels; the camera looks along -z.
  """
  u = -1 + 2 * (np.arange(width) + 0.5) / width
  v = 1 - 2 * (np.arange(height) + 0.5) / height
  uv1 = np.stack([*np.meshgrid(u, v), np.ones((height, width))], -1)
  rays = uv1 @ np.reshape(matrix, (3, 3)).T
  return (-rays[..., 2] / np.linalg.norm(rays, axis=-1)).astype(np.float32)


def _planar(file, *, matrix) -> np.ndarray:
  distance = hdf5.array(file.path, file.said)
  if distance.ndim != 2 or distance.dtype.kind != "f":
    raise UserError(
      f"{file.said} is {distance.dtype}{list(distance.shape)}; distances are"
      " floats [height, width]"
    )
  return distance.astype(np.float32) * cosines(matrix, *distance.shape)


def _classes(file) -> np.ndarray:
  ids = hdf5.array(file.path, file.said)
  if (ids <= 0).all():  # its depth is as good as any
    raise folders.EmptyMap(f"{file.said} has no labelled pixel")
  return ids


def _tone_mapped(path: str, where: str) -> Image.Image:
  """8-bit RGB of the radiance; entities tell which pixels are of the scene."""
  colour = hdf5.array(path, where).astype(np.float32)
  folder, name = path.rsplit("/", 1)
  entities = hdf5.array(
    f"{folder.removesuffix('_final_hdf5')}_geometry_hdf5/"
    f"{name.replace('.color.', '.render_entity_id.')}",
    where,
  )
  if colour.ndim != 3 or colour.shape[:2] != entities.shape:
    raise UserError(
      f"{where}: {picture_files.shown(name)} is {list(colour.shape)}, its"
      f" render_entity_id {list(entities.shape)}"
    )
  return Image.fromarray(tone_map(colour, entities != -1))


def tone_map(colour: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """u8 RGB [height, width, 3] of linear colours, as Apple's script does it.

  The 90th percentile of the brightness of valid pixels becomes .8. NaN is
  black: one would make the percentile, and so every pixel, NaN.
  """
  colour = np.nan_to_num(colour)
  scale = 1.0
  if valid.any():
    bright = (colour @ np.array([0.3, 0.59, 0.11]))[valid]
    high = float(np.percentile(bright, PERCENTILE))
    scale = 0.0 if high < DARKEST else BRIGHTNESS ** (1 / GAMMA) / high
  shown = np.power(np.maximum(scale * colour, 0), GAMMA)
  return np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8)


DATA = data_sets.DataSet(
  "hypersim",
  download="Hypersim, github.com/apple/ml-hypersim, CC BY-SA 3.0, and its two"
  f" tables {FRAMES} and {CAMERAS}",
  layout="ai_001_001/images/scene_cam_00_final_hdf5/frame.0000.color.hdf5 with"
  " scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5,"
  " .render_entity_id.hdf5 and .semantic.hdf5",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
