"""Question family "occlusion": does an object hide a part of another."""

import dataclasses

import numpy as np

from cooper_jax.world.questions import debias, fitting
from cooper_jax.world.questions.candidates import Candidates
from cooper_jax.world.questions.written import (
  ORDER,
  YES_NO,
  Written,
  evidence_of,
  named,
  stands,
)
from cooper_jax.world.tools.classifiers import logistic

TEMPLATES = (
  "Is the {a} partly hidden by the {b} ?",
  "Does the {b} cover part of the {a} ?",
  "Does the {b} hide a part of the {a} ?",
  "Is a part of the {a} behind the {b} ?",
)
ANSWER_TYPE = "yes_no"
NEEDS = ("segmentation",)
DERIVED_NEEDS = ("depth", "segmentation")
MOVES = "whole"  # who hides whom is a matter of depth
ALLOTTED = (823, 10)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.053, -0.226, -0.25, -0.245,
             -0.077, -0.506, -0.205, -0.389, 0.049, 0.075, 0.0, 0.0, 0.0, 0.0,
             0.0, 0.0, 0.354, -0.493, -0.119, -0.731, -0.143, -0.461, -0.331,
             -0.223, 0.381, -0.062],
 'bias': -1.828,
 'keep': 1.0}
)
# fmt: on


def candidates(scenes, draws):
  """Pairs (a, b): does b cover a part of a? Near misses count as no."""
  del draws
  facts = scenes.facts
  seen = np.maximum(facts.seen, 1)[:, :, None]
  share = facts.hidden / (seen + facts.hidden)
  hides = (share > 0.08) & (facts.hidden >= 4 * (facts.size / 64) ** 2)
  box = facts.box
  across = np.minimum(box[:, :, None, 3], box[:, None, :, 3]) - np.maximum(
    box[:, :, None, 2], box[:, None, :, 2]
  )
  along = np.minimum(box[:, :, None, 1], box[:, None, :, 1]) - np.maximum(
    box[:, :, None, 0], box[:, None, :, 0]
  )
  close = np.minimum(across, along) > -0.12 * facts.size
  valid = scenes.pair & (hides | ((facts.hidden == 0) & close))
  logit = debias.score(RATES, scenes.features)[:, :, None]
  logit = logit + debias.score(RATES, scenes.features, 1)[:, None, :]
  logit = logit + RATES.get("bias", 0.0)
  truth = np.where(hides, logit, -logit)
  return Candidates(valid * debias.accept(truth), {"first": hides}, objects=2)


def write(words, b, picked, side) -> Written:
  """Of two objects and their places, whether one hides a part of the other."""
  del side
  i, j = picked["items"]
  return Written(
    names=named(words, b, (i, j)),
    answer=YES_NO[0 if picked["first"] else 1],
    reasoning=f"{words.point(b, i)} ; {words.point(b, j)}",
    evidence=evidence_of((i, j)),
  )


def derive(words, b, picked, text) -> Written:
  """With both depths and how the first stands: what is closer, none hides."""
  i, j = picked["items"]
  mine, its = words.depths(b, (i, j))
  return dataclasses.replace(
    text,
    reasoning=f"{words.measured(b, i)} ; {words.measured(b, j)}"
    + stands(ORDER, mine < its),
    needs=DERIVED_NEEDS,
  )


def fit(rates, seen, power):
  """What the two names tell of whether one hides the other."""
  del power
  names = slice(debias.BOX_FEATURES, None)
  a, b = fitting.taken(seen["features"], seen["items"])
  one = np.ones((len(a), 1))
  both = np.concatenate([a[:, names], b[:, names], one], 1)
  found = logistic(both, seen["first"])
  number, empty = debias.NAME_FEATURES, np.zeros(debias.BOX_FEATURES)
  weights = np.concatenate([empty, found[:number], empty, found[number:-1]])
  return rates | {
    "weights": fitting.added(rates.get("weights"), weights),
    "bias": rates.get("bias", 0.0) + float(found[-1]),
  }
