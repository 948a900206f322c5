"""The control of a claim that reinforcement taught something: chance rewards.

With the same rewards dealt to other rollouts the policy changes as much, and
any gain that remains is not owed to what was rewarded (after "Spurious
rewards", arXiv 2506.10947).
"""

import numpy as np


def deal(seed: int, step: int, total, columns, quality, slots):
  """Deals rewards anew among the R rollouts of a step.

  Args:
    total [R], columns [R, rewards]: move together.
    quality [R, maps]: moves among the maps of one modality, since what a map
      is worth is compared with others of its kind.
    slots [R, maps]: modality of each map, -1 none.

  Returns:
    total, columns and quality, of the same values in another order.
  """
  rng = np.random.Generator(np.random.Philox(key=[seed + 101, step]))
  order = rng.permutation(len(total))
  dealt = np.array(quality)
  for slot in np.unique(slots[slots >= 0]):
    here = slots == slot
    dealt[here] = rng.permutation(np.asarray(quality)[here])
  return np.asarray(total)[order], np.asarray(columns)[order], dealt
