"""Exploration reward: +-size for drawing maps too rarely or too often.

The cooperative perception-reasoning term of the paper (arXiv 2512.04563). Of
the G rollouts of one prompt, u_i says whether rollout i drew a map in a
well-formed turn that is not its last, and c = sum u_i. With tau = ceil(share
G), by default the paper's 3 of 8, for both flags:

  flag "positive" (a map helps), u_i = 1, c < tau:  +size
  flag "negative" (a map hurts), u_i = 1, c > tau:  -size
  everything else, and flag "boundary":              0

With one tau below a half nothing keeps a policy drawing in most answers where
maps help, and most rollouts of a group may draw where they hurt: a higher share
for the one and a lower `negative_share` for the other part the two.

It depends on the whole group: pass all rows of a prompt at once.

Ways to game it: many maps (u_i is 0 or 1); a map at the very end to collect
the bonus (the last turn does not count); a bad map (it does pay +size, once,
and only until tau rollouts do it; the answer must pay for the rest, so keep
size small).
"""

import dataclasses
import math

import numpy as np

from cooper_jax.data.flags import FLAG_NAMES
from cooper_jax.errors import UserError
from cooper_jax.rollouts.response import turns


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the exploration reward."""

  size: float = 0.2  # bonus for a map that helps, malus for one that hurts
  share: float = 0.375  # share of the group's rollouts that is tau
  # The same where a map hurts; -1 = share.
  negative_share: float = -1.0

  def __post_init__(self):
    if not 0 <= self.share <= 1:
      raise UserError(
        f"exploration share is {self.share}, allowed: 0 to 1 (of the group)"
      )
    if not 0 <= self.negative_share <= 1 and self.negative_share != -1:
      raise UserError(
        f"exploration negative_share is {self.negative_share}, allowed: 0 to 1"
        " (of the group), and -1, as share"
      )
    if self.size < 0:
      raise UserError(f"exploration size is {self.size}, it must be >= 0")

  @property
  def share_where_negative(self) -> float:
    """The share that may draw where a map hurts."""
    return self.share if self.negative_share == -1 else self.negative_share


def reward(view, columns, config: Config) -> np.ndarray:
  """The group-dependent bonus or malus [R]. Column: flag."""
  used_R = np.array(
    [used_map(text, maps) for text, maps in zip(view.text, view.maps)], bool
  )
  result_R = np.zeros(len(view), np.float32)
  for group in np.unique(view.group):
    rows = np.flatnonzero(view.group == group)
    fewest, most = (
      math.ceil(share * len(rows) - 1e-9)
      for share in (config.share, config.share_where_negative)
    )
    count = int(used_R[rows].sum())
    for row in rows[used_R[rows]]:
      flag = columns["flag"][row]
      if flag not in FLAG_NAMES:
        raise UserError(
          f"flag is {flag!r}, allowed are {', '.join(FLAG_NAMES)}"
        )
      if flag == "positive" and count < fewest:
        result_R[row] = config.size
      elif flag == "negative" and count > most:
        result_R[row] = -config.size
  return result_R


def used_map(text: str, maps) -> bool:
  """Whether a map was drawn in a well-formed turn that is not the last."""
  found, rest = turns(text)
  before = found if rest else found[:-1]
  return bool(maps) and any(turn.action != "answer" for turn in before)
