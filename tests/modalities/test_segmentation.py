"""Segmentation: coding, loss, metrics, quality and wrong maps."""

import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax import modalities
from cooper_jax.modalities import segmentation
from cooper_jax.world import config


def room():
  """Wall above floor, a box (4) and a ball (5)."""
  target = np.full((8, 8), 2, np.uint8)
  target[4:] = 1
  target[3:6, 1:3] = 4
  target[4:6, 5:7] = 5
  return target


def outputs_of(target):
  return 9.0 * segmentation.to_input(jnp.asarray(target)[None])


def test_classes_palette_and_room_surfaces_agree():
  assert len(segmentation.CLASSES) == len(segmentation.PALETTE)
  assert segmentation.CLASSES[1 : segmentation.ROOM] == (
    "floor",
    "wall",
    "ceiling",
  )
  assert len(np.unique(segmentation.PALETTE, axis=0)) == len(
    segmentation.CLASSES
  )


def test_the_world_draws_these_classes():
  assert segmentation.CLASSES == config.CLASSES
  assert 1 + len(config.SURFACES) == segmentation.ROOM


def test_coding_is_inverted():
  found = segmentation.from_output(outputs_of(room()))[0]
  np.testing.assert_array_equal(found, room())
  assert found.dtype == jnp.uint8


def test_ignored_pixels_are_neither_seen_nor_learned():
  target = room()
  target[0] = segmentation.IGNORE
  assert segmentation.to_input(target[None])[0, 0].sum() == 0
  before = segmentation.loss(outputs_of(room()), target[None])
  changed = outputs_of(room()).at[:, 0].set(-3.0)
  after = segmentation.loss(changed, target[None])
  assert before[0] == after[0]
  # 7 rows of 8 pixels, of which 10 are objects and count double.
  assert before[1] == 56 + 10 * (segmentation.OBJECT_WEIGHT - 1)


def test_loss_is_the_cross_entropy():
  # All logits equal: each weighted pixel costs ln(classes).
  total, weight = segmentation.loss(
    jnp.zeros((1, 8, 8, segmentation.OUTPUTS)), room()[None]
  )
  assert total / weight == pytest.approx(np.log(segmentation.OUTPUTS))


def test_miou_leaves_background_and_absent_classes_out():
  target = np.array([[0, 0, 1, 1, 4, 4, 255, 255]])
  prediction = np.array([[1, 0, 1, 1, 4, 10, 4, 4]])
  found = segmentation.metrics(segmentation.statistics(prediction, target))
  # floor: 2 right, 1 too many -> 2/3; box: 1 right, 1 missed -> 1/2; disc is
  # drawn but never true, background is not scored, 255 is not counted.
  assert found["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
  assert found["object_miou"] == pytest.approx(1 / 2)
  assert found["accuracy"] == pytest.approx(4 / 6)
  assert "iou/disc" not in found


def test_constant_is_the_most_frequent_class_of_each_pixel():
  targets = np.array([[[1, 4]], [[1, 5]], [[2, 5]]], np.uint8)
  np.testing.assert_array_equal(segmentation.constant(targets), [[1, 5]])


def test_quality_orders_maps():
  target = room()
  worse = target.copy()
  worse[4:6, 5:7] = 1  # the ball is missed
  assert segmentation.quality(target, target) == 1.0
  assert 0.5 < segmentation.quality(worse, target) < 0.8
  assert segmentation.quality(np.full_like(target, 2), target) == 0.0
  assert np.isnan(segmentation.quality(target, np.full_like(target, 2)))
  assert np.isnan(segmentation.quality(target, np.full_like(target, 255)))


def test_quality_of_a_mark_is_the_iou_of_the_marked_object():
  target = room()
  mark = modalities.only(target, target == 4, 1)
  assert set(np.unique(mark)) == {0, 4}
  half = mark.copy()
  half[3:6, 1] = 0
  assert segmentation.quality(half, mark) == pytest.approx(0.5)


@pytest.mark.parametrize("target", [room(), np.full((8, 8), 2, np.uint8)])
def test_a_corrupt_map_differs_and_keeps_to_known_classes(target):
  rng = np.random.default_rng(0)
  for _ in range(20):
    wrong = segmentation.corrupt(target, rng)
    assert wrong.dtype == np.uint8 and wrong.shape == target.shape
    assert np.any(wrong != target)
    assert wrong.max() < len(segmentation.CLASSES)


def test_picture_uses_the_palette_and_grey_for_ignored():
  target = room()
  target[0, 0] = segmentation.IGNORE
  picture = segmentation.picture(target)
  assert picture[0, 0].tolist() == list(segmentation.GREY)
  np.testing.assert_array_equal(picture[7, 0], segmentation.PALETTE[1])
