"""Depth errors of one image, in every alignment that papers report.

A figure means nothing without its alignment: `none` claims metres, `median`
forgives the scale, `lstsq` scale and shift (Marigold), `mad` both by robust
statistics (MiDaS), `disparity` both in 1 / depth (Depth Anything). Metrics are
taken per image over valid pixels, then averaged over images.
"""

import numpy as np

from cooper_jax.errors import UserError, nearest
from cooper_jax.modalities import depth

_LEAST = 1e-6  # metres, after clipping: nothing divides by zero
LEAST_MAD = 1e-3
FARTHEST_DISPARITY = 80.0  # metres


def _none(prediction, target):
  del target
  return prediction


def _median(prediction, target):
  return prediction * (np.median(target) / np.median(prediction))


def _lstsq(prediction, target):
  scale, shift = fit(prediction, target)
  return scale * prediction + shift


def _mad(prediction, target):
  middle, spread = _middle_and_spread(prediction)
  true_middle, true_spread = _middle_and_spread(target)
  aligned = (prediction - middle) / spread * true_spread + true_middle
  return np.maximum(aligned, LEAST_MAD)


def _middle_and_spread(values):
  middle = np.median(values)
  return middle, max(float(np.mean(np.abs(values - middle))), _LEAST)


def _disparity(prediction, target):
  inverse = 1.0 / np.maximum(prediction, _LEAST)
  scale, shift = fit(inverse, 1.0 / target)
  return 1.0 / np.maximum(scale * inverse + shift, 1.0 / FARTHEST_DISPARITY)


# alignment -> function(prediction[n], target[n]) over valid pixels
ALIGNMENTS = {
  "none": _none,
  "median": _median,
  "lstsq": _lstsq,
  "mad": _mad,
  "disparity": _disparity,
}


def fit(prediction, target) -> tuple[float, float]:
  """(scale, shift) with the least squared error against the target.

  Of scale * prediction + shift, never the other way round; both [n] pixels.
  """
  matrix = np.stack([prediction, np.ones_like(prediction)], axis=-1)
  (scale, shift), *_ = np.linalg.lstsq(matrix, target, rcond=None)
  return float(scale), float(shift)


def errors(prediction, target) -> dict[str, float]:
  """All errors of matching positive depths [n], metres.

  Deltas are strict (< 1.25^k); `silog` is 100 times the deviation of the log
  ratio (KITTI).
  """
  ratio = np.log(prediction) - np.log(target)
  miss = prediction - target
  return {
    "abs_rel": depth.abs_rel(prediction, target),
    "sq_rel": float(np.mean(miss**2 / target)),
    "rmse": depth.rmse(prediction, target),
    **{
      f"delta{power}": depth.delta(prediction, target, power=power)
      for power in (1, 2, 3)
    },
    "rmse_log": float(np.sqrt(np.mean(ratio**2))),
    "log10": float(np.mean(np.abs(ratio))) / float(np.log(10.0)),
    "silog": 100.0 * float(np.std(ratio)),
  }


def image_errors(
  prediction, target, *, valid=None, align="none", bounds=None
) -> dict[str, float]:
  """Errors of one drawn map [H,W] against the truth, both in metres.

  `valid` (default: where the truth has a reading) chooses pixels; `bounds` =
  (nearest, farthest) clips the aligned prediction as Marigold does. Raises
  UserError on an unknown alignment or when no pixel is valid.
  """
  if align not in ALIGNMENTS:
    raise UserError(
      f"depth alignment is {align!r}, allowed: {', '.join(ALIGNMENTS)}"
      f"{nearest(align, ALIGNMENTS)}"
    )
  prediction = np.asarray(prediction, np.float64)
  target = np.asarray(target, np.float64)
  chosen = target > 0
  if valid is not None:
    chosen = chosen & np.asarray(valid, bool)
  if not chosen.any():
    raise UserError(
      "depth map has no valid pixel to compare; leave such images out"
    )
  drawn, true = prediction[chosen], target[chosen]
  aligned = ALIGNMENTS[align](drawn, true)
  if bounds is not None:
    aligned = np.clip(aligned, *bounds)
  return errors(np.maximum(aligned, _LEAST), true)


def mean_errors(per_image) -> dict[str, float]:
  """The mean over images of what `image_errors` gave for each."""
  per_image = list(per_image)
  return {
    name: float(np.mean([each[name] for each in per_image]))
    for name in per_image[0]
  }
