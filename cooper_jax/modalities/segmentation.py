"""Segmentation: the class of every pixel, 0 = background, 255 = ignore.

Drawn as class logits with cross-entropy, not as palette colours: measured
4 points of mIoU better for the same tokenizer. The classes are those of the
embedded world; another data set sets its own names by editing `CLASSES`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError

# Order = id. The embedded world uses the same list (a test compares them).
CLASSES = (
  "background",
  "floor",
  "wall",
  "ceiling",
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
ROOM = 4  # ids below are background and room surfaces, above are objects
IGNORE = 255
GREY = (128, 128, 128)  # of ignored pixels

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
    (0, 0, 0),
    (140, 110, 80),
    (205, 205, 190),
    (110, 150, 180),
    (230, 60, 50),
    (60, 180, 75),
    (255, 205, 40),
    (50, 100, 225),
    (245, 130, 48),
    (145, 40, 180),
    (70, 235, 235),
    (240, 50, 230),
    (130, 220, 60),
    (250, 175, 190),
  ],
  np.uint8,
)


def read_file(file) -> np.ndarray:
  """Class ids u8 [h, w], of an 8-bit PNG, TIFF or BMP."""
  classes = file.pixels(
    lambda mode: mode in ("L", "P"),
    wanted="write an 8-bit grey or palette PNG whose values are class ids",
  )
  ids, known = np.unique(classes), len(CLASSES)
  strange = [int(i) for i in ids if i >= known and i != IGNORE]
  if strange:
    few = ", ".join(map(str, strange[:5])) + ", ..." * (len(strange) > 5)
    raise UserError(
      f"{file.said} has class ids above {known - 1} ({few}); map them"
      f" to the {known} of modalities/segmentation.py, or to"
      f" {IGNORE} (ignore)"
    )
  if ids.tolist() == [IGNORE]:
    raise UserError(
      f"{file.said} has no reading, all is {IGNORE} (ignore); leave"
      " the map out of its line"
    )
  return classes


def summarize(target) -> np.ndarray:
  """Pixels of each id [256]."""
  return np.bincount(target.ravel(), minlength=256)


def overview(found) -> tuple[str, dict[str, float], str]:
  """Share of the pixels by class name, most frequent first."""
  totals = sum(found, np.zeros(256, np.int64))
  names = {**dict(enumerate(CLASSES)), IGNORE: "ignore"}
  order = sorted(np.flatnonzero(totals), key=lambda i: -totals[i])
  shares = {
    names[int(i)]: round(float(totals[i] / totals.sum()), 4) for i in order
  }
  words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
  return NOUN, shares, words


def to_input(target_BHW):
  """One-hot; an ignored pixel is all zeros."""
  return jax.nn.one_hot(target_BHW, CHANNELS, dtype=jnp.float32)


def loss(outputs_BHWO, target_BHW):
  """(sum, weight) of the cross-entropy; object pixels count more."""
  target_BHW = target_BHW.astype(jnp.int32)
  known_BHW = target_BHW != IGNORE
  log_prob_BHWO = jax.nn.log_softmax(outputs_BHWO.astype(jnp.float32))
  one_hot_BHWO = jax.nn.one_hot(target_BHW, OUTPUTS, dtype=jnp.float32)
  surprise_BHW = -jnp.sum(one_hot_BHWO * log_prob_BHWO, axis=-1)
  weight_BHW = jnp.where(target_BHW >= ROOM, OBJECT_WEIGHT, 1.0) * known_BHW
  return jnp.sum(surprise_BHW * weight_BHW), jnp.sum(weight_BHW)


def from_output(outputs_BHWO):
  return jnp.argmax(outputs_BHWO, axis=-1).astype(jnp.uint8)


def confusion(prediction, target, *, classes: int = len(CLASSES)):
  """Pixel counts [true class, drawn class]; ignored pixels are left out."""
  prediction, target = np.asarray(prediction), np.asarray(target)
  known = target != IGNORE
  pairs = target[known].astype(np.int64) * classes + prediction[known]
  return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def iou(matrix) -> np.ndarray:
  """Intersection over union of each class of a confusion matrix [n, n].

  NaN where a class is in neither.
  """
  matrix = np.asarray(matrix, np.float64)
  union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
  return np.where(union > 0, np.diag(matrix) / np.maximum(union, 1), np.nan)


def statistics(prediction_BHW, target_BHW, objects_BHW=None):
  """One confusion matrix, to be summed over the whole data set."""
  del objects_BHW
  return {"confusion": confusion(prediction_BHW, target_BHW)}


def metrics(stats) -> dict[str, float]:
  """Mean IoU over the classes that the truth shows, background aside.

  Never the mean of per-image values: `stats` has one matrix [n, n] for all.
  A background pixel drawn as a class still counts against that class.
  """
  matrix = np.asarray(stats["confusion"])
  each = iou(matrix)
  shown = np.flatnonzero(matrix.sum(1))
  shown = shown[shown > 0]
  result = {
    "miou": float(np.mean(each[shown])) if shown.size else float("nan"),
    "accuracy": float(np.trace(matrix) / max(matrix.sum(), 1)),
  }
  for name, members in (
    ("object_miou", shown[shown >= ROOM]),
    ("room_miou", shown[shown < ROOM]),
  ):
    if members.size:
      result[name] = float(np.mean(each[members]))
  for index in shown:
    result[f"iou/{CLASSES[index]}"] = float(each[index])
  return result


def constant(targets) -> np.ndarray:
  """The most frequent class of every pixel, u8[H,W]."""
  targets = np.asarray(targets)
  counts = np.stack([(targets == index).sum(0) for index in range(CHANNELS)])
  return np.argmax(counts, axis=0).astype(np.uint8)


def quality(prediction, target) -> float:
  """Mean IoU of one drawn map over the classes its truth shows, in [0, 1].

  A map of a single class scores 0; NaN where the truth itself is one class
  or less than half of it is labelled.
  """
  prediction, target = np.asarray(prediction), np.asarray(target)
  known = target != IGNORE
  if known.mean() < 0.5 or np.unique(target[known]).size < 2:
    return float("nan")
  if np.unique(prediction).size < 2:
    return 0.0
  return metrics({"confusion": confusion(prediction, target)})["miou"]


def picture(target) -> np.ndarray:
  """Class ids as palette colours; 255 (ignore) is grey; u8[H,W,3]."""
  ids_HW = np.asarray(target).astype(np.int64)
  picture_HWC = PALETTE[ids_HW % len(PALETTE)].copy()
  picture_HWC[ids_HW == IGNORE] = GREY
  return picture_HWC


def legend(maps) -> list[tuple[tuple[int, ...], str]]:
  """(colour, name) of the classes that some maps show, by id."""
  present = set().union(*(np.unique(m).tolist() for m in maps if m is not None))
  return [
    (
      tuple(int(part) for part in PALETTE[i % len(PALETTE)]),
      CLASSES[i] if i < len(CLASSES) else f"class {i}",
    )
    for i in sorted(present - {IGNORE})
  ]


def corrupt(target, rng) -> np.ndarray:
  """A wrong map u8 [H, W] that looks like one.

  Mirrored, or with the objects' classes exchanged for others.
  """
  target = np.asarray(target, np.uint8)
  if rng.integers(2) and not np.array_equal(target, target[:, ::-1]):
    return target[:, ::-1].copy()
  shift = rng.integers(1, CHANNELS - ROOM)
  exchanged = ROOM + (target.astype(np.int64) - ROOM + shift) % (
    CHANNELS - ROOM
  )
  is_object = (target >= ROOM) & (target < CHANNELS)
  if is_object.any():
    return np.where(is_object, exchanged, target).astype(np.uint8)
  wrong = np.where(target == IGNORE, target, target % (ROOM - 1) + 1)
  return wrong.astype(np.uint8)
