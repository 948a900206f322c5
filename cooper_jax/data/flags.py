"""Flags of questions: whether maps help with them, by a gain in right answers.

The names are the paper's (arXiv 2512.04563), whose exploration reward goes by
them (`rl/rewards/exploration.py`).
"""

FLAG_NAMES = ("positive", "negative", "boundary")

_ROUNDING = 1e-6  # of shares of n answers, which differ by 1 / n at least


def of_gain(gain: float, margin: float) -> str:
  """The flag, by how much more often an answer is right with maps.

  A gain of just the margin is "boundary", however the two shares were rounded:
  in single precision 3 of 5 less 2 of 5 is more than 0.2.
  """
  if abs(gain) <= margin + _ROUNDING:
    return "boundary"
  return "positive" if gain > 0 else "negative"
