"""Scores of drawn maps of any modality, each with n and an interval.

A modality gives sums per image that add up and turns sums into metrics. So
one matrix product resamples whole images, which is right for mIoU too, where
no per-image value exists whose mean it would be.
"""

from collections.abc import Mapping

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
  """The same from the statistics of each image."""
  stacked = {
    name: np.stack([np.asarray(each[name], np.float64) for each in per_image])
    for name in per_image[0]
  }
  count = len(per_image)
  values = modality.metrics(
    {name: array.sum(0) for name, array in stacked.items()}
  )
  drawn = _resample(modality, stacked, count)
  result = {}
  for name, value in values.items():
    result[name] = value
    if "/" in name:
      continue
    result[f"{name}/n"] = count
    draws = [each[name] for each in drawn if name in each]
    result[f"{name}/ci95"] = [
      float(bound) for bound in np.nanquantile(draws, (0.025, 0.975))
    ]
  return result


def _resample(modality, stacked: Mapping[str, np.ndarray], count: int):
  rng = np.random.Generator(np.random.Philox(key=SEED))
  times = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)
  sums = {
    name: np.tensordot(times.astype(np.float64), array, axes=1)
    for name, array in stacked.items()
  }
  return [
    modality.metrics({name: array[draw] for name, array in sums.items()})
    for draw in range(DRAWS)
  ]
