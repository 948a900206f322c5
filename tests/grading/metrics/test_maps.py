"""Scores of maps: the metrics of the whole set, resampled by image."""

import numpy as np
import pytest

from cooper_jax.grading.metrics import maps
from cooper_jax.modalities import depth, segmentation


def test_depth_interval_is_the_bootstrap_of_the_image_errors():
  rng = np.random.default_rng(0)
  target = np.full((200, 4, 4), 2.0)
  errors = rng.normal(0.1, 0.02, 200)
  prediction = target * (1 + errors[:, None, None])
  found = maps.score(depth, prediction, target)
  assert found["abs_rel"] == pytest.approx(np.abs(errors).mean())
  assert found["abs_rel/n"] == 200
  low, high = found["abs_rel/ci95"]
  # The mean's deviation is .02 / sqrt(200) = .0014.
  assert high - low == pytest.approx(2 * 1.96 * 0.0014, rel=0.2)
  assert low < found["abs_rel"] < high


def test_segmentation_uses_one_matrix_over_all_images():
  target = np.array([[[1] * 9 + [2]], [[2] * 9 + [1]]])
  prediction = np.array([[[1] * 9 + [2]], [[2] * 10]])
  found = maps.score(segmentation, prediction, target)
  # class 1: 9 of 10; class 2: 10 of 11.
  assert found["miou"] == pytest.approx((9 / 10 + 10 / 11) / 2)
  assert found["iou/floor"] == pytest.approx(9 / 10)
  assert "iou/floor/n" not in found


def test_intervals_are_reproducible():
  target = np.random.default_rng(1).uniform(1, 5, (20, 4, 4))
  first = maps.score(depth, target * 1.1, target, target > 3)
  assert first == maps.score(depth, target * 1.1, target, target > 3)
  assert first["object_abs_rel"] == pytest.approx(0.1)
