"""Question family "front_behind": is an object in front of another."""

from cooper_jax.world.questions import fitting
from cooper_jax.world.questions.candidates import (
  NEAR_RATIO,
  choice,
  uneven,
)
from cooper_jax.world.questions.written import (
  YES_NO,
  Written,
  evidence_of,
  flag_of,
  named,
  stands,
)

TEMPLATES = (
  "Is the {a} {side} the {b} ?",
  "Is the {a} placed {side} the {b} ?",
  "Seen from the camera , is the {a} {side} the {b} ?",
  "Does the {a} stand {side} the {b} ?",
)
ANSWER_TYPE = "yes_no"
NEEDS = ("depth",)
RELATION = ("closer", "farther")
MEASURES = "distance"
MOVES = "each"
ALLOTTED = (37, 9)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [1.157, -2.15, -3.162, -0.141, 4.455, -0.468, -0.075, 0.083,
             0.181, 0.035, -0.326, 0.252, -0.042, 0.491, -0.431, -0.168],
 'keep': 0.668}
)
# fmt: on

SIDES = ("in front of", "behind")


def candidates(scenes, draws):
  """Pairs whose depths are no tie."""
  del draws
  ratio = scenes.depth_ratio
  valid = scenes.pair & uneven(ratio, NEAR_RATIO)
  return choice(RATES, scenes, valid, ratio < 1)


def write(words, b, picked, side) -> Written:
  """Of two objects and their depths, whether the first is on a side."""
  i, j = picked["items"]
  first = picked["first"]
  return Written(
    names=named(words, b, (i, j)) | {"side": SIDES[side]},
    answer=YES_NO[0 if first != bool(side) else 1],
    reasoning=f"{words.measured(b, i)} ; {words.measured(b, j)}"
    + stands(RELATION, first),
    flag=flag_of(words.larger_is_closer(b, i, j) != first),
    evidence=evidence_of((i, j), depth=words.depths(b, (i, j))),
  )


def fit(rates, seen, power):
  """What boxes and names tell of who is in front."""
  del power
  return fitting.pair(rates, seen)
