"""Segmentation: how good the drawn segmentation map is, in [0, 1].

The mean of `modalities.segmentation.quality` over the rollout's maps of this
kind; a rollout that drew none, or has no true map to compare with, abstains.

Its best use is the advantage of the map's own codes (`rl/advantages.py`),
where only maps are compared with maps. Given a weight in the summed reward it
pays for drawing as such, needed or not: abstaining counts as 0 there.

Ways to game it: a constant map (quality 0), many maps (the mean counts, not
the sum), a good map that the answer then ignores (this can not see it; the
answer reward does not rise).
"""

import dataclasses

import numpy as np

from cooper_jax.grading.map_quality import mean_quality


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the segmentation reward."""


def reward(view, columns, config: Config) -> np.ndarray:
  """Mean quality [R], NaN without a map. Column: segmentation (true maps)."""
  del config
  return mean_quality(view, columns, "segmentation")
