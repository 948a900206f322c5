"""Map effect: the answer with the own maps less that with another image's.

Of a rollout that drew maps, 1 where its answer is right and the same question
with the maps of another image is answered wrongly, -1 the other way round, 0
where the maps made no difference; it abstains where no map was drawn. Each such
rollout is asked once more, which takes about as long as sampling it
(`rl/exchanged_maps.py`; the training side of the token replacement test,
docs/metrics.md).

Ways to game it: to answer at random behind a strange map, and rightly behind
the own one, is what it pays for, and it can't be told from reading the map;
maps that carry the answer in a code of their own pay as well as good ones, so
keep their own reward on. Of answers with two options half the exchanged ones
are right by chance.
"""

import dataclasses

import numpy as np

from cooper_jax.rl.rewards import answer
from cooper_jax.rollouts.response import Responses


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the effect of maps."""

  tolerance: float = 0.1  # relative error of a length that still is right

  def __post_init__(self):
    _ = self.answer  # refuses what can't be

  @property
  def answer(self) -> answer.Config:
    return answer.Config(tolerance=self.tolerance)


def reward(view, columns, config: Config) -> np.ndarray:
  """1, 0 or -1 [R], NaN where nothing was exchanged. Column: exchanged."""
  texts = columns.get("exchanged", [None] * len(view))
  other = Responses.from_texts([text or "" for text in texts])
  own_R, other_R = (
    answer.reward(each, columns, config.answer) for each in (view, other)
  )
  asked_R = np.array([text is not None for text in texts], bool)
  return np.where(asked_R, own_R - other_R, np.nan).astype(np.float32)
