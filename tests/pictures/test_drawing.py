"""Colours mean the same thing wherever a map is drawn."""

import io

import numpy as np
from PIL import Image

from cooper_jax.modalities import depth_pictures, segmentation
from cooper_jax.pictures import drawing


def test_a_depth_has_one_colour_under_one_range():
  near = np.full((2, 2), 2.0, np.float32)
  mixed = np.array([[2.0, 8.0], [0.0, np.nan]], np.float32)
  low, high = depth_pictures.depth_range(near, mixed)
  assert (low, high) == (2.0, 8.0)
  first = depth_pictures.depth_picture(near, low, high)
  second = depth_pictures.depth_picture(mixed, low, high)
  np.testing.assert_array_equal(first[0, 0], second[0, 0])
  assert not np.array_equal(second[0, 0], second[0, 1])
  # 0 and NaN are "no reading": grey, never a depth colour.
  np.testing.assert_array_equal(second[1], [depth_pictures.NO_READING] * 2)


def test_relative_error_ignores_pixels_without_truth():
  true = np.array([[2.0, 4.0, 0.0]], np.float32)
  drawn = np.array([[3.0, 4.0, 9.0]], np.float32)
  # |3-2|/2 = .5, |4-4|/4 = 0, no truth.
  np.testing.assert_allclose(
    depth_pictures.relative_error(drawn, true), [[0.5, 0.0, np.nan]]
  )
  picture = depth_pictures.error_picture(drawn, true)
  np.testing.assert_array_equal(
    picture[0, 0], depth_pictures.error_colours()[255]
  )
  np.testing.assert_array_equal(
    picture[0, 1], depth_pictures.error_colours()[0]
  )
  np.testing.assert_array_equal(picture[0, 2], depth_pictures.NO_READING)


def test_maps_without_any_reading_are_drawn_grey():
  picture = depth_pictures.depth_picture(np.zeros((3, 3), np.float32))
  assert (picture == depth_pictures.NO_READING).all()


def test_metre_ticks_sit_on_the_log_scale():
  ticks = dict(depth_pictures.metre_ticks(1.0, 100.0, most=99))
  assert ticks[10.0] == 0.5
  assert all(0 < share < 1 for share in ticks.values())


def test_ignored_pixels_are_grey_and_classes_differ():
  picture = segmentation.picture(np.array([[4, 5, 255]], np.uint8))
  assert len({tuple(colour) for colour in picture[0]}) == 3
  np.testing.assert_array_equal(picture[0, 2], depth_pictures.NO_READING)


def test_pictures_of_several_shapes_stand_side_by_side_on_white():
  wide, tall = np.zeros((3, 5, 3), np.uint8), np.ones((4, 2, 3), np.uint8)
  strip = drawing.strip([wide, None, tall], gap=1)
  white = np.full((4, 5 + 1 + 2 + 1 + 2, 3), 255, np.uint8)
  white[:3, :5], white[:, -2:] = 0, 1
  np.testing.assert_array_equal(strip, white)
  both = drawing.rows([strip, wide])
  assert both.shape == (4 + 2 + 3, strip.shape[1], 3)
  np.testing.assert_array_equal(both[:4], strip)
  assert (both[4:6] == 255).all() and (both[6:, 5:] == 255).all()
  assert (both[6:, :5] == 0).all()


def test_png_is_lossless_for_few_and_for_many_colours():
  rng = np.random.default_rng(0)
  few = segmentation.picture(rng.integers(0, 8, (16, 16)))
  many = rng.integers(0, 256, (32, 32, 3), np.uint8)
  for picture in (few, many):
    back = Image.open(io.BytesIO(drawing.png(picture))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(back), picture)


def test_plots_name_the_classes_and_the_metres():
  import matplotlib

  matplotlib.use("Agg")
  depth = np.full((8, 8), 2.0, np.float32)
  depth[4:] = 6.0
  classes = np.where(depth > 3, 1, 4).astype(np.uint8)
  image = np.zeros((8, 8, 3), np.uint8)
  maps = {"depth": depth, "segmentation": classes}
  figure = drawing.plot_maps(image, maps, places=[(0.5, 0.25)])
  assert [text.get_text() for text in figure.axes[0].texts] == ["1"]
  assert figure.axes[0].texts[0].get_position() == (2.0, 4.0)  # x, y pixels
  assert [axis.get_title() for axis in figure.axes[1:3]] == ["depth", "classes"]
  names = {text.get_text() for text in figure.axes[2].get_legend().get_texts()}
  assert names == {segmentation.CLASSES[1], segmentation.CLASSES[4]}
  metres = {text.get_text() for text in figure.axes[3].get_yticklabels()}
  assert {"3 m", "5 m"} <= metres  # the round depths between 2 and 6
  curves = drawing.plot_curves({"a": ([1, 2], [3.0, 2.0]), "b": ([1], [1.0])})
  assert [axis.get_title() for axis in curves.axes[:2]] == ["a", "b"]
