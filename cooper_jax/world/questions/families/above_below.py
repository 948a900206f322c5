"""Question family "above_below": is an object above another in the image."""

import numpy as np

from cooper_jax.world.questions import fitting
from cooper_jax.world.questions.candidates import ASIDE, choice
from cooper_jax.world.questions.written import (
  YES_NO,
  Written,
  evidence_of,
  named,
  stands,
)

TEMPLATES = (
  "Is the {a} {side} the {b} ?",
  "In the image , is the {a} {side} the {b} ?",
  "Is the {a} seen {side} the {b} ?",
  "Does the {a} appear {side} the {b} ?",
)
ANSWER_TYPE = "yes_no"
NEEDS = ()
RELATION = ("above", "below")
MOVES = "all"
ALLOTTED = (111, 8)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.084, -0.037, 0.069, -0.414,
             -0.252, 0.128, 0.064, 0.073, 0.223, 0.062],
 'keep': 0.66}
)
# fmt: on

SIDES = ("above", "below")


def candidates(scenes, draws):
  """Pairs that are well apart along the image."""
  del draws
  middle = scenes.facts.middle[..., 0]
  step = (middle[:, :, None] - middle[:, None, :]) / scenes.facts.size
  return choice(RATES, scenes, scenes.pair & (np.abs(step) > ASIDE), step < 0)


def write(words, b, picked, side) -> Written:
  """Of two objects and their places, whether the first is on a side."""
  i, j = picked["items"]
  first = picked["first"]
  return Written(
    names=named(words, b, (i, j)) | {"side": SIDES[side]},
    answer=YES_NO[0 if first != bool(side) else 1],
    reasoning=f"{words.point(b, i)} ; {words.point(b, j)}"
    + stands(RELATION, first),
    flag="negative",
    evidence=evidence_of((i, j)),
  )


def fit(rates, seen, power):
  """What names tell of who is above; boxes show it."""
  del power
  return fitting.pair(rates, seen, names_only=True)
