"""Confidence intervals of rates, means and paired differences.

All draws come from Philox with a fixed key, so a report made twice from the
same answers reads the same.
"""

import math

import numpy as np

_Z95 = 1.959963984540054
_BLOCK = 2_000_000  # indices drawn at once: 16 MB


def wilson(successes: float, n: int, z: float = _Z95) -> tuple[float, float]:
  """Wilson score interval of a rate; (0, 1) where n is 0."""
  if not n:
    return 0.0, 1.0
  rate = successes / n
  scale = 1 + z**2 / n
  centre = (rate + z**2 / (2 * n)) / scale
  half = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / scale
  return max(0.0, centre - half), min(1.0, centre + half)


def rate(key: str, hits) -> dict:
  """{key: mean, key/n: count, key/ci95: Wilson interval} of hits [n] 0 or 1."""
  hits = np.asarray(hits, np.float64)
  low, high = wilson(hits.sum(), hits.size)
  return {
    key: float(hits.mean()),
    f"{key}/n": int(hits.size),
    f"{key}/ci95": [low, high],
  }


def macro(key: str, hits, groups) -> dict:
  """{key: mean of the groups' means, key/n, key/ci95: normal interval}.

  hits: [n], 0 or 1; groups: name -> its rows of them. Every group counts
  alike, however many rows it has.
  """
  hits = np.asarray(hits, np.float64)
  means = np.array([hits[rows].mean() for rows in groups.values()])
  # Laplace's estimate: a group of all hits is not sure of the next one.
  sizes = np.array([len(rows) for rows in groups.values()])
  smooth = (means * sizes + 1) / (sizes + 2)
  half = _Z95 * math.sqrt(np.sum(smooth * (1 - smooth) / sizes)) / len(means)
  mean = float(means.mean())
  return {
    key: mean,
    f"{key}/n": int(sizes.sum()),
    f"{key}/ci95": [max(0.0, mean - half), min(1.0, mean + half)],
  }


def _draws(n: int, draws: int, seed: int):
  """Blocks of resampled indices [block, n], `draws` rows in all."""
  rng = np.random.Generator(np.random.Philox(key=seed))
  block = max(1, _BLOCK // n)
  for start in range(0, draws, block):
    yield rng.integers(0, n, (min(block, draws - start), n))


def bootstrap(
  values, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
  """Percentile bootstrap interval of the mean of values [n], NaN left out."""
  values = np.asarray(values, np.float64)
  values = values[~np.isnan(values)]
  if not values.size:
    return float("nan"), float("nan")
  means = [values[index].mean(1) for index in _draws(values.size, draws, seed)]
  tail = (1 - level) / 2
  low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
  return float(low), float(high)


def bootstrap_difference(
  one, other, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
  """Interval of mean(one) - mean(other) of paired [n]: the same questions."""
  one, other = _paired(one, other)
  return bootstrap(one - other, draws=draws, seed=seed, level=level)


def nested_bootstrap(
  runs,
  *,
  statistic=np.mean,
  draws: int = 2000,
  seed: int = 0,
  level: float = 0.95,
) -> tuple[float, float]:
  """Interval of the mean over runs of each run's mean, or other statistic.

  runs: a list of arrays [n] or [n, ...], one a run. Runs are drawn with
  replacement and then the values of each; with few runs it is still too
  narrow, as every bootstrap. statistic: of arrays [draws, n, ...], with
  axis=1 one number a draw, as np.mean and np.median.
  """
  rng = np.random.Generator(np.random.Philox(key=seed))
  runs = [np.asarray(run) for run in runs]
  block = max(1, _BLOCK // sum(run.size for run in runs))
  means = []
  for start in range(0, draws, block):
    chosen = np.empty((min(block, draws - start), len(runs)), int)
    drawn = [[] for _ in runs]  # of each run, what was drawn of it, in order
    for row in chosen:
      row[:] = rng.integers(0, len(runs), len(runs))
      for c in row:
        drawn[c].append(rng.integers(0, len(runs[c]), len(runs[c])))
    found = np.empty(chosen.shape)
    for c, index in enumerate(drawn):
      if index:
        found[chosen == c] = statistic(runs[c][np.array(index)], axis=1)
    means.append(found.mean(axis=1))
  tail = (1 - level) / 2
  low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
  return float(low), float(high)


def permutation(one, other, *, draws: int = 2000, seed: int = 0) -> float:
  """Two-sided p that paired [n] have the same mean, by flipping signs."""
  one, other = _paired(one, other)
  difference = one - other
  difference = difference[difference != 0]
  if not difference.size:
    return 1.0
  rng = np.random.Generator(np.random.Philox(key=seed))
  seen = abs(difference.sum())
  block = max(1, _BLOCK // difference.size)
  beyond = 0
  for start in range(0, draws, block):
    shape = (min(block, draws - start), difference.size)
    signs = rng.integers(0, 2, shape) * 2 - 1
    beyond += int((abs((signs * difference).sum(1)) >= seen - 1e-12).sum())
  return (beyond + 1) / (draws + 1)


def sign_test(gained: int, lost: int) -> float:
  """Exact two-sided p of so many changes each way (McNemar's, binomial)."""
  n, fewer = gained + lost, min(gained, lost)
  below = sum(
    math.exp(
      math.lgamma(n + 1)
      - math.lgamma(k + 1)
      - math.lgamma(n - k + 1)
      - n * math.log(2)
    )
    for k in range(fewer + 1)
  )
  return min(1.0, 2 * below)


def _paired(one, other):
  one = np.asarray(one, np.float64)
  other = np.asarray(other, np.float64)
  if one.shape != other.shape:
    raise ValueError(f"paired values differ: {one.shape} and {other.shape}")
  keep = ~(np.isnan(one) | np.isnan(other))
  return one[keep], other[keep]
