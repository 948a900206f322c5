"""Candidates of a batch of scenes: what a question family chooses from.

A candidate is an object, a pair, a triple or a name, with the probability that
it is accepted. Scenes hold what families compare, computed once a batch.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from cooper_jax.world.config import MAX_OBJECTS, WorldConfig
from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.questions import debias
from cooper_jax.world.questions.measure import Facts

FREE = ~np.eye(MAX_OBJECTS, dtype=bool)  # pairs of two different objects
THREE = (
  FREE[:, :, None] & FREE[:, None, :] & FREE[None, :, :]
)  # triples of three
NEAR_RATIO = 1.15  # of depths: less is a tie
APART_RATIO = 1.25  # of distances and heights
ASIDE = 0.08  # of the image's side


@dataclasses.dataclass(frozen=True)
class Candidates:
  """What a family could ask of B scenes.

  accept: [B, ...], probability of each candidate; its axes but the first are
    the objects, or names, that a question is about.
  values: name -> [B, ...], what the question is worded with: `first` (whether
    the relation holds of the first object), `value`, `limit`.
  objects: how many of the axes are objects; the held-out split prefers
    questions about its own. 0: none is, as for counts.
  prefer: bool, as `accept`: what the held-out split asks for first, or None.
  """

  accept: np.ndarray
  values: dict[str, np.ndarray]
  objects: int = 0
  prefer: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Scenes:
  """A batch of B scenes of MAX_OBJECTS slots each, as families see them."""

  layout: Layout
  facts: Facts
  config: WorldConfig
  split: str

  @functools.cached_property
  def features(self) -> np.ndarray:
    """What names and 2-D boxes tell of each object [B, slots, FEATURES]."""
    return debias.object_features(self.facts)

  @functools.cached_property
  def pair(self) -> np.ndarray:
    """bool [B, slots, slots]: two different objects that can be asked about."""
    named = self.facts.named
    return named[:, :, None] & named[:, None, :] & FREE

  @functools.cached_property
  def depth_ratio(self) -> np.ndarray:
    """Depth of the first to that of the second [B, slots, slots]."""
    z = np.maximum(self.facts.depth, 1e-3)
    return z[:, :, None] / z[:, None, :]

  @functools.cached_property
  def between(self) -> np.ndarray:
    """From the second's centre to the first's [B, slots, slots, 3], metres."""
    centre = self.facts.centre
    return centre[:, :, None, :] - centre[:, None, :, :]

  @functools.cached_property
  def distance(self) -> np.ndarray:
    """Between centres [B, slots, slots], metres."""
    return np.sqrt((self.between * self.between).sum(-1))


def uneven(ratio: np.ndarray, least: float) -> np.ndarray:
  """Whether a ratio is no tie: above `least`, or below its inverse."""
  return (ratio > least) | (ratio < 1 / least)


def choice(rates, scenes: Scenes, valid, first_wins, **values) -> Candidates:
  """Pairs of which the first wins or not, as likely at every shortcut score."""
  logit = debias.score(rates, scenes.features)
  logit = logit[:, :, None] - logit[:, None, :]
  truth = np.where(first_wins, logit, -logit)
  return Candidates(
    valid * debias.accept(truth), {"first": first_wins, **values}, objects=2
  )


def single(rates, span, scenes: Scenes, value: np.ndarray) -> Candidates:
  """Objects with a length [B, slots] each, log-uniform over `span` metres."""
  weight = debias.accept_length(rates, span, value)
  return Candidates(
    scenes.facts.named.astype(float) * weight, {"value": value}, objects=1
  )
