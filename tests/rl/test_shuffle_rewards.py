"""Chance rewards: the same values, dealt without regard to what was done."""

import numpy as np

from cooper_jax.rl import shuffle_rewards


def shuffled(seed=7, step=3, rows=40):
  rng = np.random.default_rng(0)
  groups = rng.permutation(np.repeat([4, 9, 11, 30], rows // 4))
  total = rng.normal(size=rows) + 100 * groups
  columns = np.stack([total * 2, total - 1], axis=1)
  modality = rng.integers(-1, 2, (rows, 2))
  quality = np.where(modality >= 0, modality + rng.random((rows, 2)), np.nan)
  quality += 100 * groups[:, None]
  given = total, columns, quality, modality, groups
  return given, shuffle_rewards.shuffle(seed, step, *given)


def test_values_stay_in_their_group_and_places_change():
  (total, _, quality, modality, groups), (dealt, columns, worth) = shuffled()
  for group in np.unique(groups):
    rows = groups == group
    np.testing.assert_array_equal(np.sort(dealt[rows]), np.sort(total[rows]))
    for kind in (0, 1):
      here = (modality == kind) & rows[:, None]
      np.testing.assert_array_equal(
        np.sort(worth[here]), np.sort(quality[here])
      )
  assert (dealt == total).mean() < 0.3
  np.testing.assert_allclose(columns[:, 0], 2 * dealt)  # a row moves whole
  np.testing.assert_allclose(columns[:, 1], dealt - 1)
  np.testing.assert_array_equal(np.isnan(worth), modality < 0)
  assert (worth == quality).mean() < 0.4


def test_it_depends_on_seed_and_step_alone():
  np.testing.assert_array_equal(shuffled()[1][0], shuffled()[1][0])
  assert (shuffled(step=3)[1][0] != shuffled(step=4)[1][0]).any()
  assert (shuffled(seed=7)[1][0] != shuffled(seed=8)[1][0]).any()
