"""Settings of the embedded world, and the fingerprint that identifies it.

A scene is a function of (config, split, index) alone. `fingerprint` names that
function: caches are keyed by it, so a cache of another world is never read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator

from cooper_jax import plugins
from cooper_jax.errors import UserError, nearest

WORLD_VERSION = "scenes-4"  # raise it whenever the output for a config changes

SURFACES = ("floor", "wall", "ceiling")
SHAPES = (
  "box",
  "ball",
  "can",
  "cone",
  "dome",
  "pillar",
  "disc",
  "plank",
  "table",
  "shelf",
)
# Segmentation ids. A shape is its own class; a coarser world would only change
# SHAPE_CLASS.
CLASSES = ("background", *SURFACES, *SHAPES)
SHAPE_CLASS = tuple(CLASSES.index(shape) for shape in SHAPES)
COLOURS = (
  "red",
  "orange",
  "yellow",
  "green",
  "cyan",
  "blue",
  "purple",
  "pink",
)
SPLITS = ("train", "validation", "test", "heldout")
MAX_OBJECTS = 6
SEED_LIMIT = 1 << 61  # a seed is below it: with the split it is a key

# One shape per colour that train, validation and test never show, and that
# every scene of the held-out split shows (the CoGenT design of CLEVR).
HELD_OUT = (
  ("red", "can"),
  ("orange", "pillar"),
  ("yellow", "table"),
  ("green", "ball"),
  ("cyan", "dome"),
  ("blue", "plank"),
  ("purple", "box"),
  ("pink", "cone"),
)


# Settings of how a scene is seen, with what they may be. A model can be asked
# in a world where only these differ from its own. Cameras stay below ceilings.
VIEWS = {
  "field_of_view": (20.0, 100.0),
  "camera_height": (0.3, 2.5),
  "object_size": (0.5, 1.5),
}


# Settings that came to a world, as it was without them: they don't rename it.
_CAME = {"object_size": 1.0, "derive": (), "near_misses": False}
DERIVED_VERSION = 2  # of what `derive` adds to a world; counted where it does


@dataclasses.dataclass(frozen=True)
class WorldConfig:
  """Settings of the embedded world; lengths in metres, angles in degrees."""

  image_size: int = 64
  seed: int = 0  # random seed of the scenes
  min_objects: int = 2  # objects in a scene, at least
  max_objects: int = MAX_OBJECTS  # objects in a scene, at most
  max_questions: int = 12  # questions per scene, at most one of each family
  pixels_to_name: int = 25  # of a 64 x 64 image; fewer visible: not asked about
  held_out: tuple[tuple[str, str], ...] = HELD_OUT
  near: float = 0.42  # objects' distance
  far: float = 12.0
  # Lenses: degrees that an image is wide, from and to.
  field_of_view: tuple[float, float] = (44.0, 72.0)
  # Heights of the camera in metres, from and to.
  camera_height: tuple[float, float] = (0.9, 2.2)
  object_size: float = 1.0  # factor of the objects' sizes
  # Question families whose traces derive the answer in steps; () = none.
  derive: tuple[str, ...] = ()
  # Whether things of another colour or shape alone stand beside the counted,
  # and as often beside what is there as what is not.
  near_misses: bool = False
  pitch: tuple[float, float] = (-6.0, 24.0)  # positive looks down
  roll: float = 5.0
  # False leaves the image grey: maps, questions and answers without shading.
  shaded: bool = True

  def __post_init__(self):
    if self.image_size < 16:
      raise UserError(
        f"image_size is {self.image_size} pixels, the world draws 16 or more;"
        " set config.data.image_size"
      )
    if not 0 <= self.seed < SEED_LIMIT:
      raise UserError(f"seed is {self.seed}; allowed: 0 to {SEED_LIMIT - 1}")
    if not 1 <= self.min_objects <= self.max_objects <= MAX_OBJECTS:
      raise UserError(
        f"objects {self.min_objects}..{self.max_objects} must lie within"
        f" 1..{MAX_OBJECTS}; set min_objects and max_objects of config.world"
      )
    for name, (least, most) in VIEWS.items():
      value = getattr(self, name)
      ends = value if isinstance(value, (tuple, list)) else (value, value)
      if len(ends) != 2 or not least <= ends[0] <= ends[1] <= most:
        raise UserError(
          f"{name} is {value}; allowed: from {least:g} to {most:g}, the lower"
          " number first"
        )
    object.__setattr__(self, "derive", _deriving(self.derive))
    pairs = tuple(tuple(pair) for pair in self.held_out)
    object.__setattr__(self, "held_out", pairs)
    for colour, shape in pairs:
      if colour not in COLOURS or shape not in SHAPES:
        raise UserError(
          f"held_out names {colour} {shape}; colours: {', '.join(COLOURS)};"
          f" shapes: {', '.join(SHAPES)}"
        )

  def fingerprint(self) -> str:
    """Names the world: its version and a hash of every setting.

    Of families of questions that were added, their files count too.
    """
    settings = dataclasses.asdict(self)
    for name, value in _CAME.items():
      if settings[name] == value:
        del settings[name]
    if self.derive:
      settings["derived_version"] = DERIVED_VERSION
    settings = json.dumps(settings, sort_keys=True)
    settings += "".join(_added_families())
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    return f"{WORLD_VERSION}-{digest}"


def _deriving(named) -> tuple[str, ...]:
  """The families of `derive`, each once; UserError for one that can't."""
  named = tuple(sorted({*named}))
  if not named:
    return ()
  every = plugins.names("families")
  able = [n for n in every if hasattr(plugins.find("families", n), "derive")]
  for name in named:
    if name not in able:
      raise UserError(
        f'derive names "{name}"; families whose traces can derive:'
        f" {', '.join(able)}{nearest(name, able)}"
      )
  return named


def _added_families() -> Iterator[str]:
  """The files of families that WORLD_VERSION does not speak of."""
  for name in plugins.names("families"):
    family = plugins.find("families", name)
    if not hasattr(family, "ALLOTTED"):
      yield f"{name}\n{pathlib.Path(family.__file__).read_text('utf-8')}"
