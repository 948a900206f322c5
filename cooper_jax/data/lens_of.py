"""The lens of a picture: degrees by its EXIF, and as a pinhole camera.

EXIF tells the focal length as that of a 35 mm film of the same diagonal (Exif
3.0, FocalLengthIn35mmFilm). Of a picture that was cut since it is wrong.
"""

import math

import numpy as np
from PIL import Image

from cooper_jax.data.picture_files import BROKEN

WIDEST = 170.0  # degrees; a pinhole of 180 has a focal length of 0
_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405
_DIAGONAL_35MM = math.hypot(36.0, 24.0)


def field_of_view(picture: Image.Image, sides: tuple[int, int]) -> float | None:
  """Degrees that a picture is wide by its EXIF; None where that says nothing.

  sides: (width, height) as it is seen.
  """
  try:
    film = float(picture.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM, 0))
  except BROKEN:
    return None
  if not 0 < film < math.inf:
    return None
  width = sides[0] * _DIAGONAL_35MM / math.hypot(*sides)
  degrees = 2 * math.degrees(math.atan(width / 2 / film))
  return degrees if degrees <= WIDEST else None


def camera(degrees: float, sides: tuple[int, int]) -> np.ndarray:
  """Pinhole K f64 [3, 3] of a picture so many degrees wide.

  sides: (width, height), pixels; its axis meets the middle, pixels are square.
  """
  width, height = sides
  focal = width / 2 / math.tan(math.radians(degrees) / 2)
  return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
