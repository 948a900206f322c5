"""Source "vkitti": Virtual KITTI 2, rendered streets.

Depth is a 16-bit PNG of centimetres, 65535 is sky (no reading); classes are
colours of an RGB PNG, which `colors.txt` names. Run with
maps.segmentation.classes=vkitti and maps.depth.farthest=80. A scene with all
its weathers is in one split.
"""

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np

from cooper_jax.data import colour_maps, data_sets, folders
from cooper_jax.data.folders import Listed, MapPath
from cooper_jax.errors import UserError

# Of config.maps, what suits this data.
MAPS = {
  "depth": {"nearest": 1.0, "farthest": 80.0},
  "segmentation": {"classes": "vkitti"},
}
UNDEFINED = (("Undefined", (0, 0, 0)),)  # where colors.txt does not name it
CAMERA = folders.pinhole(725.0087, 725.0087, 620.5, 187.0)  # of every frame
_RGB = re.compile(
  r"(?P<top>[^/]+/)?(?P<scene>Scene\d+)/(?P<way>[^/]+)/frames/rgb/"
  r"(?P<camera>Camera_\d)/rgb_(?P<frame>\d+)\.jpg"
)


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the data set lies."""

  root: str = ""  # folder of Scene01, or of vkitti_2.0.3_rgb and its like


def samples(root: Path, own: Config) -> list[Listed]:
  """Every picture, with the maps that are unpacked."""
  del own
  depth = _beside(root, "depth_", "depth")
  classes = _beside(root, "classgt_", "classSegmentation")
  found = []
  for path in folders.files(root, ".jpg"):
    match = _RGB.fullmatch(path)
    if not match:
      continue
    scene, way, camera, frame = match.group("scene", "way", "camera", "frame")
    key = (scene, way, camera, frame)
    maps, beside, problem = {}, (), ""
    if key in depth:
      maps["depth"] = MapPath(depth[key], 100.0)
    if key in classes:
      named, problem = folders.tried(_named, root, scene, way)
      if named:
        lines, colors = named
        maps["segmentation"] = MapPath(
          classes[key],
          names=tuple(name for name, _ in colors),
          read=functools.partial(_classes, colors=colors),
        )
        beside = (str(lines.relative_to(root)),)
    found.append(
      Listed(
        f"{scene}/{way}/{camera}/{frame}",
        path,
        maps,
        group=scene,
        camera=CAMERA,
        beside=beside,
        problem=problem,
      )
    )
  return found


def _beside(root: Path, prefix: str, folder: str) -> dict[tuple, str]:
  """(scene, weather, camera, frame) -> path, of one kind of map."""
  found = {}
  for path in folders.files(root, ".png"):
    parts = path.split("/")
    if len(parts) > 5 and parts[-3] == folder and parts[-1].startswith(prefix):
      frame = parts[-1][len(prefix) : -len(".png")]
      found[parts[-6], parts[-5], parts[-2], frame] = path
  return found


def _named(root: Path, scene: str, way: str):
  """(the colors.txt of a scene, its names and colours)."""
  lines = _lines(root, scene, way)
  return lines, colour_maps.named(lines, UNDEFINED)


@functools.lru_cache(maxsize=256)
def _lines(root: Path, scene: str, way: str) -> Path:
  """The colors.txt of a scene, whose lines are "Car 255 127 80"."""
  places = [
    folder / scene / way / "colors.txt"
    for folder in (root, *sorted(root.glob("vkitti*")))
  ]
  path = next((p for p in (*places, root / "colors.txt") if p.is_file()), None)
  if path is None:
    raise UserError(
      f"vkitti: {scene}/{way} has classes and no colors.txt to name them;"
      " unpack vkitti_2.0.3_textgt.tar.gz beside them"
    )
  return path


def _classes(file, *, colors) -> np.ndarray:
  """Ids by place in the list of colours."""
  return colour_maps.ids(colour_maps.colours(file), colors, file.said)


DATA = data_sets.DataSet(
  "vkitti",
  download="Virtual KITTI 2 (rgb, depth, classSegmentation and textgt tars),"
  " europe.naverlabs.com/proxy-virtual-worlds-vkitti-2, CC BY-NC-SA 3.0",
  layout="Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg with"
  " .../depth/Camera_0/depth_00000.png,"
  " .../classSegmentation/Camera_0/classgt_00000.png and"
  " Scene01/clone/colors.txt, of each tar in its own folder or all in one",
  samples=samples,
)
asked, check, source, survey = DATA.asked, DATA.check, DATA.source, DATA.survey
