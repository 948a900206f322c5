"""Question family "closer": which of two objects is nearer to the camera."""

from cooper_jax.world.questions import fitting
from cooper_jax.world.questions.candidates import (
  NEAR_RATIO,
  choice,
  uneven,
)
from cooper_jax.world.questions.written import (
  Written,
  evidence_of,
  flag_of,
  named,
  stands,
)

TEMPLATES = (
  "Which is closer to the camera , the {a} or the {b} ?",
  "Is the {a} or the {b} nearer to us ?",
  "Of the {a} and the {b} , which is closer ?",
  "Which has less distance to the viewer , the {a} or the {b} ?",
)
ANSWER_TYPE = "choice"
NEEDS = ("depth",)
RELATION = ("closer", "farther")
MEASURES = "distance"
MOVES = "each"
ALLOTTED = (0, 0)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [0.82, -1.731, -3.724, -0.476, 5.007, -0.318, 0.021, -0.019,
             0.167, 0.001, -0.187, 0.12, -0.054, 0.253, -0.163, -0.139],
 'keep': 0.667}
)
# fmt: on


def candidates(scenes, draws):
  """Pairs whose depths are no tie."""
  del draws
  ratio = scenes.depth_ratio
  valid = scenes.pair & uneven(ratio, NEAR_RATIO)
  return choice(RATES, scenes, valid, ratio < 1)


def write(words, b, picked, side) -> Written:
  """Of two objects and their depths, the nearer one."""
  del side
  i, j = picked["items"]
  first = picked["first"]
  names = named(words, b, (i, j))
  return Written(
    names=names,
    answer=names["a"] if first else names["b"],
    reasoning=f"{words.measured(b, i)} ; {words.measured(b, j)}"
    + stands(RELATION, first),
    options=(names["a"], names["b"]),
    flag=flag_of(words.larger_is_closer(b, i, j) != first),
    evidence=evidence_of((i, j), depth=words.depths(b, (i, j))),
  )


def fit(rates, seen, power):
  """What boxes and names tell of who is nearer."""
  del power
  return fitting.pair(rates, seen)
