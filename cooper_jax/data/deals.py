"""Deals: how many questions of a row are answered in which mode of trace."""

import functools
import itertools

import numpy as np


@functools.lru_cache(1 << 8)
def of(shares: tuple, count: int) -> tuple:
  """The lots of modes that `count` questions may be answered in.

  Each is (modes, chance). Taken by these chances a mode comes share * count
  times on average, and no row is more than one trace away from that, in any
  run of neighbouring modes (systematic sampling): the points u, u + 1, ... of
  one random u in [0, 1) fall into spans that are share * count long.

  In: (("text", 0.5), ("depth", 0.5)), 3
  Out: (("text", "text", "depth"), 0.5), (("text", "depth", "depth"), 0.5)
  """
  names = [name for name, share in shares if share > 0]
  sizes = np.array([share for _, share in shares if share > 0])
  ends = np.cumsum(sizes) / sizes.sum() * count
  ends[-1] = count
  # Between two of these the same points fall into the same spans.
  turns = np.unique(np.round([0.0, *(ends % 1), 1.0], 9))
  lots = []
  for low, high in itertools.pairwise(turns):
    before = np.ceil(ends - (low + high) / 2).astype(int)
    counts = np.diff([0, *before])
    modes = [n for n, c in zip(names, counts, strict=True) for _ in range(c)]
    lots.append((tuple(modes), high - low))
  return tuple(lots)
