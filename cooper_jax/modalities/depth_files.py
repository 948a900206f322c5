"""Depth files: units a metre, as the line says or what is usual.

Files of integers hold millimetres (NYU, ScanNet), 256 units a metre (KITTI) or
5,000 (TUM), and nothing in the file tells which. What is not said is therefore
taken for millimetres only where the distances are then those of a picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cooper_jax.errors import UserError

USUAL = 1000.0  # of integers; floats are metres
# Metres, centimetres, KITTI, millimetres, Matterport3D, TUM, tenths of mm.
SCALES = (1, 100, 256, 1000, 4000, 5000, 10_000)
# Where the median of a picture may lie, metres: where the scale is stated, or
# floats say metres, the modality's range too; and over several pictures. Where
# millimetres are assumed, the range is that of the modality.
STATED = (0.05, 100.0)
TOGETHER = (1.2, 10.0)
FAR = 65_504  # the greatest half float; as a length, a mark for sky or nothing
MEDIAN_OF = 256  # readings of a map that the median of many maps is made of
_ENOUGH = 1 << 16  # readings that a median is taken from


def readings(raw: np.ndarray, used: float = 1.0) -> np.ndarray:
  """Which pixels have a reading, bool [H, W].

  Not 0, negative, NaN or infinite, nor the marks for "nothing": the greatest
  value of an integer type, 65,535 where nothing is above it, and of floats, of
  `used` units a metre, `FAR` metres and 65.535 where another program took that
  for millimetres.
  """
  if raw.dtype.kind in "iu":
    top = int(raw.max(initial=0))
    marks = {np.iinfo(raw.dtype).max, 65_535}
    return (raw > 0) & (raw != top if top in marks else True)
  with np.errstate(invalid="ignore", over="ignore"):
    metres = raw.astype(np.float32) / np.float32(used)
    valid = (metres > 0) & (metres < FAR)
  return valid & (metres != np.float32(65.535))


def to_metres(
  raw: np.ndarray,
  scale: float | None,
  said: str,
  assumed: tuple[float, float],
  *,
  certain: bool = False,
) -> np.ndarray:
  """Metres f32 [H, W], 0 = no reading, of numbers of `scale` units a metre.

  Millimetres are taken for granted where the median is in the range `assumed`,
  metres; what is `certain`, of a published data set, may be anywhere. `said`
  begins the message: UserError where nothing was read, or where
  the median can't be that of a picture, with the scales that would fit.
  """
  integer = raw.dtype.kind in "iu"
  used = scale or (USUAL if integer else 1.0)
  valid = readings(raw, used)
  if not valid.any():
    raise UserError(f"{said} has no reading; leave the map out of its line")
  typical = median(raw, valid)
  low, high = assumed
  if scale or not integer:
    low, high = min(STATED[0], low), max(STATED[1], high)
  if not certain and not low <= typical / used <= high:
    raise UserError(f"{said} {unlikely(typical, used)}")
  metres = raw.astype(np.float32) / np.float32(used)
  return np.where(valid, metres, np.float32(0))


def median(raw: np.ndarray, valid: np.ndarray) -> float:
  """The median reading of a map [H, W], of a part of them where many are."""
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


def check(files, *, strict: bool, assumed: tuple[float, float]) -> None:
  """Some depth files of a data set, before a run has spent time on it.

  Raises UserError for one that has no reading or can't be metres, if strict,
  and where those that name no scale are not of millimetres, all together.
  """
  typical = []
  for file in files:
    try:
      raw = read(file)
    except UserError:  # said where it is read, and may be left out there
      continue
    if strict:
      to_metres(raw, file.scale, file.said, assumed)
    valid = readings(raw)
    unsaid = raw.dtype.kind != "f" and file.scale is None
    if unsaid and valid.any():
      typical.append((median(raw, valid), file.said))
  if typical:
    check_together(typical)


def read(file) -> np.ndarray:
  """The numbers [h, w] of a depth file as they are stored, upright."""
  if file.is_numpy():
    return file.numpy(
      axes=2,
      kinds="fiu",
      wanted="write metres as a float array [height, width]",
    )
  return file.pixels(
    lambda mode: mode[0] in "IF",
    wanted="write a 16-bit grey PNG of millimetres or a .npy of metres",
  )


class Summary(NamedTuple):
  """Of one depth map: share of its pixels that have a reading, some of them."""

  share: float
  low: float
  high: float
  some: np.ndarray


def summarize(depth_HW: np.ndarray) -> Summary | None:
  """What an overview needs of a map; None where it has no reading."""
  have = depth_HW[depth_HW > 0]
  if not have.size:
    return None
  step = max(1, have.size // MEDIAN_OF)
  share = have.size / depth_HW.size
  return Summary(share, have.min(), have.max(), have[::step])


def overview(found: Sequence[Summary]) -> tuple[str, dict | None, str]:
  """Metres and the share of pixels with a reading, of many maps."""
  if not found:
    return "depth", None, ""
  d = {
    "min_m": round(float(min(each.low for each in found)), 3),
    "median_m": round(
      float(np.median(np.concatenate([each.some for each in found]))), 3
    ),
    "max_m": round(float(max(each.high for each in found)), 3),
    "readings": round(float(np.mean([each.share for each in found])), 3),
  }
  words = (
    f"{d['min_m']:g} to {d['max_m']:g} m, median {d['median_m']:g} m,"
    f" {d['readings']:.0%} of the pixels have a reading"
  )
  return "depth", d, words
