"""The lens that a model is told with a picture, where it is told one.

A sample brings its camera. Of another picture somebody says how many degrees
it is wide, or EXIF does; else a world's model is told the middle of the lenses
that it was trained with, of the square that it sees.
"""

import dataclasses
import numbers

import numpy as np

from cooper_jax.data import fitting, lens_of
from cooper_jax.errors import UserError
from cooper_jax.inference.images import InputImage
from cooper_jax.world.config import WorldConfig


def check(degrees: float | None, config, where: str = "field_of_view=") -> None:
  """UserError for an angle that is none, or a model that is not told it."""
  if degrees is None:
    return
  if isinstance(degrees, bool) or not isinstance(degrees, numbers.Real):
    raise UserError(f"{where}{degrees!r}; give a number of degrees, or None")
  said = f"{where}{degrees:g}"
  if not 0 < degrees <= lens_of.WIDEST:
    raise UserError(
      f"{said}; allowed: degrees above 0, up to {lens_of.WIDEST:g}"
    )
  if not config.data.get("tell_lens", False):
    raise UserError(
      f"{said}: this model was trained without being told the lens"
      " (data.tell_lens is False); leave it out"
    )


def told(found: InputImage, degrees: float | None, config) -> InputImage:
  """The image with the camera that the model is told, and a note of it.

  degrees: as somebody says, None = as is known. Of a model that is not told
  the lens, and where the image's camera is known, the image as it is.
  """
  if not config.data.get("tell_lens", False):
    return found
  if degrees is not None:
    return _wide(found, degrees, config, "as is said")
  if found.camera is not None:
    return found
  if found.view is not None:
    return _wide(found, found.view, config, "by its EXIF")
  if config.data.source != "world":
    return found  # other data has pictures without a camera, too
  world = config.get("world", {})
  low, high = world.get("field_of_view", WorldConfig.field_of_view)
  middle, size = (low + high) / 2, config.data.image_size
  note = f"taken as {middle:.0f} degrees wide as the model sees it"
  return dataclasses.replace(
    found,
    camera=lens_of.camera(middle, (size, size)).astype(np.float32),
    notes=(f"{note}: its lens is not known",),
  )


def _wide(found: InputImage, degrees: float, config, why: str) -> InputImage:
  size, fit = config.data.image_size, config.data.get("fit", fitting.SQUASH)
  shape = found.square.shape[1::-1]
  placed = fitting.place(fit, found.sides, size, shape)
  camera = lens_of.camera(degrees, found.sides)
  return dataclasses.replace(
    found,
    camera=placed.camera(camera, found.sides),
    notes=(f"taken as {degrees:.0f} degrees wide: {why}",),
  )
