"""Fitting of pictures that are not square: image, maps and camera alike.

`squash` stretches both sides to the square that the model reads, `crop` takes
the middle of the longer side, `pad` keeps all of it and fills the rest: an
image with grey, a map with what says nothing.

Behind a colon are the shapes that pictures may have beside the square, as in
"crop:48x80,80x48", pixels of height x width: a picture takes the one whose
aspect is nearest to its own, and is fitted to that. Its maps are stretched over
it and stay squares, so that a map has as many codes whatever the shape.
"""

import dataclasses
import functools
import math
import re

import numpy as np
from PIL import Image

from cooper_jax.errors import UserError, nearest

WAYS = ("squash", "crop", "pad")
SQUASH = WAYS[0]
_SHAPE = re.compile("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
GREY = (128, 128, 128)  # of an image where there is no picture
ALL_OF_IT = (0.0, 0.0, 1.0, 1.0)  # a picture from edge to edge


@dataclasses.dataclass(frozen=True)
class Placement:
  """Which part of a picture goes where in its image and in its maps' square.

  size: pixels a side of the square.
  shape: (width, height) of the image, which may be no square.
  part: (left, top, right, bottom) of what is read, shares of the sides.
  inside: (width, height) of a picture that is shown in its own aspect, with
    room around it; None = it fills the image.
  """

  size: int
  shape: tuple[int, int]
  part: tuple[float, float, float, float] = ALL_OF_IT
  inside: tuple[int, int] | None = None

  def place(self, sides: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, width, height), in pixels, where `sides` is the whole."""
    if self.inside is None:
      return (0, 0, *sides)
    # One of the two is its whole side, and the other is shorter.
    across, down = (
      a * b for a, b in zip(self.inside, self.shape[::-1], strict=True)
    )
    longer = max(across, down)
    width, height = (
      max(1, round(side * share / longer))
      for side, share in zip(sides, (across, down), strict=True)
    )
    return (sides[0] - width) // 2, (sides[1] - height) // 2, width, height

  def image(self, rgb: Image.Image) -> np.ndarray:
    """RGB u8 [height, width, 3] of `shape`, cubic."""
    left, top, width, height = self.place(self.shape)
    across, down = (rgb.width, rgb.height)
    box = tuple(
      share * side
      for share, side in zip(self.part, (across, down) * 2, strict=True)
    )
    shown = rgb.resize(
      (width, height),
      Image.Resampling.BICUBIC,
      None if self.part == ALL_OF_IT else box,
    )
    if (width, height) == self.shape:
      return np.array(shown, np.uint8)
    whole = Image.new("RGB", self.shape, GREY)
    whole.paste(shown, (left, top))
    return np.array(whole, np.uint8)

  def array(self, array: np.ndarray, fill=0, sides=None) -> np.ndarray:
    """[size, size, ...] of a map [h, w, ...], without blending across edges.

    It has the picture's aspect, not its size. sides: (width, height) in place
    of the square.
    """
    sides = sides or (self.size, self.size)
    x0, y0, x1, y1 = self.part
    left, top, width, height = self.place(sides)
    down, across = array.shape[:2]
    rows = _picked(height, down, y0, y1)
    columns = _picked(width, across, x0, x1)
    shown = np.ascontiguousarray(array[rows[:, None], columns])
    if (width, height) == sides:
      return shown
    whole = np.full((*sides[::-1], *array.shape[2:]), fill, array.dtype)
    whole[top : top + height, left : left + width] = shown
    return whole

  def photo(self, photo: np.ndarray) -> np.ndarray:
    """A photo [h, w, 3] as its image shows it, at its own size."""
    down, across = photo.shape[:2]
    if self.part == ALL_OF_IT and self.inside is None:
      return photo
    wide, high = across * self.shape[1], down * self.shape[0]
    grows = (wide < high) == (self.inside is not None)
    if grows:
      across = round(down * self.shape[0] / self.shape[1])
    else:
      down = round(across * self.shape[1] / self.shape[0])
    return self.array(photo, GREY, (max(1, across), max(1, down)))

  def camera(self, camera: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Pinhole K f32 [3, 3] of the square, of that of the picture.

    sides: (width, height) of the picture, pixels. Pixel centres are at .5.
    """
    x0, y0, x1, y1 = self.part
    left, top, width, height = self.place((self.size, self.size))
    across, down = sides
    x, y = width / ((x1 - x0) * across), height / ((y1 - y0) * down)
    moved = np.array(
      [
        [x, 0, left - x * x0 * across],
        [0, y, top - y * y0 * down],
        [0, 0, 1],
      ]
    )
    return (moved @ np.asarray(camera, np.float64)).astype(np.float32)


def _picked(count: int, side: int, low: float, high: float) -> np.ndarray:
  """The pixel of a side that is nearest to each of `count` places."""
  at = (np.arange(count) + 0.5) * ((high - low) * side) / count + low * side
  return np.minimum(at.astype(int), side - 1)


def nearest_shape(
  fit: str, sides: tuple[int, int], size: int
) -> tuple[int, int]:
  """The (width, height) of the image that a picture of (width, height) gets."""
  width, height = sides
  # Of equal ones the first: a square stays a square.
  return min(
    ((size, size), *(shape[::-1] for shape in shapes(fit))),
    key=lambda shape: abs(math.log(width * shape[1] / (height * shape[0]))),
  )


def place(fit: str, sides: tuple[int, int], size: int, shape=None) -> Placement:
  """Where a picture of (width, height) goes; size: of its maps' square.

  shape: (width, height) of its image, where `sides` are those of a smaller
  copy, whose rounded aspect may be nearer to another; None = `nearest_shape`.
  """
  way, _ = _parsed(fit)
  width, height = sides
  across, down = shape or nearest_shape(fit, sides, size)
  if way == "crop":
    wide, high = width * down, height * across
    x, y = ((side - min(wide, high)) / side / 2 for side in (wide, high))
    return Placement(size, (across, down), (x, y, 1.0 - x, 1.0 - y))
  inside = sides if way == "pad" else None
  return Placement(size, (across, down), inside=inside)


def stretches(fit: str) -> bool:
  """Whether an image shows its picture whole, from edge to edge."""
  return _parsed(fit)[0] == SQUASH


def shapes(fit: str) -> tuple[tuple[int, int], ...]:
  """(height, width), in pixels, of the shapes beside the square."""
  return _parsed(fit)[1]


def check(fit: str) -> None:
  """UserError for a way that there is not, or shapes that are none."""
  _parsed(fit)


@functools.cache
def _parsed(fit: str) -> tuple[str, tuple[tuple[int, int], ...]]:
  """In: "crop:48x80,80x48"   Out: ("crop", ((48, 80), (80, 48)))."""
  way, colon, listed = str(fit).partition(":")
  if way not in WAYS:
    raise UserError(
      f"config.data.fit is {fit!r}; allowed: {', '.join(WAYS)}, each alone or"
      f" with shapes as in crop:48x80,80x48{nearest(way, WAYS)}"
    )
  found = [_SHAPE.fullmatch(each) for each in listed.split(",")]
  if not colon:
    return way, ()
  if not all(found):
    raise UserError(
      f"config.data.fit is {fit!r}; behind the colon stand shapes, pixels of"
      " height x width without spaces, as in crop:48x80,80x48"
    )
  made = tuple((int(each[1]), int(each[2])) for each in found)
  if len(set(made)) < len(made) or any(h == w for h, w in made):
    raise UserError(
      f"config.data.fit is {fit!r}; name each shape once, and no square:"
      " config.data.image_size is the square, which is always there"
    )
  return way, made
