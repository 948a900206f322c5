"""Pictures from files, as a sample holds them.

Every function takes the path, the side in pixels to resize to and `where`, the
place that names the file ("own.jsonl:17"), and raises UserError, one line that
begins with that place, for what is missing, broken, huge or of another kind.
The `check_` functions find what the header, EXIF, size and end of a file tell,
without decoding it.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax.data import file_ends, fitting
from cooper_jax.data.picture_files import (
  BROKEN,
  PIXELS,
  opened,
  orientation,
  reason,
  shown,
)
from cooper_jax.errors import UserError

_METHODS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True)
class Frame:
  """The sides of a picture as stored, and how EXIF turns it; of a header."""

  width: int
  height: int
  orientation: int = 1

  @property
  def upright(self) -> tuple[int, int]:
    """(width, height) as the picture is seen."""
    sides = (self.width, self.height)
    return sides[::-1] if self.orientation >= 5 else sides


def read_image(
  path: str | Path, size: int, where: str, fit: str = fitting.SQUASH
) -> np.ndarray:
  """RGB u8 [size, size, 3], turned upright, cubic, on white.

  fit: what makes it square, or of another shape (`config.data.fit`).
  """
  with opened(path, where, "image") as picture:
    _check_depth_of_colour(picture, path, where)
    frame = frame_of(picture)
    _draft(picture, max(size, 0, *map(max, fitting.shapes(fit))))
    rgb = _turned(picture)
    # A draft's aspect is rounded; other kinds may tell their turn at the end.
    sides = frame.upright if picture.format == "JPEG" else rgb.size
    shape = fitting.nearest_shape(fit, sides, size)
    return fitting.place(fit, rgb.size, size, shape).image(rgb)


def read_upright(path: str | Path, longest: int, where: str) -> np.ndarray:
  """RGB u8 [H, W, 3] in its own aspect, turned upright, on white.

  longest: pixels that its longer side may have; a larger one is shrunk.
  """
  with opened(path, where, "image") as picture:
    _check_depth_of_colour(picture, path, where)
    _draft(picture, longest)
    rgb = within(_turned(picture), longest)
  return np.array(rgb, np.uint8)


def upright(
  picture: Image.Image, where: str, *, alone: bool = True
) -> Image.Image:
  """An image that Pillow has opened, as RGB on white, turned upright.

  alone: whether no maps and no camera go with it, which do not say its turn;
  else UserError where EXIF has one.
  """
  _check_depth_of_colour(picture, "of Pillow", where)
  if not alone and orientation(picture) != 1:
    raise UserError(
      f"{where}: EXIF turns the picture, which its maps and its camera do not"
      " say; save it upright"
    )
  try:
    return _turned(picture)
  except BROKEN as error:
    raise UserError(f"{where} can't be read: {reason(error)}") from error


def within(rgb: Image.Image, longest: int) -> Image.Image:
  """The image itself, or shrunk so that no side has more pixels."""
  scale = longest / max(rgb.size)
  if scale >= 1:
    return rgb
  shape = [max(1, round(side * scale)) for side in rgb.size]
  return rgb.resize(shape, Image.Resampling.LANCZOS)


def check_image(path: str | Path, where: str) -> Frame:
  """The picture's sides; UserError where it can't be one, or is cut."""
  with opened(path, where, "image") as picture:
    _check_depth_of_colour(picture, path, where)
    file_ends.check(Path(os.path.expanduser(path)), picture)
    return frame_of(picture)


def read_frame(path: str | Path, where: str) -> Frame:
  """The picture's sides and how it is turned, of its header."""
  with opened(path, where, "image") as picture:
    return frame_of(picture)


def _draft(picture: Image.Image, side: int) -> None:
  """Lets the decoder of a huge JPEG leave out what no pixel would show."""
  if picture.format == "JPEG" and picture.width * picture.height > PIXELS:
    picture.draft(None, (side, side))


def _turned(picture: Image.Image) -> Image.Image:
  """RGB on white, as EXIF says that it is seen."""
  picture.load()
  turned = orientation(picture)  # after load(), which turns a TIFF itself
  rgb = _rgb(picture)
  return rgb if turned == 1 else rgb.transpose(_METHODS[turned])


def _rgb(picture: Image.Image) -> Image.Image:
  """Eight bits a channel; 16-bit grey is scaled, what is hidden is white."""
  if picture.mode.startswith("I"):  # convert("RGB") would clip it to white
    raw = np.asarray(picture).astype(np.uint32)
    grey = ((raw * 255 + 32_767) // 65_535).astype(np.uint8)
    hidden = picture.info.get("transparency")
    if isinstance(hidden, int):
      grey[raw == hidden] = 255
    return Image.fromarray(grey).convert("RGB")
  if picture.has_transparency_data:
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture.convert("RGBA"))
  return picture.convert("RGB")


def _check_depth_of_colour(
  picture: Image.Image, path: str | Path, where: str
) -> None:
  """Pixels of 32 bits do not say which value is white."""
  grey16 = picture.mode.startswith("I;16") or picture.format == "PNG"
  if picture.mode[0] in "IF" and not grey16:
    raise UserError(
      f"{where}: image {shown(path)} has 32-bit pixels (mode {picture.mode}),"
      " whose white is not known; save it with 8 or 16 bits"
    )


def frame_of(picture: Image.Image) -> Frame:
  """The sides and the turn of a picture that is not decoded yet."""
  frame = Frame(picture.width, picture.height, orientation(picture))
  if picture.format == "TIFF":  # Pillow gives the sides of the turned one
    width, height = frame.upright
    frame = dataclasses.replace(frame, width=width, height=height)
  return frame
