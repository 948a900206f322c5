"""Accuracy on the held-out split: pairs and words never seen in training.

Every scene of the held-out split shows a colour and a shape that no training
scene shows together, and half of its questions are put in words that no
training question uses.
"""

import dataclasses

import numpy as np

from cooper_jax.data import mixture
from cooper_jax.data.sources import DataConfig
from cooper_jax.eval import questions
from cooper_jax.grading import intervals
from cooper_jax.world.questions.families import PHRASINGS

HELDOUT = "heldout"
SOURCE = "world"  # the source that has this split
PAIR = 1  # instance that shows the unseen pair


def open_items(data: DataConfig, count: int, *, seed: int):
  """`count` questions of the split, none where the data is not the world's."""
  if SOURCE not in data.names or not count:
    return []
  world = dataclasses.replace(data, source=SOURCE, weights=())
  source = mixture.open_tolerant(world, HELDOUT)
  return questions.items_of(source, count, seed=seed)


def parts(items) -> dict[str, np.ndarray]:
  """Rows by what is new in them: the pair asked about, the words, both."""
  pair = np.array(
    [PAIR in item.question.evidence.get("ids", ()) for item in items], bool
  )
  words = np.array(
    [item.question.template == PHRASINGS - 1 for item in items], bool
  )
  named = {"pair": pair, "words": words, "both": pair & words}
  return {
    name: np.flatnonzero(rows) for name, rows in named.items() if rows.any()
  }


def scores(items, hits, name: str) -> dict:
  """Accuracies as entries of the summary; name: a stage or a baseline.

  heldout/accuracy/<name>, heldout/accuracy/<pair|words|both|macro>/<name> and
  heldout/accuracy/<family>/<name>.
  """
  found = intervals.rate(f"{HELDOUT}/accuracy/{name}", hits)
  groups = questions.families(items)
  for part, rows in (parts(items) | groups).items():
    found |= intervals.rate(f"{HELDOUT}/accuracy/{part}/{name}", hits[rows])
  chosen = questions.choices(items)
  if chosen:
    found |= intervals.macro(f"{HELDOUT}/accuracy/macro/{name}", hits, chosen)
  return found
