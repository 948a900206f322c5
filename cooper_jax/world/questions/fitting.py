"""Fits of RATES: what a question's words and boxes tell of its answer.

`seen` is what a family's questions of many scenes were about, n of them:
items [n, axes], features [n, slots, FEATURES], middle [n, slots, 2], colour and
shape [n, slots], and the values that its candidates have (first, value, limit)
[n].
Every fit adds to the rates that those questions were chosen with.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world.questions import debias
from cooper_jax.world.tools.classifiers import logistic

LEAST_RATE = 0.02  # acceptance of the commonest bin


def taken(values: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
  """values [n, slots, ...] of each item's slot: a list of [n, ...]."""
  rows = np.arange(len(items))
  return [values[rows, i] for i in items.T]


def added(before, fit) -> list[float]:
  """The weights that there were, if any, and those of what was left."""
  return (np.array(before or np.zeros(len(fit))) + fit).tolist()


def pair(rates, seen, *, names_only: bool = False) -> dict:
  """Weights of a comparison: the score's difference tells who is first."""
  a, b = taken(seen["features"], seen["items"])
  columns = np.arange(debias.FEATURES)
  if names_only:
    columns = columns[debias.BOX_FEATURES :]
  fit = np.zeros(debias.FEATURES)
  fit[columns] = logistic((a - b)[:, columns], seen["first"])
  return rates | {"weights": added(rates.get("weights"), fit)}


def length(rates, seen, span, power: float) -> dict:
  """Acceptance of each bin of a length, inverse to how frequent it is."""
  bins = debias.bin_of(span, seen["value"])
  count = np.bincount(bins, minlength=debias.BINS) + 3.0
  before = np.array(rates.get("lengths", [1.0] * debias.BINS))
  rate = before / count**power
  rate /= rate.max()
  return rates | {"lengths": np.maximum(rate, LEAST_RATE).tolist()}
