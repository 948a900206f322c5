"""Keeps questions from being answered without looking at depth.

Each candidate question is accepted with a probability that undoes what a
shortcut could know about its answer:

- a choice: P(truth | names, 2-D boxes) is estimated by a logistic score; with
  acceptance min(1, (1 - p) / p) both answers are equally likely again at every
  value of the score;
- a length: acceptance is inverse to the density of its logarithm, so that
  answers are log-uniform and no constant is a good guess;
- a count: inverse to the frequency of the count.

The numbers are in `balance_table.py`, measured by `calibrate.py`. They are
part of the world: changing them changes which questions are asked.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world import config
from cooper_jax.world.questions import templates
from cooper_jax.world.questions.debias_table import TABLE
from cooper_jax.world.questions.measure import Facts

BINS = 12
# Where answers are kept, in metres; the ratios are 20 and more.
RANGES = {
  "distance": (0.46, 11.0),
  "object_distance": (0.3, 7.8),
  "gap": (0.12, 4.5),
  "height": (0.11, 3.6),
  "width": (0.1, 3.4),
  "reach": (0.35, 6.0),
}
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


def score(family: str, features: np.ndarray, part: int = 0) -> np.ndarray:
  """Logistic score of each object [...] for a family's shortcut."""
  weights = TABLE["weights"].get(family)
  if weights is None:
    return np.zeros(features.shape[:-1])
  weights = np.array(weights[part * FEATURES : (part + 1) * FEATURES])
  return (features * weights).sum(-1)


def accept(log_odds_of_truth: np.ndarray) -> np.ndarray:
  """Acceptance that makes the truth a coin flip at every score."""
  return np.minimum(1, np.exp(-np.clip(log_odds_of_truth, -30, 30)))


def bin_of(family: str, value: np.ndarray) -> np.ndarray:
  """Bin of a length on the logarithmic scale; -1 outside of the range."""
  low, high = RANGES[family]
  safe = np.maximum(value, 1e-6)
  place = np.log(safe / low) / np.log(high / low)
  index = np.floor(place * BINS).astype(np.int64)
  return np.where((place >= 0) & (place < 1), index, -1)


def accept_length(family: str, value: np.ndarray) -> np.ndarray:
  """Acceptance of a length, 0 outside of the family's range."""
  low, high = RANGES[family]
  table = TABLE["lengths"].get(family, [1.0] * BINS)
  place = np.log(np.maximum(value, 1e-6) / low) / np.log(high / low) * BINS
  rate = np.interp(place - 0.5, np.arange(BINS), table)
  return np.where((place >= 0) & (place < BINS), rate, 0)


def accept_count(kind: str, number: np.ndarray) -> np.ndarray:
  """Acceptance of a count of things of one "colour" or "shape"."""
  table = np.array([*TABLE["counts"].get(kind, [1.0] * 5), 0.0])
  return table[np.minimum(number, len(table) - 1)]


def keep(family: str) -> float:
  """Share of the accepted questions of a family that are asked."""
  return TABLE["keep"].get(family, 1.0)


def bias(family: str) -> float:
  """Log-odds of "yes" before names are looked at."""
  return TABLE["bias"].get(family, 0.0)


def slope(family: str) -> float:
  """Log-odds per unit of the logarithm of a distance in the image."""
  return TABLE["slope"].get(family, 0.0)


def check() -> None:
  """Fails when the table names a family that is not there."""
  known = set(templates.FAMILIES)
  for section in ("weights", "lengths", "keep", "bias", "slope", "limit"):
    unknown = set(TABLE[section]) - known
    assert not unknown, f"balance table names {sorted(unknown)}"


def limit_features(limit: np.ndarray) -> np.ndarray:
  """Powers of the logarithm of a "within t m" limit, [-1, 1] in its range."""
  low, high = RANGES["reach"]
  place = 2 * np.log(limit / low) / np.log(high / low) - 1
  place = np.clip(place, -1.2, 1.2)
  return np.stack([place**k for k in range(5)], axis=-1)


def limit_score(limit: np.ndarray) -> np.ndarray:
  """Log-odds that "within t m" is true, from the limit alone."""
  weights = np.array(TABLE["limit"].get("reach", [0.0] * 5))
  return (limit_features(limit) * weights).sum(-1)


def name_score(family, colour: np.ndarray, shape: np.ndarray) -> np.ndarray:
  """Logistic score of a colour and a shape."""
  weights = TABLE["weights"].get(family)
  if weights is None:
    return np.zeros(np.broadcast_shapes(colour.shape, shape.shape))
  weights = np.array(weights)
  number = len(config.COLOURS)
  return weights[:number][colour] + weights[number:][shape]
