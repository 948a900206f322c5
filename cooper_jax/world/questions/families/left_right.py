"""Question family "left_right": which of two objects is further to a side."""

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
  "Which is further {side} , the {a} or the {b} ?",
  "Is the {a} or the {b} more to the {side} ?",
  "Of the {a} and the {b} , which is on the {side} ?",
  "What stands further to the {side} , the {a} or the {b} ?",
)
ANSWER_TYPE = "choice"
NEEDS = ()
RELATION = ("left", "right")
MOVES = "all"
ALLOTTED = (74, 7)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.024, -0.015, -0.075, 0.055,
             0.06, -0.03, 0.036, 0.017, 0.027, -0.051],
 'keep': 0.643}
)
# fmt: on

SIDES = ("left", "right")


def candidates(scenes, draws):
  """Pairs that are well apart across the image."""
  del draws
  middle = scenes.facts.middle[..., 1]
  step = (middle[:, :, None] - middle[:, None, :]) / scenes.facts.size
  return choice(RATES, scenes, scenes.pair & (np.abs(step) > ASIDE), step < 0)


def write(words, b, picked, side) -> Written:
  """Of two objects and their places, the one further to a side."""
  i, j = picked["items"]
  names = named(words, b, (i, j))
  first = picked["first"] != bool(side)
  # Which side was asked for is a second step: is it the first one's?
  return Written(
    names=names | {"side": SIDES[side]},
    answer=names["a"] if first else names["b"],
    reasoning=f"{words.point(b, i)} ; {words.point(b, j)}"
    + stands(RELATION, picked["first"])
    + f" ; {YES_NO[0 if first else 1]}",
    options=(names["a"], names["b"]),
    flag="negative",
    evidence=evidence_of((i, j)),
  )


def fit(rates, seen, power):
  """What names tell of who is on the left; boxes show it."""
  del power
  return fitting.pair(rates, seen, names_only=True)
