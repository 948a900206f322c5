"""Selection of questions: those of each scene, for a whole batch at once.

Every family lists its candidates with the probability to accept each;
u / accept < 1 accepts, and of the accepted candidates the one with the smallest
u / accept is asked.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world.config import MAX_OBJECTS, WorldConfig
from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.questions import draws, families
from cooper_jax.world.questions.candidates import Candidates, Scenes
from cooper_jax.world.questions.measure import Facts

_FAVOUR = 0.02  # of a held-out name's rank: it is nearly always asked about


def choose(
  layout: Layout, facts: Facts, config: WorldConfig, split: str
) -> dict[str, dict[str, np.ndarray]]:
  """Picks at most one question of each family per scene.

  Returns:
    For each family a dict of arrays over the scenes: `asked` (there is an
    accepted candidate), `kept` (the family is wanted here), `items` (indices
    of slots, or for counts of names), `side` (0 or 1), `phrasing` and `order`
    (uniforms), `novel` (whether new words are wanted), and the values that the
    family words its question with.
  """
  scenes = Scenes(layout, facts, config, split)
  picks = {}
  for name in families.names():
    family = families.find(name)
    own = draws.of(
      name, getattr(family, "ALLOTTED", None), layout, config, split
    )
    found = family.candidates(scenes, own)
    keep = getattr(family, "RATES", {}).get("keep", 1.0)
    picks[name] = _pick(found, own, keep, heldout=split == "heldout")
    side, phrasing, order, novel = own.lists_B4.T
    picks[name] |= {
      "side": np.where(side < 0.5, 0, 1),
      "phrasing": phrasing,
      "order": order,
      "novel": novel < 0.5,
    }
  return picks


def _pick(found: Candidates, own: draws.Draws, keep: float, *, heldout: bool):
  """Chooses by one uniform per candidate."""
  accept = found.accept
  uniform = own.take(*accept.shape[1:])
  with np.errstate(divide="ignore", invalid="ignore"):
    rank = np.where(uniform < accept, uniform / accept, np.inf)
  # Only the order changes: who is accepted stays as balanced as it is.
  if found.objects and heldout:
    rank = rank * _favoured(found.objects)
  if found.prefer is not None:
    rank = rank * np.where(found.prefer, _FAVOUR, 1)
  flat = rank.reshape(len(rank), -1)
  best = flat.argmin(1)
  rows = np.arange(len(flat))
  picked = {
    "asked": flat[rows, best] < np.inf,
    "kept": own.take() < keep,
    "items": np.stack(np.unravel_index(best, accept.shape[1:]), -1),
  }
  for name, values in found.values.items():
    picked[name] = values.reshape(len(flat), -1)[rows, best]
  return picked


def _favoured(objects: int) -> np.ndarray:
  """Factors [slots, ...] of the ranks: slot 0 is the held-out object."""
  favour = np.ones((MAX_OBJECTS,))
  favour[0] = _FAVOUR
  shape = favour
  for _ in range(objects - 1):
    shape = np.minimum(shape[..., None], favour)
  return shape
