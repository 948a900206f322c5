"""Debiasing: questions that could be answered without depth are thinned out.

Each candidate question is accepted with a probability that undoes what a
shortcut could know about its answer:

- a choice: P(truth | names, 2-D boxes) is estimated by a logistic score; with
  acceptance min(1, (1 - p) / p) both answers are equally likely again at every
  value of the score;
- a length: acceptance is inverse to the density of its logarithm, so that
  answers are log-uniform and no constant is a good guess;
- a count: inverse to the frequency of the count.

The numbers are the RATES of each family's file, measured by
`tools/calibrate.py`. They are part of the world: changing them changes which
questions are asked. `keep` is the share of the accepted ones that is asked,
`weights`, `bias` and `slope` are of scores, `lengths` and `counts` tables.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world import config
from cooper_jax.world.questions.measure import Facts

BINS = 12
BOX_FEATURES = 6
NAME_FEATURES = len(config.SHAPES)
FEATURES = BOX_FEATURES + NAME_FEATURES


def object_features(facts: Facts) -> np.ndarray:
  """What names and 2-D boxes tell of each object [B, objects, FEATURES]."""
  size = facts.size
  box = facts.box
  high = (box[..., 1] - box[..., 0] + 1) / size
  wide = (box[..., 3] - box[..., 2] + 1) / size
  foot = box[..., 1] / size
  head = box[..., 0] / size
  numbers = [
    np.log(np.maximum(high * wide, 1e-4)),
    np.log(np.maximum(high, 1e-4)),
    foot,
    head,
    foot * foot,
    np.abs((box[..., 2] + box[..., 3]) / (2 * size) - 0.5),
  ]
  names = (facts.shape[..., None] == np.arange(NAME_FEATURES)).astype(float)
  return np.concatenate([np.stack(numbers, -1), names], axis=-1)


def score(rates: dict, features: np.ndarray, part: int = 0) -> np.ndarray:
  """Logistic score of each object [...] for a family's shortcut."""
  weights = rates.get("weights")
  if weights is None:
    return np.zeros(features.shape[:-1])
  weights = np.array(weights[part * FEATURES : (part + 1) * FEATURES])
  return (features * weights).sum(-1)


def accept(log_odds_of_truth: np.ndarray) -> np.ndarray:
  """Acceptance that makes the truth a coin flip at every score."""
  return np.minimum(1, np.exp(-np.clip(log_odds_of_truth, -30, 30)))


def bin_of(span, value: np.ndarray) -> np.ndarray:
  """Bin of a length on the logarithmic scale of `span`; -1 outside of it."""
  low, high = span
  safe = np.maximum(value, 1e-6)
  place = np.log(safe / low) / np.log(high / low)
  index = np.floor(place * BINS).astype(np.int64)
  return np.where((place >= 0) & (place < 1), index, -1)


def accept_length(rates: dict, span, value: np.ndarray) -> np.ndarray:
  """Acceptance of a length in metres, 0 outside of the range `span`."""
  low, high = span
  table = rates.get("lengths", [1.0] * BINS)
  place = np.log(np.maximum(value, 1e-6) / low) / np.log(high / low) * BINS
  rate = np.interp(place - 0.5, np.arange(BINS), table)
  return np.where((place >= 0) & (place < BINS), rate, 0)


def accept_count(rates: dict, kind: str, number: np.ndarray) -> np.ndarray:
  """Acceptance of a count of things of one "colour" or "shape"."""
  counts = rates.get("counts", {})
  table = np.array([*counts.get(kind, [1.0] * 5), 0.0])
  return table[np.minimum(number, len(table) - 1)]
