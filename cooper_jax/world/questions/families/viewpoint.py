"""Question family "viewpoint": the side of an object, seen from another."""

import numpy as np

from cooper_jax.world.questions.candidates import THREE, Candidates
from cooper_jax.world.questions.written import (
  LEFT_RIGHT,
  ORDER,
  Written,
  evidence_of,
  flag_of,
  going_on,
  named,
)

TEMPLATES = (
  "From the {a} facing the {b} , is the {c} left or right ?",
  "Standing at the {a} looking at the {b} , is the {c} left or right ?",
  "At the {a} facing the {b} , is the {c} on your left or right ?",
  "Seen from the {a} towards the {b} , is the {c} left or right ?",
)
ANSWER_TYPE = "choice"
NEEDS = ("depth",)
ALLOTTED = (402, 15)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'keep': 0.858}
)
# fmt: on

LONGEST = (
  "Standing at the red box looking at the red can , is the red ball left or"
  " right ?",
  "red box <at .5 .5> 1.0 m ; red can <at .5 .5> 1.0 m ; red ball <at .5 .5>"
  " 1.0 m",
  "left",
)
TURN = 0.35  # sine of the angle between two directions


# A derived trace says of b and of c whether they are left or right of a, on the
# floor, and closer or farther. In half of the questions that settles the turn:
# who walks to the right has what is closer to the right.
LONGEST_DERIVED = (
  LONGEST[0],
  f"{LONGEST[1]} ; right ; farther ; right ; farther",
  LONGEST[2],
)


def candidates(scenes, draws):
  """Triples (a, b, c): at a, facing b, is c to the left?"""
  del draws
  between, pair = scenes.between, scenes.pair
  x, z = -between[..., 0], -between[..., 2]  # from a to the other, on the floor
  far = np.sqrt(x * x + z * z)
  # Right of the direction (x, z), seen from above with z up, is (z, -x).
  cross = x[:, :, None, :] * z[:, :, :, None] - (
    z[:, :, None, :] * x[:, :, :, None]
  )
  size = far[:, :, :, None] * far[:, :, None, :]
  sine = cross / np.maximum(size, 1e-6)
  valid = pair[:, :, :, None] & pair[:, :, None, :] & THREE
  valid &= (np.abs(sine) > TURN) & (size > 0.09)
  return Candidates(valid.astype(float), {"first": sine < 0}, objects=3)


def write(words, b, picked, side) -> Written:
  """Of three objects and their depths, the side of the third."""
  del side
  items, left = picked["items"], picked["first"]
  i, _, k = items
  seen_left = words.middle[b][k][1] < words.middle[b][i][1]
  return Written(
    names=named(words, b, items),
    answer=LEFT_RIGHT[0 if left else 1],
    reasoning=" ; ".join(words.measured(b, n) for n in items),
    options=LEFT_RIGHT,
    flag=flag_of(seen_left != left),
    evidence=evidence_of(items),
  )


def derive(words, b, picked, text) -> Written:
  """With how the second and the third stand to the first, on the floor."""
  i, *others = picked["items"]
  aside, depth = words.aside[b], words.depth_value[b]
  steps = []
  for j in others:
    steps.append(LEFT_RIGHT[0 if aside[j] < aside[i] else 1])
    steps.append(ORDER[0 if depth[j] < depth[i] else 1])
  return going_on(text, *steps)
