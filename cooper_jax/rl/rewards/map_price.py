"""Map price: what a response pays for each map that it draws, as -price.

A policy that is paid for right answers alone draws wherever drawing does no
harm. With a price it draws where a map raises the chance to be right by more
than the price, in the unit of the answer's reward: at 0.05, by 5 points
(rational metareasoning, arXiv 2410.05563; AdaCtrl and others have the same for
the length of thoughts).

Ways to game it: not to draw is free, and where all answers of a group are
wrong not to draw is all that is left to learn: keep the price well below what
a map is worth where it is needed. The quality of a map changes nothing here.
"""

import dataclasses
import math

import numpy as np

from cooper_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the price of drawn maps."""

  price: float = 0.05  # paid for each map, in rewards
  free: int = 0  # maps of a response that cost nothing, the first so many

  def __post_init__(self):
    if not 0 <= self.price < math.inf:
      raise UserError(
        f"map_price price is {self.price}; allowed: 0 and more, as 0.05 of a"
        " right answer's 1"
      )
    if self.free < 0:
      raise UserError(f"map_price free is {self.free}; allowed: 0 and more")


def reward(view, columns, config: Config) -> np.ndarray:
  """-price for each map past the free ones [R]."""
  del columns
  drawn_R = np.array([len(maps) for maps in view.maps], np.float32)
  paid_R = np.maximum(drawn_R - config.free, 0)
  return (0.0 - config.price * paid_R).astype(np.float32)
