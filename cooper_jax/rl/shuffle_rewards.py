"""Shuffled rewards: the control that a gain of reinforcement has to beat.

With the same rewards dealt to other rollouts of the same prompt the policy
changes as much, and any gain that remains is not owed to what was rewarded
(after "Spurious rewards", arXiv 2506.10947). A group keeps its values, so its
advantages are the same numbers, and a group without variance has none here
either.
"""

import dataclasses

import numpy as np

from cooper_jax.rl.rollout_batch import RolloutBatch


def shuffled(score, *, seed: int):
  """Wraps RolloutBatch -> RolloutBatch scored: its scores change places.

  The metrics stay those of the true scores. seed: of the run.
  """

  def score_by_chance(rollouts: RolloutBatch) -> RolloutBatch:
    scored = score(rollouts)
    total_R, rewards_RE, quality_RM = shuffle(
      seed + scored.questions.turn,
      scored.questions.number,
      scored.total_R,
      scored.rewards_RE,
      scored.quality_RM,
      scored.rollout.map_modality,
      scored.group_R,
    )
    return dataclasses.replace(
      scored, total_R=total_R, rewards_RE=rewards_RE, quality_RM=quality_RM
    )

  return score_by_chance


def shuffle(seed: int, step: int, total, columns, quality, modality, groups):
  """Deals rewards anew among the rollouts of each group.

  Args:
    seed, step: that decide who gets what.
    total: [R], columns: [R, E]; they move together.
    quality: [R, M]; moves among a group's maps of one modality, since what
      a map is worth is compared with others of its kind.
    modality: [R, M] MODALITY_ID of each map, -1 none.
    groups: [R] id of each rollout's prompt.

  Returns:
    total, columns and quality, of the same values in another order.
  """
  rng = np.random.Generator(np.random.Philox(key=[seed + 101, step]))
  order, dealt = np.arange(len(total)), np.array(quality)
  for group in np.unique(groups):
    rows = np.flatnonzero(groups == group)
    order[rows] = rng.permutation(rows)
    for kind in np.unique(modality[rows][modality[rows] >= 0]):
      here = (modality == kind) & (groups == group)[:, None]
      dealt[here] = rng.permutation(np.asarray(quality)[here])
  return np.asarray(total)[order], np.asarray(columns)[order], dealt
