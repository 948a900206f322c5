"""Share of a true map that says something, whatever was padded around it.

`data.fit` = "pad" puts a picture as a band across the middle of the square: of
a picture of 3 x 1 a third of the pixels is a map, and no more can be valid.
"""

import numpy as np


def valid_share(valid_HW: np.ndarray) -> float:
  """Share of the valid pixels in the band of the middle that has them all.

  The band is of whole rows or of whole columns, whichever is the smaller, and
  as far from one side as from the other; without padding it is mostly all.
  """
  height, width = valid_HW.shape
  rows, columns = _band(valid_HW.any(1)), _band(valid_HW.any(0))
  return float(valid_HW.sum() / min(rows * width, columns * height))


def _band(used: np.ndarray) -> int:
  """How many lines of the middle hold all that are used, of bool [n]."""
  return used.size - 2 * int(np.argmax(used | used[::-1]))
