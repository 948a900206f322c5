"""Depth: planar distance in metres along the optical axis, 0 = no reading.

Coded in the logarithm, so that one step of the code book is the same share
of the distance near and far, with a second channel that says where there is
a reading at all: holes of a real sensor then cost nothing. Its range are
settings: rooms end at 20 m, streets at 80.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.modalities import colour_codes, depth_files, depth_pictures
from cooper_jax.modalities.depth_files import overview, summarize  # noqa: F401
from cooper_jax.modalities.depth_pictures import (  # noqa: F401
  panels,
  scale,
  scales,
)
from cooper_jax.modalities.valid_share import valid_share

MODALITY_ID = 0
TITLE = "Depth"
CALL = "measure the depth"
HEADLINE = (
  "abs_rel",
  "Depth error",
  "Drawn depth is off by {v} on average",
)
SCALED = True  # a JSONL line may say "depth_scale"
CHANNELS = 6  # log depth in [-1, 1], validity, and its waves (see `to_input`)
OUTPUTS = 4  # log depth of two layers, which of them (logit), validity logit


@dataclasses.dataclass(frozen=True)
class Config:
  """Range of depth, and what a reward needs of a true map."""

  # Nearest depth that is drawn, metres; what is nearer is drawn there.
  nearest: float = 0.2
  # Farthest depth that is drawn, metres; what is farther is drawn there.
  farthest: float = 20.0
  # Share of its pixels, padding aside, with a reading that a true map needs to
  # earn a reward. KITTI has a fifth.
  least_valid: float = 0.5

  @property
  def span(self) -> float:
    """The range in natural logarithms."""
    return float(np.log(self.farthest / self.nearest))


DEFAULT = Config()
NEAREST, FARTHEST = DEFAULT.nearest, DEFAULT.farthest

WAVES = (4.0, 8.0)  # half turns over [0, 1]; 8 is one wave per level of 8
EDGE_WEIGHT = 0.1  # of the difference to the next pixel, against the value
VALID_WEIGHT = 0.05  # of the validity cross-entropy
HUBER = 0.02  # relative error below which the loss is a parabola
STEEPEST = 1.5  # log ratio from which the loss grows no steeper
UNDER_SLOPE = 0.2  # slope that is left far below the truth

# Quality: what scores nothing, and what is too flat to have been drawn.
WORST_ABS_REL = 0.6
FLAT = 0.02  # standard deviation of the logarithm


def check(config: Config) -> None:
  """UserError for a range that is none, or no share."""
  low, high = config.nearest, config.farthest
  if not (0 < low < high and math.isfinite(high) and high / low >= 1.1):
    raise UserError(
      f"nearest={low:g} and farthest={high:g}: allowed are metres above 0, the"
      " farthest at least a tenth beyond the nearest"
    )
  if high >= depth_files.FAR:
    raise UserError(
      f"farthest={high:g}: allowed is less than {depth_files.FAR} m"
    )
  if not 0 <= config.least_valid <= 1:
    raise UserError(f"least_valid={config.least_valid:g}: allowed are 0 to 1")


def facts(config: Config = DEFAULT) -> dict[str, float]:
  """The range that is drawn, metres."""
  return {"nearest": config.nearest, "farthest": config.farthest}


def read_file(file, config: Config = DEFAULT) -> np.ndarray:
  """Planar metres f32 [h, w], 0 = no reading; of .npy, PNG or TIFF.

  `file.scale` is units a metre; without it integers are millimetres and floats
  are metres.
  """
  return convert(depth_files.read(file), file, config)


def convert(raw, file, config: Config = DEFAULT) -> np.ndarray:
  """Planar metres f32 [h, w] of the numbers of a file, as `read_file` says."""
  assumed = (config.nearest, config.farthest)
  return depth_files.to_metres(
    raw, file.scale, file.said, assumed, certain=file.certain
  )


def check_files(files, *, strict: bool, config: Config = DEFAULT) -> None:
  """UserError where the files of a data set are not of one likely scale."""
  assumed = (config.nearest, config.farthest)
  depth_files.check(files, strict=strict, assumed=assumed)


def describe(target) -> tuple[str, dict[str, float]]:
  """How many pixels of a map [h, w] have a reading, and their metres."""
  have = np.asarray(target)[np.asarray(target) > 0].astype(np.float64)
  if not have.size:
    return "depth", {"valid": 0}
  metres = {
    name: round(float(of(have)), 6)
    for name, of in (
      ("min", np.min),
      ("median", np.median),
      ("mean", np.mean),
      ("max", np.max),
    )
  }
  return "depth", {"valid": int(have.size), **metres}


def to_log(depth, config: Config = DEFAULT):
  """Metres -> [-1, 1]."""
  bounded = jnp.clip(depth, config.nearest, config.farthest)
  return 2.0 * jnp.log(bounded / config.nearest) / config.span - 1.0


def from_log(value, config: Config = DEFAULT):
  """[-1, 1] -> metres, the inverse of `to_log`."""
  share = (jnp.clip(value, -1.0, 1.0) + 1.0) / 2.0
  return config.nearest * jnp.exp(share * config.span)


def to_input(target_BHW, config: Config = DEFAULT):
  """Log depth, validity, and two sine-cosine pairs of the log depth.

  A code's first coordinate can only hold the depth coarsely; what is left
  over is a sawtooth, which an encoder finds in the waves at once and hardly
  ever in the plain value.
  """
  valid_BHW = (target_BHW > 0).astype(jnp.float32)
  log_BHW = to_log(target_BHW, config) * valid_BHW
  waves = [
    function(jnp.pi * turns * log_BHW) * valid_BHW
    for turns in WAVES
    for function in (jnp.sin, jnp.cos)
  ]
  return jnp.stack([log_BHW, valid_BHW, *waves], axis=-1)


def loss(outputs_BHWO, target_BHW, config: Config = DEFAULT):
  """(sum, weight) of relative error, difference at edges, and validity."""
  valid_BHW = (target_BHW > 0).astype(jnp.float32)
  true_BHW = to_log(target_BHW, config)
  miss_BHW = (_drawn(outputs_BHWO) - true_BHW) * valid_BHW
  miss_BHW = miss_BHW * config.span / 2  # natural logarithm of drawn / true
  value = jnp.sum(_huber(_relative(miss_BHW)))
  down_BHW = (miss_BHW[:, 1:] - miss_BHW[:, :-1]) * (
    valid_BHW[:, 1:] * valid_BHW[:, :-1]
  )
  right_BHW = (miss_BHW[:, :, 1:] - miss_BHW[:, :, :-1]) * (
    valid_BHW[:, :, 1:] * valid_BHW[:, :, :-1]
  )
  edges = jnp.sum(_huber(down_BHW)) + jnp.sum(_huber(right_BHW))
  logit_BHW = outputs_BHWO[..., 3]
  validity = jnp.sum(jax.nn.softplus(logit_BHW) - valid_BHW * logit_BHW)
  total = value + EDGE_WEIGHT * edges + VALID_WEIGHT * validity
  return total, jnp.asarray(valid_BHW.size, jnp.float32)


def _relative(miss):
  """|drawn - true| / true of a log ratio, made fit for a gradient.

  Far for near costs e^m - 1 and near for far only 1 - e^m: at an edge that
  can't be placed exactly it is right to draw the nearer side. The first is
  continued as a line from `STEEPEST` on, the second never quite levels out.
  """
  over = jnp.clip(miss, 0.0, STEEPEST)
  beyond = jnp.maximum(miss - STEEPEST, 0.0) * jnp.exp(STEEPEST)
  under = jnp.minimum(miss, 0.0)
  return jnp.expm1(over) + beyond - jnp.expm1(under) - UNDER_SLOPE * under


def _huber(miss):
  size = jnp.abs(miss)
  return jnp.where(size < HUBER, size**2 / (2 * HUBER), size - HUBER / 2)


def _drawn(outputs_BHWO):
  """Log depth: two smooth layers and a mask make an edge of any sharpness.

  One channel would have to jump from pixel to pixel, which a small decoder
  draws as a slope.
  """
  one_BHW, other_BHW = outputs_BHWO[..., 0], outputs_BHWO[..., 1]
  share_BHW = jax.nn.sigmoid(outputs_BHWO[..., 2])
  return one_BHW + share_BHW * (other_BHW - one_BHW)


def from_output(outputs_BHWO, config: Config = DEFAULT):
  depth_BHW = from_log(_drawn(outputs_BHWO), config)
  return jnp.where(outputs_BHWO[..., 3] > 0, depth_BHW, 0.0)


def to_colours(target_BHW, config: Config = DEFAULT):
  """Log depth as grey pictures; no reading is drawn as the farthest."""
  log_BHW = to_log(target_BHW, config)
  return colour_codes.grey(jnp.where(target_BHW > 0, log_BHW, 1.0))


def from_colours(pictures_BHWC, config: Config = DEFAULT):
  """Metres of such pictures: everywhere is a reading."""
  return from_log(colour_codes.from_grey(pictures_BHWC), config)


def abs_rel(prediction, target) -> float:
  """Mean of |prediction - target| / target, of depths [n] in metres."""
  return float(np.mean(np.abs(prediction - target) / target))


def delta(prediction, target, *, power: int = 1) -> float:
  """Share of ratios [n] (the larger over the smaller) under 1.25^power."""
  floor = np.maximum(prediction, 1e-12)
  ratio = np.maximum(floor / target, target / floor)
  return float(np.mean(ratio < 1.25**power))


def rmse(prediction, target) -> float:
  """Root of the mean squared error of depths [n], metres."""
  return float(np.sqrt(np.mean((prediction - target) ** 2)))


def statistics(prediction_BHW, target_BHW, objects_BHW=None):
  """Sums over images of per-image errors; no alignment, metric claim.

  A pixel drawn as "no reading" where there is one counts as depth 0, an
  error of 100 %. `objects_BHW` marks the pixels of objects, pooled over
  images because some images show very few.
  """
  prediction_BHW = np.asarray(prediction_BHW, np.float64)
  target_BHW = np.asarray(target_BHW, np.float64)
  names = ("images", "abs_rel", "delta1", "rmse")
  sums = dict.fromkeys(
    (*names, "object_pixels", "object_abs_rel", "object_delta1"), 0.0
  )
  for index, (prediction, target) in enumerate(zip(prediction_BHW, target_BHW)):
    valid = target > 0
    if not valid.any():
      continue
    drawn, true = prediction[valid], target[valid]
    sums["images"] += 1
    sums["abs_rel"] += abs_rel(drawn, true)
    sums["delta1"] += delta(drawn, true)
    sums["rmse"] += rmse(drawn, true)
    if objects_BHW is None:
      continue
    chosen = valid & (np.asarray(objects_BHW[index]) > 0)
    count = float(chosen.sum())
    if count:
      drawn, true = prediction[chosen], target[chosen]
      sums["object_pixels"] += count
      sums["object_abs_rel"] += count * abs_rel(drawn, true)
      sums["object_delta1"] += count * delta(drawn, true)
  return {name: np.float64(value) for name, value in sums.items()}


def metrics(stats) -> dict[str, float]:
  """Means over images with readings; of objects' pixels the `object_` ones."""
  images = float(stats["images"]) or math.nan
  result = {
    name: float(stats[name]) / images for name in ("abs_rel", "delta1", "rmse")
  }
  pixels = float(stats["object_pixels"])
  if pixels:
    for name in ("object_abs_rel", "object_delta1"):
      result[name] = float(stats[name]) / pixels
  return result


def constant(targets, config: Config = DEFAULT) -> np.ndarray:
  """The one map that has the least AbsRel against all targets, f32[H,W].

  |p - g| / g is least, pixel by pixel, at the median weighted by 1 / g.
  """
  targets = np.asarray(targets, np.float64)
  weight = np.where(targets > 0, 1.0 / np.maximum(targets, config.nearest), 0.0)
  order = np.argsort(targets, axis=0)
  reached = np.cumsum(np.take_along_axis(weight, order, axis=0), axis=0)
  middle = np.argmax(reached >= reached[-1:] / 2, axis=0)[None]
  chosen = np.take_along_axis(order, middle, axis=0)
  return np.take_along_axis(targets, chosen, axis=0)[0].astype(np.float32)


def quality(prediction, target, config: Config = DEFAULT) -> float:
  """How good one drawn map is, in [0, 1], in metres: nothing is aligned.

  A reward that forgives the scale lets it drift: thirty steps of GRPO on a
  median-aligned one took the drawn maps' AbsRel from .38 to 1.7.
  Half delta1, half AbsRel counted down from `WORST_ABS_REL`; a flat map
  scores 0; NaN where less than `least_valid` of the target, padding aside, has
  a reading or where it is flat, so that nothing could have been told.
  """
  prediction = np.asarray(prediction, np.float64)
  target = np.asarray(target, np.float64)
  valid = target > 0
  share = valid_share(valid)
  if not share or share < config.least_valid:
    return float("nan")
  if np.std(np.log(target[valid])) < FLAT:
    return float("nan")
  drawn = valid & (prediction > 0)
  if not drawn.any() or np.std(np.log(prediction[drawn])) < FLAT:
    return 0.0
  error = 1.0 - abs_rel(prediction[valid], target[valid]) / WORST_ABS_REL
  return 0.5 * delta(prediction[valid], target[valid]) + 0.5 * max(0.0, error)


def picture(target) -> np.ndarray:
  """Near is bright, far is dark, no reading is grey; u8[H,W,3]."""
  return depth_pictures.depth_picture(target)


def move(target, instances, steps) -> np.ndarray:
  """The map f32 [H, W] with every instance at 10^(steps / 24) of its distance.

  target: metres [H, W]; instances: ids [H, W]; steps: int [n], by id.
  """
  factor = 10.0 ** (np.asarray(steps, np.float32) / 24)
  return (target * factor[instances]).astype(np.float32)


def corrupt(target, rng, config: Config = DEFAULT) -> np.ndarray:
  """A wrong map f32 [H, W] that looks like one.

  Mirrored, near for far, or off by a factor of about two.
  """
  target = np.asarray(target, np.float32)
  valid = target > 0
  kind = rng.integers(3)
  if kind == 0 and not np.allclose(target, target[:, ::-1], rtol=0.05):
    return target[:, ::-1].copy()
  if kind == 1 and valid.any() and np.ptp(np.log(target[valid])) > 5 * FLAT:
    product = target[valid].min() * target[valid].max()
    turned = product / np.maximum(target, config.nearest)
    return np.where(valid, turned, 0.0).astype(np.float32)
  factor = np.exp(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 0.9))
  wrong = np.clip(target * factor, config.nearest, config.farthest)
  return np.where(valid, wrong, 0.0).astype(np.float32)
