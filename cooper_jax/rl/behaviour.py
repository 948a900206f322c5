"""Behaviour of the policy in its rollouts: figures of maps, lengths and hits.

`maps/drew` is the share of rollouts that drew a map, `maps/each` the maps of a
rollout, `maps/<modality>` those of one kind, `maps/<flag>` the share that drew
among questions where a map helps (positive), hurts or is neither; `length/text`
and `length/codes` count sampled tokens; `truncated` is the share that a budget
stopped; `answer/<flag>`, `answer/drew` and `answer/text` (no map) are the mean
answer reward of such rollouts.
"""

import numpy as np

from cooper_jax.models.token_kinds import CODE, TEXT
from cooper_jax.sampling.grammar import EOS


def behaviour(rollout, flag_R, *, names, hits_R=None) -> dict:
  """Figures by name, rates as (sum, weight) pairs, of R rollouts on the host.

  rollout: sampling.state.Rollout of numpy arrays. flag_R: of the question of
  each. names: of modalities, by MODALITY_ID. hits_R: the answer reward, NaN
  where it abstained; None = there is no such reward.
  """
  modality_RM = np.asarray(rollout.map_modality)
  flag_R, state_RT = np.asarray(flag_R), np.asarray(rollout.state)
  drew_R = (modality_RM >= 0).any(axis=1)
  figures = {
    "maps/drew": drew_R.mean(),
    "maps/each": (modality_RM >= 0).sum(axis=1).mean(),
    "length/text": (state_RT == TEXT).sum(axis=1).mean(),
    "length/codes": (state_RT == CODE).sum(axis=1).mean(),
    "truncated": (np.asarray(rollout.stop) != EOS).mean(),
  }
  for modality_id in np.unique(modality_RM[modality_RM >= 0]):
    count_R = (modality_RM == modality_id).sum(axis=1)
    figures[f"maps/{names[int(modality_id)]}"] = count_R.mean()
  parts = {str(flag): flag_R == flag for flag in np.unique(flag_R)}
  for flag, rows_R in parts.items():
    figures[f"maps/{flag}"] = drew_R[rows_R].sum(), float(rows_R.sum())
  if hits_R is not None:
    for name, rows_R in (parts | {"drew": drew_R, "text": ~drew_R}).items():
      known_R = rows_R & ~np.isnan(hits_R)
      if known_R.any():
        right = float(hits_R[known_R].sum())
        figures[f"answer/{name}"] = right, float(known_R.sum())
  return {
    name: value if isinstance(value, tuple) else float(value)
    for name, value in figures.items()
  }
