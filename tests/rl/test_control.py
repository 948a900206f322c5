"""Chance rewards: the same values, dealt without regard to what was done."""

import numpy as np

from cooper_jax.rl import control


def deal(step=3, rows=40):
  rng = np.random.default_rng(0)
  total = rng.normal(size=rows)
  columns = np.stack([total * 2, total - 1], axis=1)
  slots = rng.integers(-1, 2, (rows, 2))
  quality = np.where(slots >= 0, slots + rng.random((rows, 2)), np.nan)
  return (total, columns, quality, slots), control.deal(
    7, step, total, columns, quality, slots
  )


def test_values_stay_and_places_change():
  (total, _, quality, slots), (dealt, columns, worth) = deal()
  np.testing.assert_array_equal(np.sort(dealt), np.sort(total))
  assert (dealt == total).mean() < 0.2
  np.testing.assert_allclose(columns[:, 0], 2 * dealt)  # a row moves whole
  np.testing.assert_allclose(columns[:, 1], dealt - 1)
  np.testing.assert_array_equal(np.isnan(worth), slots < 0)
  for slot in (0, 1):
    here = slots == slot
    np.testing.assert_array_equal(np.sort(worth[here]), np.sort(quality[here]))
  assert (worth == quality).mean() < 0.3


def test_it_depends_on_seed_and_step_alone():
  np.testing.assert_array_equal(deal()[1][0], deal()[1][0])
  assert (deal(step=3)[1][0] != deal(step=4)[1][0]).any()
