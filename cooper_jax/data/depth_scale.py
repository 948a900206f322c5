"""Units of a depth file: how many make a metre, stated by a line or usual.

Files of integers hold millimetres (NYU, ScanNet), 256 units a metre (KITTI) or
5,000 (TUM), and nothing in the file tells which. What is not said is therefore
taken for millimetres only where the distances are then those of a picture.
"""

from collections.abc import Sequence

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.modalities.depth import FARTHEST, NEAREST

USUAL = 1000.0  # of integers; floats are metres
# Metres, centimetres, KITTI, millimetres, Matterport3D, TUM, tenths of mm.
SCALES = (1, 100, 256, 1000, 4000, 5000, 10_000)
# Where the median of a picture may lie, metres: where the scale is stated, or
# floats say metres; where millimetres are assumed; and over several pictures.
STATED = (0.05, 100.0)
ASSUMED = (NEAREST, FARTHEST)
TOGETHER = (1.2, 10.0)
FAR = 65_504  # the greatest half float; as a length, a mark for sky or nothing
_ENOUGH = 1 << 16  # readings that a median is taken from


def readings(raw: np.ndarray) -> np.ndarray:
  """Which pixels have a reading, bool [H, W].

  Not 0, negative, NaN or infinite, nor the marks for "nothing": the greatest
  value of an integer type, 65,535 where nothing is above it, and 65.535 where
  another program took that for millimetres.
  """
  if raw.dtype.kind in "iu":
    top = int(raw.max(initial=0))
    marks = {np.iinfo(raw.dtype).max, 65_535}
    return (raw > 0) & (raw != top if top in marks else True)
  with np.errstate(invalid="ignore"):
    valid = np.isfinite(raw) & (raw > 0) & (raw < FAR)
  return valid & (raw.astype(np.float32) != np.float32(65.535))


def to_metres(raw: np.ndarray, scale: float | None, said: str) -> np.ndarray:
  """Metres f32 [H, W], 0 = no reading, of numbers of `scale` units a metre.

  `said` begins the message: UserError where nothing was read, or where the
  median can't be that of a picture, with the scales that would fit.
  """
  valid = readings(raw)
  if not valid.any():
    raise UserError(f"{said} has no reading; leave the map out of its line")
  typical = median(raw, valid)
  integer = raw.dtype.kind in "iu"
  used = scale or (USUAL if integer else 1.0)
  low, high = ASSUMED if integer and not scale else STATED
  if not low <= typical / used <= high:
    raise UserError(f"{said} {unlikely(typical, used)}")
  metres = raw.astype(np.float32) / np.float32(used)
  return np.where(valid, metres, np.float32(0))


def median(raw: np.ndarray, valid: np.ndarray) -> float:
  """The median reading, of a part of them where there are many."""
  found = raw[valid]
  return float(np.median(found[:: max(1, found.size // _ENOUGH)]))


def check_together(typical: Sequence[tuple[float, str]]) -> None:
  """UserError where millimetres, assumed, are not those of most pictures.

  `typical` are medians of files of integers whose scale nobody says, and what
  names each file. One close-up is no proof; a KITTI frame of a room would have
  its walls at a metre.
  """
  middle, said = sorted(typical)[len(typical) // 2]
  low, high = TOGETHER
  if not low <= middle / USUAL <= high:
    raise UserError(f"{said} {unlikely(middle, USUAL)}, 1000 if it is that")


def unlikely(typical: float, used: float) -> str:
  """The median that was found, and the scales that would make it a room's."""
  low, high = TOGETHER
  fits = [
    f"{scale:,} ({typical / scale:.3g} m)".replace(",", "")
    for scale in SCALES
    if low <= typical / scale <= high and scale != used
  ]
  mend = (
    f"of the usual scales {', '.join(fits)} would fit"
    if fits
    else ("no usual scale fits")
  )
  return (
    f"has a median of {typical / used:.4g} m at {used:g} units a metre; {mend};"
    ' write the right one on the line as "depth_scale"'
  )
