"""Images that a model is asked about: paths, PIL images, arrays and samples.

Each becomes what the model sees, a small square, and what people see, the same
image upright in its own aspect, on which maps and places are shown.
"""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image

from cooper_jax.data import fitting, lens_of, picture_files, pictures
from cooper_jax.errors import UserError, short
from cooper_jax.report import answer_page
from cooper_jax.sample import Sample


@dataclasses.dataclass(frozen=True, eq=False)
class InputImage:
  """An image in the two forms that an answer needs.

  square: u8 [side, side, 3], what the model is given; side =
    config.data.image_size. Where `config.data.fit` has shapes it may have one
    of them.
  photo: u8 [H, W, 3], upright, as given, at most 2048 pixels a side.
  sides: (width, height) of the picture as given, upright.
  sample: the scene that it is of, None for a picture of unknown origin.
  camera: of the square, f32 [3, 3]; None where none is known.
  path: its file, None without one.
  view: degrees that it is wide by its EXIF, None where that says nothing.
  notes: what people are told of how it is taken.
  """

  square: np.ndarray
  photo: np.ndarray
  sides: tuple[int, int]
  sample: Sample | None = None
  camera: np.ndarray | None = None
  path: Path | None = None
  view: float | None = None
  notes: tuple[str, ...] = ()


def read(
  image, size: int, where: str = "image", *, fit: str = fitting.SQUASH
) -> InputImage:
  """Takes a path, a PIL image, an array u8 [H, W, 3] or a `Sample`.

  fit: what makes it square (`config.data.fit`); the photo shows what the model
  is given, so that maps lie on it. where: what names the image in an error.
  Raises UserError for all else, and for files that are missing, broken or huge.
  """
  if isinstance(image, (str, os.PathLike)):
    photo = pictures.read_upright(image, answer_page.MAX_SIDE, where)
    square = pictures.read_image(image, size, where, fit)
    with picture_files.opened(image, where, "image") as picture:
      sides = pictures.frame_of(picture).upright
      view = lens_of.field_of_view(picture, sides)
    return InputImage(
      square=square,
      photo=_fitted(photo, square, size, fit),
      sides=sides,
      path=Path(image).expanduser(),
      view=view,
    )
  if isinstance(image, Sample):
    found = _of_pixels(image.image, size, where, fit)
    sides = image.image.shape[1::-1]
    camera = image.camera
    if camera is not None:
      # One that has its shape already is as sources give it: its camera is that
      # of its maps' square.
      fitted = sides == found.square.shape[1::-1]
      camera = _checked(camera, (size, size) if fitted else sides, where)
      if not fitted:
        camera = fitting.place(fit, sides, size).camera(camera, sides)
    return dataclasses.replace(found, sample=image, camera=camera)
  if isinstance(image, Image.Image):
    if 0 in image.size:
      raise UserError(f"{where} is {image.size[0]} x {image.size[1]} pixels")
    upright = pictures.upright(image, where)
    found = _of_picture(upright, size, fit)
    view = lens_of.field_of_view(image, upright.size)
    return dataclasses.replace(found, view=view)
  if hasattr(image, "shape") and hasattr(image, "dtype"):
    return _of_pixels(image, size, where, fit)
  raise UserError(
    f"{where} is of type {type(image).__name__}; give a path, a PIL image, an"
    " array u8 [H, W, 3] or a Sample"
  )


def _checked(camera, sides: tuple[int, int], where: str) -> np.ndarray:
  """A camera K [3, 3] of a picture; UserError for what is none, or shares.

  sides: (width, height), pixels.
  """
  try:
    found = np.asarray(camera, np.float32)
  except (TypeError, ValueError):
    found = np.zeros(0, np.float32)
  least = 1 / 2 / math.tan(math.radians(lens_of.WIDEST) / 2)
  if (
    found.shape != (3, 3)
    or not np.isfinite(found).all()
    or (found.diagonal()[:2] < least * np.array(sides)).any()
  ):
    raise UserError(
      f"{where}: its camera is {short(camera)}; it should be K [3, 3], [[fx, 0,"
      " cx], [0, fy, cy], [0, 0, 1]] in pixels of the picture (not shares of"
      f" its sides), of a view up to {lens_of.WIDEST:g} degrees"
    )
  return found


def _of_pixels(array, size: int, where: str, fit: str) -> InputImage:
  array = np.asarray(array)
  right = array.ndim == 3 and array.shape[-1] == 3 and array.size
  if array.dtype != np.uint8 or not right:
    raise UserError(
      f"{where} is {array.dtype}{list(array.shape)}; an array must be"
      " uint8[H, W, 3], red, green, blue from 0 to 255"
    )
  return _of_picture(Image.fromarray(np.ascontiguousarray(array)), size, fit)


def _of_picture(rgb: Image.Image, size: int, fit: str) -> InputImage:
  square = fitting.place(fit, rgb.size, size).image(rgb)
  photo = np.array(pictures.within(rgb, answer_page.MAX_SIDE), np.uint8)
  return InputImage(square, _fitted(photo, square, size, fit), rgb.size)


def _fitted(photo, square, size: int, fit: str) -> np.ndarray:
  """The photo [H, W, 3] as `square` shows it, at its own size."""
  sides, shape = (each.shape[1::-1] for each in (photo, square))
  return fitting.place(fit, sides, size, shape).photo(photo)
