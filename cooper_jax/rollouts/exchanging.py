"""Exchange: whose map stands in place of one's own."""

import numpy as np


def of_another(ids) -> np.ndarray | None:
  """Index [n] of an item with another id, for each; None if all are the same.

  Every place is taken once: the maps as a whole stay the same.
  """
  count = len(ids)
  order = sorted(range(count), key=lambda i: ids[i])  # equal ids side by side
  most = max(ids.count(each) for each in set(ids))
  if 2 * most > count:
    return None
  result = np.empty(count, int)
  for place, index in enumerate(order):
    result[index] = order[(place + most) % count]
  return result
