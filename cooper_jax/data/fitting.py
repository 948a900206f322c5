"""Fitting of pictures that are not square: image, maps and camera alike.

`squash` stretches both sides to the square that the model reads, `crop` takes
the middle of the longer side, `pad` keeps all of it and fills the rest: an
image with grey, a map with what says nothing.
"""

import dataclasses

import numpy as np
from PIL import Image

from cooper_jax.errors import UserError, nearest

WAYS = ("squash", "crop", "pad")
SQUASH = WAYS[0]
GREY = (128, 128, 128)  # of an image where there is no picture


@dataclasses.dataclass(frozen=True)
class Placement:
  """Which part of a picture goes where in a square of `size` pixels.

  part: (left, top, right, bottom) of what is read, shares of the sides.
  place: (left, top, width, height) of where it stands, pixels of the square.
  """

  size: int
  part: tuple[float, float, float, float]
  place: tuple[int, int, int, int]

  @property
  def is_whole(self) -> bool:
    """Whether the square is filled."""
    return self.place == (0, 0, self.size, self.size)

  def image(self, rgb: Image.Image) -> np.ndarray:
    """RGB u8 [size, size, 3], cubic."""
    left, top, width, height = self.place
    across, down = (rgb.width, rgb.height)
    box = tuple(
      share * side
      for share, side in zip(self.part, (across, down) * 2, strict=True)
    )
    whole = self.part == (0.0, 0.0, 1.0, 1.0)
    shown = rgb.resize(
      (width, height), Image.Resampling.BICUBIC, None if whole else box
    )
    if self.is_whole:
      return np.array(shown, np.uint8)
    square = Image.new("RGB", (self.size, self.size), GREY)
    square.paste(shown, (left, top))
    return np.array(square, np.uint8)

  def array(self, array: np.ndarray, fill=0) -> np.ndarray:
    """[size, size, ...] of a map [h, w, ...], without blending across edges.

    It has the picture's aspect, not its size.
    """
    x0, y0, x1, y1 = self.part
    left, top, width, height = self.place
    down, across = array.shape[:2]
    rows = _picked(height, down, y0, y1)
    columns = _picked(width, across, x0, x1)
    shown = np.ascontiguousarray(array[rows[:, None], columns])
    if self.is_whole:
      return shown
    square = np.full(
      (self.size, self.size, *array.shape[2:]), fill, array.dtype
    )
    square[top : top + height, left : left + width] = shown
    return square

  def camera(self, camera: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Pinhole K f32 [3, 3] of the square, of that of the picture.

    sides: (width, height) of the picture, pixels. Pixel centres are at .5.
    """
    x0, y0, x1, y1 = self.part
    left, top, width, height = self.place
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


def place(fit: str, sides: tuple[int, int], size: int) -> Placement:
  """Where a picture of (width, height) goes in a square of `size` pixels."""
  check(fit)
  width, height = sides
  if fit == "crop":
    x, y = ((side - min(sides)) / side / 2 for side in (width, height))
    return Placement(size, (x, y, 1.0 - x, 1.0 - y), (0, 0, size, size))
  if fit == "pad":
    across, down = (
      max(1, round(size * side / max(sides))) for side in (width, height)
    )
    left, top = (size - across) // 2, (size - down) // 2
    return Placement(size, (0.0, 0.0, 1.0, 1.0), (left, top, across, down))
  return Placement(size, (0.0, 0.0, 1.0, 1.0), (0, 0, size, size))


def check(fit: str) -> None:
  """UserError for another word."""
  if fit not in WAYS:
    raise UserError(
      f"config.data.fit is {fit!r}; allowed: {', '.join(WAYS)}"
      f"{nearest(str(fit), WAYS)}"
    )
