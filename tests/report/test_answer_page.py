"""The picture of an answer: whole photograph, maps over it, marks apart."""

import math
import types

import numpy as np
import pytest

from cooper_jax.modalities import depth, segmentation
from cooper_jax.report import answer_page

DEPTH = np.linspace(0.5, 8, 64 * 64, dtype=np.float32).reshape(64, 64)
CLASSES = np.tile(np.arange(8, dtype=np.uint8), (64, 8))


def photo(high, wide):
  rng = np.random.default_rng(0)
  return rng.integers(0, 255, (high, wide, 3), np.uint8)


def contains(page, part):
  """Whether a picture stands in the page, pixel for pixel."""
  first = (page[:, :, :] == part[0, 0]).all(-1)
  high, wide = part.shape[:2]
  for y, x in zip(*np.nonzero(first), strict=True):
    if np.array_equal(page[y : y + high, x : x + wide], part):
      return True
  return False


@pytest.mark.parametrize(
  ("high", "wide"), [(500, 700), (700, 500), (300, 900), (448, 448)]
)
def test_the_photograph_is_there_pixel_for_pixel(high, wide):
  image = photo(high, wide)
  maps = [(depth, DEPTH), (segmentation, CLASSES)]
  page = answer_page.page(
    image, maps, [], "How far ?", [("answer: 2 m", True)], over=True
  )
  assert page.dtype == np.uint8 and contains(page, image)


def test_tiny_pictures_are_enlarged_by_whole_pixels_and_huge_ones_fit():
  assert answer_page.panel(photo(64, 64)).size == (448, 448)
  assert answer_page.panel(photo(1, 30)).size == (450, 15)
  assert answer_page.panel(photo(1000, 4096)).size == (2048, 500)


def test_maps_are_as_large_as_the_photograph_and_it_shines_through():
  base = answer_page.panel(photo(500, 700))
  for shown, target in (
    (depth.picture(DEPTH), DEPTH),
    (segmentation.picture(CLASSES), CLASSES),
    (np.full((64, 64, 3), 127, np.uint8), np.zeros((64, 64, 3), np.float32)),
  ):
    alone, over = (
      np.asarray(answer_page.stretched(shown, target, base, laid), float)
      for laid in (False, True)
    )
    assert alone.shape == over.shape == (500, 700, 3)
    grey = np.asarray(base.convert("L"), float).ravel()
    assert np.corrcoef(over.mean(-1).ravel(), grey)[0, 1] > 0.5
    # Alone it shows nothing of the photograph.
    other = answer_page.panel(photo(500, 700)[::-1])
    again = answer_page.stretched(shown, target, other, False)
    np.testing.assert_array_equal(alone, again)


@pytest.mark.parametrize(
  "spots",
  [
    [(100, 100)] * 4,
    [(100, 100), (104, 100), (100, 108), (96, 96)],
    [(0, 0), (400, 300), (0, 300), (400, 0)],
    [(10 + 7 * i, 150) for i in range(8)],
  ],
)
def test_no_mark_hides_another(spots):
  labels = answer_page.set_apart(spots, (400, 300), ring=5, radius=12)
  for i, one in enumerate(labels):
    assert 12 <= one[0] <= 388 and 12 <= one[1] <= 288
    assert all(math.dist(one, other) >= 24 for other in labels[:i])
    assert all(math.dist(one, spot) >= 17 for spot in spots)


@pytest.mark.parametrize("text", ["", "a" * 900, "How far ? " * 40, "ä 距 {}"])
def test_long_text_is_wrapped_and_none_is_lost(text):
  picture = answer_page.words(text, 300, 20)
  assert picture.width == 300
  lines = picture.height // 27
  assert lines >= answer_page.font(20).getlength(text) / 300


def test_legends_name_metres_and_classes():
  wide = answer_page.legend(depth, DEPTH, 400, 20)
  assert wide.width == 400
  empty = np.zeros((8, 8), np.float32)
  assert answer_page.legend(depth, empty, 400, 20) is not None
  few = answer_page.legend(segmentation, CLASSES[:, :2], 400, 20)
  assert answer_page.legend(segmentation, CLASSES, 100, 20).height > few.height
  plain = types.SimpleNamespace(scale=lambda maps: None, legend=lambda maps: [])
  assert answer_page.legend(plain, empty, 400, 20) is None
