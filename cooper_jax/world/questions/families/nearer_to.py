"""Question family "nearer_to": which of two objects is nearer to a third."""

import numpy as np

from cooper_jax.tokenizers.lengths import metres
from cooper_jax.world.questions import debias, fitting
from cooper_jax.world.questions.candidates import (
  APART_RATIO,
  THREE,
  Candidates,
  uneven,
)
from cooper_jax.world.questions.written import (
  Written,
  evidence_of,
  flag_of,
  named,
  stands,
)
from cooper_jax.world.tools.classifiers import logistic

TEMPLATES = (
  "Which is nearer to the {c} , the {a} or the {b} ?",
  "Is the {a} or the {b} closer to the {c} ?",
  "What is nearer to the {c} : the {a} or the {b} ?",
  "Which has less distance to the {c} , the {a} or the {b} ?",
)
ANSWER_TYPE = "choice"
NEEDS = ("depth",)
RELATION = ("closer", "farther")
MEASURES = "distance"
ALLOTTED = (185, 1)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [0.493, -1.021, -1.296, 0.375, 1.622, -0.268, -0.161, -0.068,
             0.018, 0.041, -0.325, 0.223, 0.033, 0.273, -0.137, 0.103],
 'slope': -1.155,
 'keep': 0.829}
)
# fmt: on

LONGEST = (
  "Which has less distance to the red box , the red can or the red ball ?",
  "red box <at .5 .5> 1.0 m ; red can <at .5 .5> 1.0 m ; red ball <at .5 .5>"
  " 1.0 m ; 1.0 m ; 1.0 m ; farther",
  "red ball",
)


def candidates(scenes, draws):
  """Triples (a, b, c): is a or b nearer to c?"""
  del draws
  distance, pair = scenes.distance, scenes.pair
  middle = scenes.facts.middle
  flat = (middle[:, :, None] - middle[:, None, :]) / scenes.facts.size
  flat = np.log(np.sqrt((flat * flat).sum(-1)) + 0.02)
  logit = debias.score(RATES, scenes.features)[:, :, None]
  logit = logit + flat * RATES.get("slope", 0.0)  # [B, a, c]
  logit = logit[:, :, None] - logit[:, None]  # [B, a, b, c]
  ratio = distance[:, :, None] / np.maximum(distance[:, None], 1e-6)
  valid = pair[:, :, None, :] & pair[:, None, :, :] & THREE
  valid &= uneven(ratio, APART_RATIO)
  first = ratio < 1
  truth = np.where(first, logit, -logit)
  return Candidates(valid * debias.accept(truth), {"first": first}, objects=3)


def write(words, b, picked, side) -> Written:
  """Of three objects and two distances, which of two is nearer."""
  del side
  i, j, k = picked["items"]
  first = picked["first"]
  apart = [words.distance[b][i][k], words.distance[b][j][k]]
  a, c = words.middle[b], words.middle[b][k]
  flat = [(a[n][0] - c[0]) ** 2 + (a[n][1] - c[1]) ** 2 for n in (i, j)]
  names = named(words, b, (i, j, k))
  places = " ; ".join(words.measured(b, n) for n in (k, i, j))
  return Written(
    names=names,
    answer=names["a"] if first else names["b"],
    reasoning=f"{places} ; {metres(apart[0])} m ; {metres(apart[1])} m"
    + stands(RELATION, first),
    options=(names["a"], names["b"]),
    flag=flag_of((flat[0] < flat[1]) != first),
    evidence=evidence_of((i, j, k), distance=apart),
  )


def fit(rates, seen, power):
  """What boxes, names and distances in the image tell of who is nearer."""
  del power
  a, b, _ = fitting.taken(seen["features"], seen["items"])
  ma, mb, mc = fitting.taken(seen["middle"], seen["items"])
  flat = [
    np.log(np.sqrt(((m - mc) ** 2).sum(-1)) + 0.02)[:, None] for m in (ma, mb)
  ]
  both = np.concatenate([a - b, flat[0] - flat[1]], 1)
  found = logistic(both, seen["first"])
  return rates | {
    "weights": fitting.added(rates.get("weights"), found[:-1]),
    "slope": rates.get("slope", 0.0) + float(found[-1]),
  }
