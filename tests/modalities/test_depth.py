"""Depth: coding, loss, metrics, quality and wrong maps."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax import plugins
from cooper_jax.modalities import depth, depth_pictures


def ramp(near=1.0, far=4.0, size=8):
  return np.tile(np.geomspace(near, far, size, dtype=np.float32), (size, 1))


def outputs_of(target):
  """The decoder output that means exactly `target`."""
  valid = jnp.where(target > 0, 8.0, -8.0)
  log = depth.to_log(jnp.maximum(target, 0.1))
  return jnp.stack([log, log, jnp.zeros_like(log), valid], -1)[None]


def test_reading_leaves_a_missing_map_missing():
  module = plugins.find("modalities", "depth")
  assert module.read(types.SimpleNamespace(maps={})) is None
  maps = {"depth": ramp()}
  assert module.read(types.SimpleNamespace(maps=maps)) is maps["depth"]


def test_log_coding_is_inverted_and_bounded():
  metres = jnp.array([0.2, 0.5, 2.0, 20.0])
  np.testing.assert_allclose(
    depth.from_log(depth.to_log(metres)), metres, rtol=1e-5
  )
  # 2 m is the geometric middle of .2 and 20.
  np.testing.assert_allclose(
    depth.to_log(jnp.array([0.01, 2.0, 99.0])), [-1.0, 0.0, 1.0], atol=1e-6
  )


def test_a_hole_is_drawn_as_a_hole_and_costs_no_depth_loss():
  target = ramp()
  target[:2] = 0
  np.testing.assert_allclose(
    depth.from_output(outputs_of(target))[0], target, rtol=1e-5
  )
  wrong = outputs_of(target).at[:, :2, :, :2].set(0.9)
  same, _ = depth.loss(outputs_of(target), target[None])
  total, weight = depth.loss(wrong, target[None])
  assert weight == 64
  assert total == pytest.approx(float(same), rel=1e-6)


def test_loss_is_least_at_the_truth_and_has_a_gradient_elsewhere():
  target = ramp()[None]
  best, _ = depth.loss(outputs_of(target[0]), target)
  off, _ = depth.loss(outputs_of(target[0] * 1.1), target)
  assert off > best
  gradient = jax.grad(lambda o: depth.loss(o, target)[0])(
    outputs_of(target[0] * 1.1)
  )
  assert np.isfinite(gradient).all()
  assert np.all(np.asarray(gradient)[..., :2].sum() > 0)


def test_two_layers_and_a_mask_make_a_sharp_edge():
  near, far = depth.to_log(jnp.array([1.0, 8.0]))
  mask = jnp.array([-20.0, -20.0, 20.0, 20.0])
  ones = jnp.ones(4)
  outputs = jnp.stack([near * ones, far * ones, mask, ones], -1)[None, None]
  np.testing.assert_allclose(
    depth.from_output(outputs)[0, 0], [1, 1, 8, 8], rtol=1e-5
  )


def test_far_for_near_costs_more_than_near_for_far():
  # As AbsRel has it: 2 m drawn for 1 m is an error of 1, the reverse of 1/2.
  one, two = np.full((8, 8), 1.0), np.full((8, 8), 2.0)
  far, _ = depth.loss(outputs_of(two), one[None])
  near, _ = depth.loss(outputs_of(one), two[None])
  assert far / near == pytest.approx(1 / (0.5 + 0.2 * np.log(2)), rel=0.03)


def test_metrics_are_means_over_images_with_objects_pooled():
  target = np.full((2, 2, 2), 2.0)
  prediction = target.copy()
  prediction[0] = 2.2  # 10 % off in the first image
  prediction[1, 0, 0] = 1.0  # 50 % off in one of four pixels
  objects = np.zeros((2, 2, 2), np.uint8)
  objects[0, 0, 0] = objects[1, 0, 0] = objects[1, 1, 1] = 1
  found = depth.metrics(depth.statistics(prediction, target, objects))
  assert found["abs_rel"] == pytest.approx((0.1 + 0.125) / 2)
  assert found["delta1"] == pytest.approx((1 + 0.75) / 2)
  assert found["rmse"] == pytest.approx((0.2 + 0.5) / 2)
  # Three object pixels: 10 %, 50 %, 0 %.
  assert found["object_abs_rel"] == pytest.approx(0.6 / 3)


def test_statistics_add_up_over_batches():
  rng = np.random.default_rng(0)
  target = rng.uniform(1, 5, (6, 4, 4))
  prediction = target * rng.uniform(0.8, 1.2, target.shape)
  whole = depth.statistics(prediction, target, target > 3)
  parts = [
    depth.statistics(prediction[part], target[part], target[part] > 3)
    for part in (slice(0, 2), slice(2, 6))
  ]
  for name, value in whole.items():
    assert value == pytest.approx(parts[0][name] + parts[1][name]), name


def test_no_reading_drawn_on_a_reading_is_a_whole_error():
  target = np.full((1, 1, 4), 2.0)
  prediction = np.array([[[0.0, 2.0, 2.0, 2.0]]])
  found = depth.metrics(depth.statistics(prediction, target))
  assert found["abs_rel"] == pytest.approx(0.25)
  assert found["delta1"] == pytest.approx(0.75)
  assert "object_abs_rel" not in found


def test_constant_map_is_the_best_constant_for_abs_rel():
  rng = np.random.default_rng(1)
  targets = rng.lognormal(1, 0.7, (51, 2, 2)).astype(np.float32)
  chosen = depth.constant(targets)

  def error(value):
    return np.mean(np.abs(value - targets) / targets)

  for other in (
    targets.mean(0),
    np.median(targets, 0),
    np.exp(np.log(targets).mean(0)),
    chosen * 1.05,
    chosen * 0.95,
  ):
    assert error(chosen) < error(other)


def test_quality_orders_maps_and_holds_to_metres():
  target = ramp()
  rng = np.random.default_rng(0)
  noisy = target * np.exp(rng.normal(0, 0.15, target.shape))
  assert depth.quality(target, target) == pytest.approx(1.0)
  assert depth.quality(3 * target, target) == 0.0
  assert 0.3 < depth.quality(noisy, target) < 0.95
  assert depth.quality(target[:, ::-1], target) < 0.2


def test_quality_of_a_flat_map_is_zero_and_of_a_blind_truth_unknown():
  target = ramp()
  assert depth.quality(np.full_like(target, 2.0), target) == 0.0
  assert depth.quality(np.zeros_like(target), target) == 0.0
  holes = target.copy()
  holes[:, :5] = 0  # three of eight columns are left
  assert np.isnan(depth.quality(target, holes))
  assert np.isnan(depth.quality(target, np.full_like(target, 2.0)))


@pytest.mark.parametrize("target", [ramp(), np.full((8, 8), 2.0, np.float32)])
def test_a_corrupt_map_is_wrong_but_plausible(target):
  rng = np.random.default_rng(0)
  for _ in range(20):
    wrong = depth.corrupt(target, rng)
    assert wrong.dtype == np.float32 and wrong.shape == target.shape
    assert np.mean(np.abs(wrong - target) / target) > 0.1
    assert wrong.min() >= depth.NEAREST and wrong.max() <= depth.FARTHEST


def test_picture_shows_holes_grey():
  target = ramp()
  target[0, 0] = 0
  picture = depth.picture(target)
  assert picture.dtype == np.uint8 and picture.shape == (8, 8, 3)
  assert picture[0, 0].tolist() == list(depth_pictures.NO_READING)
  assert picture[0, 1].tolist() != picture[0, 0].tolist()
