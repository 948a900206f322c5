r"""Q-Spatial's metric: a length is right within a factor of 2 of the truth.

max(p / g, g / p) < 2 (strict), both in centimetres with 1e-8 added, as the
official code; an unknown unit makes the length 0 and so fails. The official
parser reads `\scalar{..} \distance_unit{..}` and is given here beside our own
reader, because the published figures rest on it.
"""

import re

import numpy as np

CENTIMETRES = {
  "meters": 100.0,
  "meter": 100.0,
  "m": 100.0,
  "metre": 100.0,
  "metres": 100.0,
  "centimeters": 1.0,
  "centimeter": 1.0,
  "cm": 1.0,
  "feet": 30.48,
  "foot": 30.48,
  "ft": 30.48,
  "inch": 2.54,
  "inches": 2.54,
  "in": 2.54,
  "mm": 0.1,
}
_EPS = 1e-8


def centimetres(value: float, unit: str) -> float:
  """A length in centimetres; 0 where the unit is unknown."""
  return value * CENTIMETRES.get(unit.strip().lower(), 0.0)


def parse(response: str) -> float:
  r"""The official reading in cm: last `\scalar{}`, last `\distance_unit{}`.

  All numbers inside the scalar are averaged, so "1,200" is 100.5, as there.
  """
  scalars = re.findall(r"\\scalar{([^}]*)}", response)
  units = re.findall(r"\\distance_unit{([^}]*)}", response)
  if not scalars or not units:
    return _EPS
  numbers = re.findall(r"\d+\.?\d*|\.\d+", scalars[-1])
  if not numbers:
    return _EPS
  return centimetres(float(np.mean([float(n) for n in numbers])), units[-1])


def ratio(prediction: float | None, target: float) -> float:
  """max(p / g, g / p) of two lengths in the same unit, inf where unread."""
  if prediction is None or not np.isfinite(prediction) or prediction < 0:
    return float("inf")
  prediction, target = prediction + _EPS, target + _EPS
  if target <= 0:
    return float("inf")
  return max(prediction / target, target / prediction)


def within(
  prediction: float | None, target: float, factor: float = 2.0
) -> bool:
  """Whether a length is right within the factor (strict)."""
  return ratio(prediction, target) < factor


def best_constant(targets, factor: float = 2.0) -> tuple[float, float]:
  """(constant, share of the targets [n] within the factor of it)."""
  logs = np.sort(np.log(np.maximum(np.asarray(targets, np.float64), _EPS)))
  # A window of width 2 log(factor): its centre serves all that it holds.
  ends = np.searchsorted(logs, logs + 2 * np.log(factor), side="left")
  held = ends - np.arange(len(logs))
  best = int(np.argmax(held))
  centre = (logs[best] + logs[ends[best] - 1]) / 2
  return float(np.exp(centre)), float(held[best] / len(logs))
