"""Segmentation: the class of every pixel; of 255 classes at most 255 = ignore.

Drawn as class logits with cross-entropy, not as palette colours: measured
4 points of mIoU better for the same tokenizer. The classes are those of a list
(`class_lists.py`), by default the embedded world's; data of other classes
names its own with `config.maps.segmentation.classes`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.modalities import class_ids, class_lists, colour_codes
from cooper_jax.modalities.valid_share import valid_share

GREY = (128, 128, 128)  # of ignored pixels
BACKGROUND = "background"  # of the world's list


@dataclasses.dataclass(frozen=True)
class Config:
  """Which classes there are, and what a reward needs of a true map."""

  # Class list: world | ade20k | nyu40 | vkitti, or a text file, a name a line.
  classes: str = class_lists.WORLD
  # Lines of that list: noted when a run begins, not to be set; () = those of
  # the world.
  names: tuple[str, ...] = ()
  # Share of its pixels, padding aside, with a class that a true map needs to
  # earn a reward.
  least_valid: float = 0.5


DEFAULT = Config()


@functools.cache
def listed(config: Config = DEFAULT) -> class_lists.ClassList:
  """The classes of some settings; what is noted goes before the file."""
  if config.names:
    return class_lists.checked(config.names)
  return class_lists.read(config.classes)


# Order = id. The embedded world uses the same list (a test compares them).
CLASSES = listed().names
ROOM = 4  # of these, ids below are background and room surfaces
IGNORE = 255  # of lists that have at most 255 classes

MODALITY_ID = 1
TITLE = "Segmentation"
NOUN = "classes"
CALL = "find the objects"
HEADLINE = (
  "miou",
  "Segmentation IoU",
  "Drawn classes reach a mean IoU of {v}",
)
CHANNELS = len(CLASSES)  # one-hot
OUTPUTS = len(CLASSES)  # logits

# Object pixels are few and carry the answers: they count more in the loss.
OBJECT_WEIGHT = 2.0
# Share of the tokenizer's training maps that show one object alone, as the
# model will be asked to draw; no other modality needs this.
MARKS = 0.15

PALETTE = np.array(
  [
    (0, 0, 0), (140, 110, 80), (205, 205, 190), (110, 150, 180),
    (230, 60, 50), (60, 180, 75), (255, 205, 40), (50, 100, 225),
    (245, 130, 48), (145, 40, 180), (70, 235, 235), (240, 50, 230),
    (130, 220, 60), (250, 175, 190),
  ],
  np.uint8,
)  # fmt: skip


def check(config: Config) -> None:
  """UserError for a list that can't be read, or no share."""
  listed(config)
  if not 0 <= config.least_valid <= 1:
    raise UserError(f"least_valid={config.least_valid:g}: allowed are 0 to 1")


def noted(settings, *, begins: bool = False) -> dict[str, Any]:
  """The lines of the list that settings name; the world's own go without.

  begins: whether a run begins, of which nothing can have been noted before.
  Raises UserError where the list can't be read, or is not what was noted.
  """
  before = tuple(settings["names"])
  if before and not begins:  # of a run or a package; its file may be gone
    return {"names": before}
  lines = class_lists.read(settings["classes"]).lines
  if before not in ((), lines):
    raise UserError(
      f"names is set, and is not what classes={settings['classes']} lists; it"
      " is noted, not set: write the names to a text file, a name a line, and"
      " set config.maps.segmentation.classes=FILE"
    )
  if lines == class_lists.read(class_lists.WORLD).lines:
    return {"classes": class_lists.WORLD, "names": ()}
  return {"names": lines}


def renumber(names, config: Config = DEFAULT) -> np.ndarray | None:
  """The id of each of some names [n], "ignore" of those that say nothing.

  None where they are the list's own and none is ignored.
  Raises UserError that says which names the list has not.
  """
  classes = listed(config)
  known = classes.names
  missing = [name for name in names if name not in known]
  if missing:
    raise UserError(
      f"config.maps.segmentation.classes={config.classes} has no"
      f" {', '.join(missing[:6])}{', ...' * (len(missing) > 6)}, which these"
      " maps show; name a list that has all classes, the world's too where"
      " config.data.source reads it"
    )
  ids = np.array([known.index(name) for name in names])
  ids = np.where(classes.ignored[ids], classes.ignore, ids)
  same = np.array_equal(ids, np.arange(len(names)))
  return None if same else ids.astype(classes.dtype)


def sizes(config: Config = DEFAULT) -> tuple[int, int]:
  """Channels of the one-hot input, and logits."""
  return len(listed(config)), len(listed(config))


def fill(config: Config = DEFAULT) -> int:
  """What a pixel outside the picture is: ignored."""
  return listed(config).ignore


def absent(config: Config = DEFAULT) -> int:
  """What a pixel is where a map shows one object alone: background.

  Of a list without one the first class that is drawn and does not count, else
  ignored: never a class that counts, which the map would claim to be there.
  """
  classes = listed(config)
  drawn = np.flatnonzero(~classes.counted & ~classes.ignored)
  if BACKGROUND in classes.names:
    found = classes.names.index(BACKGROUND)
    return classes.ignore if classes.ignored[found] else found
  return int(drawn[0]) if drawn.size else classes.ignore


def facts(config: Config = DEFAULT) -> dict[str, int]:
  """How many classes there are, how many the mean IoU is over, and if 0 is."""
  classes = listed(config)
  return {
    "classes": len(classes),
    "classes_counted": int(classes.counted.sum()),
    "class_0_counted": int(classes.counted[0]),
  }


def palette(config: Config = DEFAULT) -> np.ndarray:
  """A colour of each class, u8 [n, 3]."""
  classes = listed(config)
  own = classes.names == CLASSES
  return PALETTE if own else class_lists.palette(len(classes))


def read_file(file, config: Config = DEFAULT) -> np.ndarray:
  """Class ids [h, w] of an 8-bit PNG, TIFF or BMP, 16-bit if ids need it."""
  ids = class_ids.numbers(file, listed(config))
  return convert(ids, file, config)


def convert(ids, file, config: Config = DEFAULT) -> np.ndarray:
  """Class ids [h, w] of the numbers of a file; below 0 = ignore.

  Where `file.names` says what its ids are, they become those of the list.
  """
  try:
    table = renumber(file.names, config) if file.names else None
  except UserError as error:
    raise UserError(f"{file.said}: {error}") from error
  return class_ids.convert(ids, file, table, listed(config), config.classes)


def summarize(target, config: Config = DEFAULT) -> np.ndarray:
  """Pixels of each class and of "ignore" [n + 1]."""
  known = len(listed(config))
  return np.bincount(np.minimum(target.ravel(), known), minlength=known + 1)


def describe(target, config: Config = DEFAULT) -> tuple[str, dict[str, int]]:
  """Pixels of each class that a map [h, w] shows, by name.

  Ignored pixels go by the name of the one class that is read so, if it is one.
  """
  classes = listed(config)
  read_so = [n for n, out in zip(classes.names, classes.ignored) if out]
  ignored = read_so[0] if len(read_so) == 1 else "ignore"
  pixels = summarize(target, config)
  found = {
    classes.names[i]: int(pixels[i]) for i in np.flatnonzero(pixels[:-1])
  }
  return NOUN, found | ({ignored: int(pixels[-1])} if pixels[-1] else {})


def overview(
  found, config: Config = DEFAULT
) -> tuple[str, dict[str, float], str]:
  """Share of the pixels by class name, most frequent first."""
  names = (*listed(config).names, "ignore")
  totals = sum(found, np.zeros(len(names), np.int64))
  order = sorted(np.flatnonzero(totals), key=lambda i: -totals[i])
  shares = {
    names[int(i)]: round(float(totals[i] / totals.sum()), 4) for i in order
  }
  words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
  return NOUN, shares, words


def to_input(target_BHW, config: Config = DEFAULT):
  """One-hot; an ignored pixel is all zeros."""
  return jax.nn.one_hot(target_BHW, len(listed(config)), dtype=jnp.float32)


def loss(outputs_BHWO, target_BHW, config: Config = DEFAULT):
  """(sum, weight) of the cross-entropy; object pixels count more."""
  classes = listed(config)
  target_BHW = target_BHW.astype(jnp.int32)
  known_BHW = target_BHW != classes.ignore
  log_prob_BHWO = jax.nn.log_softmax(outputs_BHWO.astype(jnp.float32))
  one_hot_BHWO = jax.nn.one_hot(target_BHW, len(classes), dtype=jnp.float32)
  surprise_BHW = -jnp.sum(one_hot_BHWO * log_prob_BHWO, axis=-1)
  objects = jnp.asarray(np.append(classes.objects, False))
  object_BHW = objects[jnp.minimum(target_BHW, len(classes))]
  weight_BHW = jnp.where(object_BHW, OBJECT_WEIGHT, 1.0) * known_BHW
  return jnp.sum(surprise_BHW * weight_BHW), jnp.sum(weight_BHW)


def from_output(outputs_BHWO, config: Config = DEFAULT):
  return jnp.argmax(outputs_BHWO, axis=-1).astype(listed(config).dtype)


def to_colours(target_BHW, config: Config = DEFAULT):
  """Pictures in colours far apart, one a class."""
  return colour_codes.of_ids(target_BHW, len(listed(config)))


def from_colours(pictures_BHWC, config: Config = DEFAULT):
  """The class whose colour is nearest."""
  ids_BHW = colour_codes.nearest(pictures_BHWC, len(listed(config)))
  return ids_BHW.astype(listed(config).dtype)


def confusion(
  prediction, target, *, classes: int = 0, config: Config = DEFAULT
):
  """Pixel counts [true class, drawn class]; ignored pixels are left out.

  classes: how many there are; 0 = as many as the list has.
  """
  classes = classes or len(listed(config))
  prediction, target = np.asarray(prediction), np.asarray(target)
  known = target != listed(config).ignore
  pairs = target[known].astype(np.int64) * classes + prediction[known]
  return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def iou(matrix) -> np.ndarray:
  """Intersection over union of each class of a confusion matrix [n, n].

  NaN where a class is in neither.
  """
  matrix = np.asarray(matrix, np.float64)
  union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
  return np.where(union > 0, np.diag(matrix) / np.maximum(union, 1), np.nan)


def statistics(
  prediction_BHW, target_BHW, objects_BHW=None, config: Config = DEFAULT
):
  """One confusion matrix, to be summed over the whole data set."""
  del objects_BHW
  return {"confusion": confusion(prediction_BHW, target_BHW, config=config)}


def metrics(stats, config: Config = DEFAULT) -> dict[str, float]:
  """Mean IoU over the classes that the truth shows and that count.

  Never the mean of per-image values: `stats` has one matrix [n, n] for all.
  A pixel of a class that does not count, the world's background, still counts
  against the class that it is drawn as.
  """
  classes = listed(config)
  matrix = np.asarray(stats["confusion"])
  each = iou(matrix)
  shown = np.flatnonzero(matrix.sum(1))
  shown = shown[classes.counted[shown]]
  result = {
    "miou": float(np.mean(each[shown])) if shown.size else float("nan"),
    "accuracy": float(np.trace(matrix) / (matrix.sum() or np.nan)),
  }
  for name, members in (
    ("object_miou", shown[classes.objects[shown]]),
    ("room_miou", shown[classes.room[shown]]),
  ):
    if members.size:
      result[name] = float(np.mean(each[members]))
  for index in shown:
    result[f"iou/{classes.names[index]}"] = float(each[index])
  return result


def constant(targets, config: Config = DEFAULT) -> np.ndarray:
  """The most frequent class of every pixel, [H,W]."""
  targets, classes = np.asarray(targets), listed(config)
  best = np.zeros(targets.shape[1:], classes.dtype)
  most = np.zeros(targets.shape[1:], np.int64)
  for index in range(len(classes)):  # all counts at once would fill the memory
    count = (targets == index).sum(0)
    best = np.where(count > most, index, best).astype(classes.dtype)
    most = np.maximum(count, most)
  return best


def quality(prediction, target, config: Config = DEFAULT) -> float:
  """Mean IoU of one drawn map over the classes its truth shows, in [0, 1].

  A map of a single class scores 0; NaN where the truth itself is one class
  or less than `least_valid` of it, padding aside, is labelled.
  """
  prediction, target = np.asarray(prediction), np.asarray(target)
  known = target != listed(config).ignore
  if valid_share(known) < config.least_valid:
    return float("nan")
  if np.unique(target[known]).size < 2:
    return float("nan")
  if np.unique(prediction).size < 2:
    return 0.0
  matrix = confusion(prediction, target, config=config)
  return metrics({"confusion": matrix}, config)["miou"]


def picture(target, config: Config = DEFAULT) -> np.ndarray:
  """Class ids as palette colours; ignored pixels are grey; u8[H,W,3]."""
  colours, ids_HW = palette(config), np.asarray(target).astype(np.int64)
  picture_HWC = colours[ids_HW % len(colours)].copy()
  picture_HWC[ids_HW == listed(config).ignore] = GREY
  return picture_HWC


def panels(true, drawn, config: Config = DEFAULT):
  """The true and the drawn map, as captioned."""
  return [
    (f"{kind} {NOUN}", None if m is None else picture(m, config))
    for kind, m in (("true", true), ("drawn", drawn))
  ]


def legend(maps, config: Config = DEFAULT) -> list[tuple[tuple[int, ...], str]]:
  """(colour, name) of the classes that some maps show, by id."""
  classes, colours = listed(config), palette(config)
  present = set().union(*(np.unique(m).tolist() for m in maps if m is not None))
  return [
    (
      tuple(int(part) for part in colours[i % len(colours)]),
      classes.names[i] if i < len(classes) else f"class {i}",
    )
    for i in sorted(present - {classes.ignore})
  ]


def corrupt(target, rng, config: Config = DEFAULT) -> np.ndarray:
  """A wrong map [H, W] that looks like one.

  Mirrored, or with the objects' classes exchanged for others.
  """
  classes = listed(config)
  target = np.asarray(target, classes.dtype)
  if rng.integers(2) and not np.array_equal(target, target[:, ::-1]):
    return target[:, ::-1].copy()
  known = np.minimum(target, len(classes))  # the last entry: ignore
  objects = np.flatnonzero(classes.objects)
  shift = rng.integers(1, max(2, objects.size))
  if objects.size > 1 and np.isin(target, objects).any():
    return class_ids.exchanged(classes, objects, shift)[known]
  # Each surface of the room for the next; where there are too few, any class.
  room = np.flatnonzero(classes.room)
  if room.size > 1:
    return class_ids.exchanged(classes, room, 1, others=room[0])[known]
  return class_ids.exchanged(classes, np.arange(len(classes)), 1)[known]
