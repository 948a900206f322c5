"""Map price: -1 for each map that a response draws; its weight is the price.

A policy that is paid for right answers alone draws wherever drawing does no
harm. With a price it draws where a map raises the chance to be right by more
than the price, in the unit of the answer's reward: with a weight of 0.05, by 5
points (rational metareasoning, arXiv 2410.05563; AdaCtrl and others have the
same for the length of thoughts). Not with the advantage `gdpo`, which divides
each reward by its own spread: there the weight is no price.

Ways to game it: not to draw is free, and where all answers of a group are
wrong not to draw is all that is left to learn: keep the price well below what
a map is worth where it is needed. The quality of a map changes nothing here.
"""

import dataclasses

import numpy as np

from cooper_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the price of drawn maps."""

  free: int = 0  # maps of a response that cost nothing, the first so many

  def __post_init__(self):
    if self.free < 0:
      raise UserError(f"map_price free is {self.free}; allowed: 0 and more")


def reward(view, columns, config: Config) -> np.ndarray:
  """-1 for each map past the free ones [R]."""
  del columns
  drawn_R = np.array([len(maps) for maps in view.maps], np.float32)
  return np.float32(0) - np.maximum(drawn_R - config.free, 0)
