"""Question family "count": how many objects have a colour or a shape."""

import numpy as np

from cooper_jax.world.config import COLOURS, SHAPES
from cooper_jax.world.questions import debias, wording
from cooper_jax.world.questions.candidates import Candidates
from cooper_jax.world.questions.written import Written, evidence_of

TEMPLATES = (
  "How many {a} are there ?",
  "Count the {a} .",
  "What is the number of {a} ?",
  "How many {a} can you see ?",
)
ANSWER_TYPE = "number"
NEEDS = ("segmentation",)
MOVES = "all"
ALLOTTED = (860, 11)
# Measured by tools/calibrate.py.
# fmt: off
RATES = (
{'counts': {'colour': [0.035, 0.091, 0.494, 1.0, 1.0],
            'shape': [0.011, 0.034, 0.147, 1.0, 1.0]},
 'keep': 0.89}
)
# fmt: on


# Of the questions with none, how many are left where all others need a near
# miss: so that no number is the usual one.
NEAR_NONE = 0.45


def candidates(scenes, draws):
  """The colours, then the shapes; only what is surely seen counts."""
  del draws
  facts = scenes.facts
  sure = facts.named
  some = facts.seen > 0
  accepts, numbers = [], []
  for kind, ids, others, total in (
    ("colour", facts.colour, facts.shape, len(COLOURS)),
    ("shape", facts.shape, facts.colour, len(SHAPES)),
  ):
    match = ids[:, :, None] == np.arange(total)
    number = (match & sure[:, :, None]).sum(1)
    doubtful = (match & (some & ~sure)[:, :, None]).any(1)
    accept = debias.accept_count(RATES, kind, number) * ~doubtful
    if scenes.config.near_misses:
      beside = _near_misses(match, others, sure)
      accept = accept * np.where(number == 0, NEAR_NONE, beside)
    accepts.append(accept)
    numbers.append(number)
  return Candidates(
    np.concatenate(accepts, 1), {"value": np.concatenate(numbers, 1)}
  )


def _near_misses(match, others, sure) -> np.ndarray:
  """Whether a thing differs from a counted one in what is asked for alone.

  match: bool [B, slots, names]; others: [B, slots], the ids of the attribute
  that is not asked for; sure: bool [B, slots]. Returns bool [B, names].
  """
  alike = others[:, :, None] == others[:, None, :]
  alike &= sure[:, :, None] & sure[:, None, :]
  pair = match[:, :, None] & ~match[:, None]  # [B, slots, slots, names]
  return (pair & alike[..., None]).any((1, 2))


def write(words, b, picked, side) -> Written:
  """All that have the colour or the shape, from left to right."""
  del side
  which = picked["items"][0]
  is_colour = which < len(COLOURS)
  if is_colour:
    ids, wanted = words.colour[b], which
    name = f"{COLOURS[which]} things"
  else:
    ids, wanted = words.shape[b], which - len(COLOURS)
    name = wording.PLURALS[SHAPES[wanted]]
  found = [
    i for i in words.left_first[b] if words.named[b][i] and ids[i] == wanted
  ]
  return Written(
    names={"a": name},
    answer=str(len(found)),
    reasoning=wording.counted([words.at[b][i] for i in found]),
    value=float(len(found)),
    needs=() if is_colour else NEEDS,
    flag="negative" if is_colour else "boundary",
    evidence=evidence_of(found),
  )


def fit(rates, seen, power):
  """How frequent each count is, of colours and of shapes."""
  del power
  counts = dict(rates.get("counts", {}))
  for kind, mine in (
    ("colour", seen["items"][:, 0] < len(COLOURS)),
    ("shape", seen["items"][:, 0] >= len(COLOURS)),
  ):
    number = np.bincount(seen["value"][mine], minlength=5)[:5] + 3.0
    before = np.array(counts.get(kind, [1.0] * 5))
    rate = before * (number[3] / number) ** 0.8
    rate[4] = rate[3]
    counts[kind] = np.maximum(rate / rate.max(), 0.003).tolist()
  return rates | {"counts": counts}
