"""Numeric answers: right within a tolerance, and graded by MRA."""

import math


def correct(
  prediction: float | None, target: float, *, unit: str, tolerance: float
) -> bool:
  """Whether a number is right: lengths within a relative tolerance.

  A count (unit "") must be exact. The tolerance is relative to the target,
  the same on both sides.
  """
  if prediction is None or not math.isfinite(prediction):
    return False
  if not unit:
    return abs(prediction - target) < 1e-6
  # 1e-9: 1.1 for 1.0 stands on the bound of 10 %, not beyond it.
  return abs(prediction - target) <= tolerance * abs(target) + 1e-9
