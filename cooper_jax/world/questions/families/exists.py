"""Question family "exists": is there an object of a colour and a shape."""

import numpy as np

from cooper_jax.world.config import COLOURS, MAX_OBJECTS, SHAPES
from cooper_jax.world.questions import debias, draws, fitting, wording
from cooper_jax.world.questions.candidates import Candidates
from cooper_jax.world.questions.written import (
  YES_NO,
  Written,
  evidence_of,
)
from cooper_jax.world.tools.classifiers import logistic

TEMPLATES = (
  "Is there {a} ?",
  "Is {a} in the room ?",
  "Does the image show {a} ?",
  "Can you see {a} ?",
)
ANSWER_TYPE = "yes_no"
NEEDS = ()
MOVES = "all"
ALLOTTED = (879, 12)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'weights': [-0.091, 0.123, 0.025, 0.098, 0.018, 0.035, 0.009, 0.007, 0.192,
             -0.013, 0.103, -0.04, 0.018, 0.058, -0.055, -0.017, 0.051,
             -0.073],
 'bias': 0.224,
 'keep': 0.625}
)
# fmt: on

# In the held-out split: acceptance of a held-out thing that is there (one that
# is missing is rare), and of any other that is missing.
NOVEL_YES, USUAL_NO = 0.1, 0.5


def candidates(scenes, draws):
  """Pairs of slots (i, j): is there (colour of i, shape of j)?

  On the diagonal the thing is there. Off it, its colour and its shape both
  are, on different things.
  """
  del draws
  facts, heldout = scenes.facts, scenes.split == "heldout"
  colour, shape = facts.colour, facts.shape
  clear = facts.named
  both = clear[:, :, None] & clear[:, None, :]
  code = colour * len(SHAPES) + shape
  asked = colour[:, :, None] * len(SHAPES) + shape[:, None, :]
  present = facts.present[:, None, None, :]
  there = (asked[..., None] == code[:, None, None]) & present
  absent = both & ~there.any(-1)
  held_out = np.array(
    [
      COLOURS.index(c) * len(SHAPES) + SHAPES.index(s)
      for c, s in scenes.config.held_out
    ]
    or [-1]
  )
  novel = np.isin(asked, held_out)
  same = np.eye(MAX_OBJECTS, dtype=bool)
  if scenes.config.near_misses and not heldout:
    accept = _matched(scenes, both & same, absent & ~novel)
    return Candidates(accept, {"first": np.broadcast_to(same, accept.shape)})
  logit = RATES.get("bias", 0.0) + name_score(
    colour[:, :, None], shape[:, None, :]
  )
  accept = debias.accept(np.where(same, logit, -logit))
  if heldout:
    usual = np.where(same, accept, USUAL_NO * accept)
    accept = np.where(novel, np.where(same, NOVEL_YES, 1), usual)
  else:
    absent &= ~novel
  return Candidates(
    ((both & same) | absent) * accept,
    {"first": np.broadcast_to(same, accept.shape)},
    prefer=novel if heldout else None,
  )


def _matched(scenes, there, absent) -> np.ndarray:
  """Acceptance [B, slots, slots] that only colour and shape together tell.

  How many things have the colour, and how many the shape, is the same of what
  is there and of what is not: both are drawn, among those that occur with
  either answer, then the answer. A scene without any is not asked.

  there, absent: bool [B, slots, slots], as `candidates` has them.
  """
  facts, config = scenes.facts, scenes.config
  clear = facts.named[:, None, :]
  colours, shapes = (
    ((ids[:, :, None] == ids[:, None]) & clear).sum(-1)
    for ids in (facts.colour, facts.shape)
  )
  # [B, slots, slots, kinds]: how many of the colour and of the shape there are
  number = colours[:, :, None] * (MAX_OBJECTS + 1) + shapes[:, None]
  kind = number[..., None] == np.arange((MAX_OBJECTS + 1) ** 2)
  either = [(kind & each[..., None]).any((1, 2)) for each in (there, absent)]
  own = draws.of("near misses", None, scenes.layout, config, scenes.split)
  chosen = np.where(either[0] & either[1], own.take(kind.shape[-1]), -1.0)
  right = number == chosen.argmax(-1)[:, None, None]
  asked = np.where((own.take() < 0.5)[:, None, None], there, absent)
  some = (chosen.max(-1) >= 0)[:, None, None]
  return (asked & right & some).astype(float)


def write(words, b, picked, side) -> Written:
  """The thing's place where it is there, else none."""
  del side
  i, j = picked["items"]
  name = f"{COLOURS[words.colour[b][i]]} {SHAPES[words.shape[b][j]]}"
  return Written(
    names={"a": wording.with_article(name)},
    answer=YES_NO[0 if picked["first"] else 1],
    reasoning=wording.counted([words.at[b][i]] if picked["first"] else []),
    flag="negative",
    evidence=evidence_of((i,) if picked["first"] else ()),
  )


def name_score(colour: np.ndarray, shape: np.ndarray) -> np.ndarray:
  """Logistic score of a colour and a shape."""
  weights = RATES.get("weights")
  if weights is None:
    return np.zeros(np.broadcast_shapes(colour.shape, shape.shape))
  weights = np.array(weights)
  number = len(COLOURS)
  return weights[:number][colour] + weights[number:][shape]


def fit(rates, seen, power):
  """What a colour and a shape tell of whether they are there together."""
  del power
  i, j = seen["items"].T
  rows = np.arange(len(i))
  colour = seen["colour"][rows, i][:, None] == np.arange(len(COLOURS))
  shape = seen["shape"][rows, j][:, None] == np.arange(len(SHAPES))
  one = np.ones((len(i), 1))
  found = logistic(np.concatenate([colour, shape, one], 1), seen["first"])
  return rates | {
    "weights": fitting.added(rates.get("weights"), found[:-1]),
    "bias": rates.get("bias", 0.0) + float(found[-1]),
  }
