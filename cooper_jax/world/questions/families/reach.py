"""Question family "reach": is an object within some metres of another."""

import numpy as np

from cooper_jax.tokenizers.lengths import NUMBER_VALUES, metres
from cooper_jax.world.config import MAX_OBJECTS
from cooper_jax.world.questions import debias, fitting
from cooper_jax.world.questions.candidates import Candidates
from cooper_jax.world.questions.written import (
  YES_NO,
  Written,
  evidence_of,
  flag_of,
  named,
)
from cooper_jax.world.tools.classifiers import logistic

TEMPLATES = (
  "Is the {a} within {t} m of the {b} ?",
  "Can an arm of {t} m reach from the {b} to the {a} ?",
  "Are the {a} and the {b} less than {t} m apart ?",
  "Is it less than {t} m from the {a} to the {b} ?",
)
ANSWER_TYPE = "yes_no"
NEEDS = ("depth",)
MEASURES = "distance"
RANGE = (0.35, 6.0)  # metres of the limits that are kept
MOVES = "none"  # its limit is in the question
ALLOTTED = (714, 14)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.04, -0.065, -0.128, -0.123,
             -0.081, -0.105, -0.144, -0.147, -0.043, -0.02],
 'limit': [-0.448, 1.45, 0.229, 0.637, 0.084],
 'keep': 0.657}
)
# fmt: on

POWERS = 5  # of the limit's logarithm, from 0 on


def candidates(scenes, draws):
  """Pairs: the answer is drawn, then a limit on its side of the distance."""
  distance = scenes.distance
  pairs = MAX_OBJECTS, MAX_OBJECTS
  within = draws.take(*pairs) < 0.5
  factor = np.exp(np.log(1.25) + np.log(1.5) * draws.take(*pairs))
  limit = distance * np.where(within, factor, 1 / factor)
  numbers = NUMBER_VALUES
  edges = np.sqrt(numbers[1:] * numbers[:-1])
  limit = numbers[np.searchsorted(edges, limit, side="right")]
  margin = np.where(within, limit / np.maximum(distance, 1e-6), 1)
  margin = np.where(within, margin, distance / limit)
  logit = debias.score(RATES, scenes.features)
  logit = logit[:, :, None] + logit[:, None] + limit_score(limit)
  weight = debias.accept(np.where(within, logit, -logit))
  weight = weight * (debias.bin_of(RANGE, limit) >= 0)
  return Candidates(
    scenes.pair * (margin > 1.12) * weight,
    {"first": within, "value": distance, "limit": limit},
    objects=2,
  )


def write(words, b, picked, side) -> Written:
  """Of two objects and their distance, whether it is below a limit."""
  del side
  i, j = picked["items"]
  # Without depth, objects near each other in the image seem within reach.
  a, c = words.middle[b][i], words.middle[b][j]
  near = (a[0] - c[0]) ** 2 + (a[1] - c[1]) ** 2 < words.area[b][i]
  return Written(
    names=named(words, b, (i, j)) | {"t": metres(picked["limit"])},
    answer=YES_NO[0 if picked["first"] else 1],
    reasoning=f"{words.measured(b, i)} ; {words.measured(b, j)} ;"
    f" {metres(picked['value'])} m",
    flag=flag_of(near != picked["first"]),
    evidence=evidence_of((i, j), distance=picked["value"]),
  )


def limit_features(limit: np.ndarray) -> np.ndarray:
  """Powers of the logarithm of a "within t m" limit, [-1, 1] in its range."""
  low, high = RANGE
  place = 2 * np.log(limit / low) / np.log(high / low) - 1
  place = np.clip(place, -1.2, 1.2)
  return np.stack([place**k for k in range(POWERS)], axis=-1)


def limit_score(limit: np.ndarray) -> np.ndarray:
  """Log-odds that "within t m" is true, from the limit alone."""
  weights = np.array(RATES.get("limit", [0.0] * POWERS))
  return (limit_features(limit) * weights).sum(-1)


def fit(rates, seen, power):
  """What names and the limit tell of whether it is within."""
  del power
  names = slice(debias.BOX_FEATURES, None)
  a, b = fitting.taken(seen["features"], seen["items"])
  powers = limit_features(seen["limit"])
  both = np.concatenate([a[:, names] + b[:, names], powers], 1)
  found = logistic(both, seen["first"])
  number = debias.NAME_FEATURES
  weights = np.concatenate([np.zeros(debias.BOX_FEATURES), found[:number]])
  return rates | {
    "weights": fitting.added(rates.get("weights"), weights),
    "limit": fitting.added(rates.get("limit"), found[number:]),
  }
