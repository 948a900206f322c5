"""Map quality: how good the drawn maps of one modality are, in [0, 1].

Each modality has this reward under its own name. It is the mean of the
modality's `quality` over the rollout's maps of this kind; a rollout that drew
none, or has no true map to compare with, abstains.

Its best use is the advantage of the map's own codes (`rl/advantages.py`),
where only maps are compared with maps. Given a weight in the summed reward it
pays for drawing as such, needed or not: abstaining counts as 0 there.

Ways to game it: a constant map (quality 0), many maps (the mean counts, not
the sum), a good map that the answer then ignores (this can not see it; the
answer reward does not rise).
"""

import dataclasses
import types

import numpy as np

from cooper_jax.grading.map_quality import mean_quality


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the reward of a modality's maps."""

  modality: str = ""  # the name of a file in cooper_jax/modalities


def of(modality: str) -> types.SimpleNamespace:
  """The reward that has a modality's name, as a plug-in."""
  field = ("modality", str, dataclasses.field(default=modality))
  config = dataclasses.make_dataclass(
    "Config", [field], bases=(Config,), frozen=True
  )
  return types.SimpleNamespace(__doc__=__doc__, Config=config, reward=reward)


def reward(view, columns, config: Config) -> np.ndarray:
  """Mean quality [R], NaN without a map. Column: that of the modality."""
  return mean_quality(view, columns, config.modality)
