"""Quality of each drawn map against the true map, in rewards and advantages."""

from collections.abc import Mapping, Sequence

import numpy as np


def map_quality(view, columns: Mapping[str, Sequence]) -> np.ndarray:
  """Quality [R, M] in [0, 1] of the k-th map of each rollout, NaN = none.

  NaN where no map was drawn, where the columns hold no true map of its
  modality for the row, or where the modality abstains.
  """
  most = max((len(maps) for maps in view.maps), default=0)
  quality_RM = np.full((len(view), most), np.nan, np.float32)
  for row, maps in enumerate(view.maps):
    for k, drawn in enumerate(maps):
      if drawn.modality not in columns:
        continue
      target = columns[drawn.modality][row]
      if target is not None:
        quality_RM[row, k] = drawn.module.quality(drawn.target, target)
  return quality_RM


def mean_quality(view, columns, modality: str) -> np.ndarray:
  """Mean quality [R] of a rollout's maps of one modality, NaN without one.

  The mean and not the sum: drawing many maps does not add up.
  """
  result_R = np.full(len(view), np.nan, np.float32)
  if modality not in columns:
    return result_R
  for row, maps in enumerate(view.maps):
    target = columns[modality][row]
    if target is None:
      continue
    scores = [
      m.module.quality(m.target, target) for m in maps if m.modality == modality
    ]
    scores = [score for score in scores if not np.isnan(score)]
    if scores:
      result_R[row] = np.mean(scores)
  return result_R
