"""Question family "taller": which of two objects has more height."""

from cooper_jax.tokenizers.lengths import metres
from cooper_jax.world.questions import fitting
from cooper_jax.world.questions.candidates import (
  APART_RATIO,
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
  "Which is taller , the {a} or the {b} ?",
  "Is the {a} or the {b} taller ?",
  "Of the {a} and the {b} , which has more height ?",
  "Which is higher from bottom to top , the {a} or the {b} ?",
)
ANSWER_TYPE = "choice"
NEEDS = ("depth", "segmentation")
RELATION = ("taller", "shorter")
MEASURES = "size"
ALLOTTED = (148, 13)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [-0.394, 2.897, 4.403, -0.475, -5.112, 0.224, -0.162, 0.199,
             -0.103, 0.135, -0.141, -0.005, 0.144, 0.054, -0.147, 0.026],
 'keep': 0.693}
)
# fmt: on


def candidates(scenes, draws):
  """Pairs whose heights are no tie."""
  del draws
  height = scenes.facts.height
  ratio = height[:, :, None] / height[:, None, :]
  valid = scenes.pair & uneven(ratio, APART_RATIO)
  return choice(RATES, scenes, valid, ratio > 1)


def write(words, b, picked, side) -> Written:
  """Of two objects with their ends and depths, the taller one."""
  del side
  i, j = picked["items"]
  first = picked["first"]
  names = named(words, b, (i, j))
  tall = [words.height[b][i], words.height[b][j]]
  return Written(
    names=names,
    answer=names["a"] if first else names["b"],
    reasoning=f"{words.upright(b, i)} ; {words.upright(b, j)} ;"
    f" {metres(tall[0])} m ; {metres(tall[1])} m" + stands(RELATION, first),
    options=(names["a"], names["b"]),
    flag=flag_of((words.high[b][i] > words.high[b][j]) != first),
    evidence=evidence_of((i, j), height=tall),
  )


def fit(rates, seen, power):
  """What boxes and names tell of who is taller."""
  del power
  return fitting.pair(rates, seen)
