"""Scores of maps: the metrics of the whole set, resampled by image."""

import tracemalloc

import numpy as np
import pytest

from cooper_jax import modalities
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


def test_maps_with_nothing_to_compare_with_are_not_counted():
  rng = np.random.default_rng(0)
  prediction = rng.uniform(1, 3, (4, 4, 4))
  target = np.zeros((4, 4, 4))
  assert np.isnan(maps.score(depth, prediction, target)["abs_rel"])
  target[1:3] = prediction[1:3] / 1.5
  found = maps.score(depth, prediction, target)
  assert found["abs_rel"] == pytest.approx(0.5) and found["abs_rel/n"] == 2
  np.testing.assert_allclose(found["abs_rel/ci95"], 0.5)


def test_segmentation_uses_one_matrix_over_all_images():
  target = np.array([[[1] * 9 + [2]], [[2] * 9 + [1]]])
  prediction = np.array([[[1] * 9 + [2]], [[2] * 10]])
  found = maps.score(segmentation, prediction, target)
  # class 1: 9 of 10; class 2: 10 of 11.
  assert found["miou"] == pytest.approx((9 / 10 + 10 / 11) / 2)
  assert found["iou/floor"] == pytest.approx(9 / 10)
  assert "iou/floor/n" not in found


def test_many_classes_take_no_matrix_of_each_draw():
  many = modalities.set_up(
    "segmentation", {"names": tuple(f"class {i}" for i in range(512))}
  )
  target = np.arange(512, dtype=np.uint16).reshape(8, 8, 8)
  drawn = np.where(target % 8 == 0, 0, target).astype(np.uint16)
  tracemalloc.start()
  found = maps.score(many, drawn, target)
  _, most = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  # Class 0 is drawn 64 times and right once, 448 others are right.
  assert found["miou"] == pytest.approx((448 + 1 / 64) / 512)
  low, high = found["miou/ci95"]
  assert 0.8 < low <= high <= 1.0
  # 500 matrices would be 1 GB; of 8 images they are 17 MB.
  assert most < 100e6


def test_intervals_are_reproducible():
  target = np.random.default_rng(1).uniform(1, 5, (20, 4, 4))
  first = maps.score(depth, target * 1.1, target, target > 3)
  assert first == maps.score(depth, target * 1.1, target, target > 3)
  assert first["object_abs_rel"] == pytest.approx(0.1)
