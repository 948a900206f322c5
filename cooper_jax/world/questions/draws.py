"""The random numbers of a question family, for each scene of a batch.

The families that are as old as the world draw from the layout's uniforms, each
from a place of its own. Every other one has a Philox stream for each scene.
"""

from __future__ import annotations

import hashlib

import numpy as np

from cooper_jax.world.config import WorldConfig
from cooper_jax.world.layout.sample import Layout

# Of the layout's uniforms: four lists (side, phrasing, order, new words) with
# an entry for each allotted family, after the uniforms of their candidates.
_LISTS, _ALLOTTED = 916, 16


class Draws:
  """Hands out each scene's uniforms of one family in a fixed order."""

  def __init__(self, take, lists_B4: np.ndarray):
    self._take = take
    self.lists_B4 = lists_B4  # side, phrasing, order, new words

  def take(self, *shape: int) -> np.ndarray:
    """The next uniforms [B, *shape]."""
    return self._take(shape)


def of(
  family: str, allotted, layout: Layout, config: WorldConfig, split: str
) -> Draws:
  """The draws of a family; `allotted` is its file's ALLOTTED, or None."""
  if allotted is None:
    return _own(family, layout, config, split)
  place, number = allotted
  lists = layout.draws[:, _LISTS + number :: _ALLOTTED][:, :4]

  def take(shape):
    nonlocal place
    end = place + int(np.prod(shape, dtype=np.int64))
    assert end <= _LISTS, f"{family} draws what is allotted to another"
    part, place = layout.draws[:, place:end], end
    return part.reshape(-1, *shape)

  return Draws(take, lists)


def _own(family, layout, config, split):
  streams = [
    stream(config.seed, split, int(index), family) for index in layout.index
  ]

  def take(shape):
    return np.stack([each.random(shape) for each in streams])

  return Draws(take, take((4,)))


def stream(seed: int, split: str, index: int, family: str):
  """The generator of one scene and one family, whatever else is asked."""
  name = f"{seed}/{split}/{index}/{family}".encode()
  key = np.frombuffer(hashlib.sha256(name).digest()[:16], "<u8")
  return np.random.Generator(np.random.Philox(key=key))
