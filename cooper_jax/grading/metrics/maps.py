"""Scores of drawn maps of any modality, each with n and an interval.

A modality gives sums per image that add up and turns sums into metrics. So
one product a draw resamples whole images, which is right for mIoU too, where no
per-image value exists whose mean it would be.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

DRAWS = 500
SEED = 0  # Philox: the same maps give the same interval


def score(modality, predictions, targets, objects=None) -> dict:
  """Metrics of maps [n,H,W,...], flat: `m`, `m/n`, `m/ci95` = [low, high].

  `modality` is a module of cooper_jax/modalities; `objects` [n,H,W] marks
  object pixels. Parts of a metric (`iou/box`) come without an interval.
  """
  per_image = [
    modality.statistics(
      predictions[index : index + 1],
      targets[index : index + 1],
      None if objects is None else objects[index : index + 1],
    )
    for index in range(len(targets))
  ]
  return summarize(modality, per_image)


def summarize(modality, per_image) -> dict:
  """The same from the statistics of each image.

  One whose statistics are all 0 has nothing to be compared with, and is not
  counted in n; where there is no other, metrics are NaN.
  """
  images = {
    name: _Images.of([each[name] for each in per_image])
    for name in per_image[0]
  }
  count = len(per_image)
  told = sum(any(np.any(x) for x in each.values()) for each in per_image)
  sums = lambda times: {n: each.sum(times) for n, each in images.items()}  # noqa: E731
  values = modality.metrics(sums(np.ones(count)))
  rng = np.random.Generator(np.random.Philox(key=SEED))
  times = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)
  drawn = [modality.metrics(sums(each)) for each in times.astype(np.float64)]
  result = {}
  for name, value in values.items():
    result[name] = value
    if "/" in name:
      continue
    result[f"{name}/n"] = told
    draws = [each.get(name, math.nan) for each in drawn]
    some = [x for x in draws if not math.isnan(x)] or [math.nan]
    bounds = np.quantile(some, (0.025, 0.975))
    result[f"{name}/ci95"] = [float(bound) for bound in bounds]
  return result


class _Images(NamedTuple):
  """One statistic of n images, without the entries that are 0 in all.

  Of 512 classes a matrix has 262,144 pairs, of which few are ever drawn.
  """

  shape: tuple[int, ...]
  places: np.ndarray  # int [k], of the flat entries
  values: np.ndarray  # f64 [n, k]

  @classmethod
  def of(cls, each) -> "_Images":
    flat = [np.asarray(one).ravel() for one in each]
    places = np.flatnonzero(functools.reduce(np.logical_or, flat, False))
    values = np.array([one[places] for one in flat], np.float64)
    return cls(np.shape(each[0]), places, values)

  def sum(self, times: np.ndarray) -> np.ndarray:
    """The statistic of a set that has the images so many times each, f64."""
    whole = np.zeros(math.prod(self.shape))
    whole[self.places] = times @ self.values
    return whole.reshape(self.shape)
