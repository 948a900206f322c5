"""Length reward: 0 up to a soft limit, then falling to -penalty at the limit.

DAPO's overlong shaping (arXiv 2503.14476), counted in tokens, never in
characters. A rollout that was cut off gets the whole penalty.

Ways to game it: shorter answers are free to be wrong, so its weight must stay
below the answer's; map codes do not count, or not drawing would be paid.
"""

import dataclasses

import numpy as np

from cooper_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the length reward."""

  limit: int = 256  # text tokens of a response
  buffer: int = 64  # the penalty grows over the last `buffer` tokens
  penalty: float = 1.0  # taken from a response at the limit

  def __post_init__(self):
    if not 0 < self.buffer <= self.limit:
      raise UserError(
        f"length buffer is {self.buffer}, allowed is 1..limit ({self.limit})"
      )
    if self.penalty < 0:
      raise UserError(
        f"length penalty is {self.penalty}, which pays for long responses;"
        " allowed: 0 and more"
      )


def reward(view, columns, config: Config) -> np.ndarray:
  """0 for a short response, down to -penalty for a long one [R]."""
  del columns
  over_R = view.text_tokens - (config.limit - config.buffer)
  share_R = np.clip(over_R / config.buffer, 0.0, 1.0)
  share_R = np.where(view.truncated, 1.0, share_R)
  return (0.0 - config.penalty * share_R).astype(np.float32)
