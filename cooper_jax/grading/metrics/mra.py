"""Mean relative accuracy: the share of ten error bounds that a number meets.

Bounds on |prediction - target| / target of .5, .45, ... .05. The two rules in
use differ only where the error stands exactly on a bound (a prediction of 3
for 4), and there floating point decides; both are pinned by official figures.
"""

import numpy as np

from cooper_jax.errors import UserError

# VSI-Bench (thinking-in-space) writes linspace and <=, SIBench arange and <.
_BOUNDS = {
  "vsi": 1 - np.linspace(0.5, 0.95, 10),
  "sibench": 1 - np.arange(0.5, 1.0, 0.05),
}


def mra(prediction: float | None, target: float, rule: str = "vsi") -> float:
  """Mean relative accuracy of one number; an unread one (None, NaN) is 0.

  The error is taken relative to |target|; for a target of 0 only an exact 0
  scores (1).
  """
  if rule not in _BOUNDS:
    raise UserError(f"mra rule is {rule!r}, allowed are sibench, vsi")
  if prediction is None or not np.isfinite(prediction):
    return 0.0
  if target == 0:
    return float(prediction == 0)
  error = abs(prediction - target) / abs(target)
  met = error <= _BOUNDS[rule] if rule == "vsi" else error < _BOUNDS[rule]
  return float(np.mean(met))


def best_constant(targets, rule: str = "vsi") -> tuple[float, float]:
  """(constant, its mean MRA over targets [n]): the best without any input."""
  targets = np.asarray(targets, np.float64)
  candidates = np.unique(targets)
  if len(candidates) > 200:
    candidates = np.quantile(candidates, np.linspace(0, 1, 200))
  # Scaled too: the best constant often lies below every target it serves.
  candidates = np.unique(np.outer(candidates, (0.8, 0.9, 1.0)))
  scores = [mean_mra(c, targets, rule) for c in candidates]
  best = int(np.argmax(scores))
  return float(candidates[best]), float(scores[best])


def mean_mra(constant: float, targets, rule: str = "vsi") -> float:
  """Mean MRA of one prediction for targets [n]."""
  targets = np.asarray(targets, np.float64)
  zero = targets == 0
  error = np.abs(constant - targets) / np.where(zero, 1.0, np.abs(targets))
  bounds = _BOUNDS[rule][:, None]
  met = error <= bounds if rule == "vsi" else error < bounds
  return float(np.where(zero, constant == 0, met.mean(0)).mean())
