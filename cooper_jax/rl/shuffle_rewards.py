"""The control of a claim that reinforcement taught something: chance rewards.

With the same rewards dealt to other rollouts of the same prompt the policy
changes as much, and any gain that remains is not owed to what was rewarded
(after "Spurious rewards", arXiv 2506.10947). A group keeps its values, so its
advantages are the same numbers, and a group without variance teaches nothing
here as there.
"""

import numpy as np


def shuffle(seed: int, step: int, total, columns, quality, modality, groups):
  """Deals rewards anew among the rollouts of each group.

  Args:
    total [R], columns [R, E]: move together.
    quality [R, M]: moves among a group's maps of one modality, since what
      a map is worth is compared with others of its kind.
    modality [R, M]: modality of each map, -1 none.
    groups [R]: id of each rollout's prompt.

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
