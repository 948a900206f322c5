"""Pictures and maps from files, as a sample holds them.

Every function takes the path, the side in pixels to resize to and `where`, the
place that names the file ("own.jsonl:17"), and raises UserError, one line that
begins with that place, for what is missing, broken, huge or of another kind.
"""

import pathlib
import warnings

import numpy as np
from PIL import Image, ImageOps

from cooper_jax.errors import UserError
from cooper_jax.modalities import segmentation

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
FILE_BYTES = 1 << 28
PIXELS = 64_000_000  # a 137 kB PNG can hold 144 million


def read_image(path: pathlib.Path, size: int, where: str) -> np.ndarray:
  """RGB u8 [size, size, 3], turned upright, cubic."""
  picture = ImageOps.exif_transpose(_open(path, where, "image")).convert("RGB")
  picture = picture.resize((size, size), Image.Resampling.BICUBIC)
  return np.array(picture, np.uint8)


def read_depth(path: pathlib.Path, size: int, where: str) -> np.ndarray:
  """Planar metres f32 [size, size], 0 = no reading; of .npy or 16-bit PNG."""
  if path.suffix == ".npy":
    try:
      metres = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
      raise UserError(
        f"{where}: depth {path} can't be read as .npy: {error}"
      ) from error
    if metres.ndim != 2 or metres.dtype.kind not in "fiu" or not metres.size:
      raise UserError(
        f"{where}: depth {path} is {metres.dtype}{list(metres.shape)}; write "
        "metres as a float array [height, width]"
      )
    metres = _nearest(metres, size).astype(np.float32)
  else:
    picture = _open(path, where, "depth")
    if not picture.mode.startswith("I"):
      raise UserError(
        f"{where}: depth {path} has mode {picture.mode}; write a 16-bit grey "
        "PNG of millimetres or a .npy of metres"
      )
    metres = _nearest(np.asarray(picture), size).astype(np.float32) / 1000
  return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def read_classes(path: pathlib.Path, size: int, where: str) -> np.ndarray:
  """Class ids u8 [size, size], of an 8-bit PNG."""
  picture = _open(path, where, "segmentation")
  if picture.mode not in ("L", "P"):
    raise UserError(
      f"{where}: segmentation {path} has mode {picture.mode}; write an 8-bit "
      "grey or palette PNG whose values are class ids"
    )
  classes = _nearest(np.asarray(picture), size).astype(np.uint8)
  known = len(segmentation.CLASSES)
  if ((classes >= known) & (classes != segmentation.IGNORE)).any():
    raise UserError(
      f"{where}: segmentation {path} has class ids above {known - 1}; map them"
      f" to the {known} of modalities/segmentation.py, or to"
      f" {segmentation.IGNORE} (ignore)"
    )
  return classes


def _open(path: pathlib.Path, where: str, what: str) -> Image.Image:
  """A decoded picture, refused with one line where it is broken or huge."""
  try:
    if path.stat().st_size > FILE_BYTES:
      raise UserError(f"{where}: {what} {path} is over {FILE_BYTES >> 20} MB")
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)
      picture = Image.open(path, formats=FORMATS)
    with picture:
      if picture.width * picture.height > PIXELS:
        raise UserError(
          f"{where}: {what} {path} is {picture.width}x{picture.height}, the "
          f"most is {PIXELS // 10**6} million pixels; shrink it"
        )
      picture.load()
      return picture
  except Image.DecompressionBombError as error:
    raise UserError(
      f"{where}: {what} {path} has over {PIXELS // 10**6} million pixels; "
      "shrink it"
    ) from error
  except Image.UnidentifiedImageError as error:
    raise UserError(
      f"{where}: {what} {path} is no {', '.join(FORMATS)} picture"
    ) from error
  except FileNotFoundError as error:
    raise UserError(f"{where}: {what} {path} does not exist") from error
  except (OSError, ValueError, SyntaxError) as error:  # all three from PIL
    raise UserError(f"{where}: {what} {path} can't be read: {error}") from error


def _nearest(array: np.ndarray, size: int) -> np.ndarray:
  """Resized to [size, size] without blending across edges."""
  rows, columns = (
    ((np.arange(size) + 0.5) * side / size).astype(int) for side in array.shape
  )
  return np.ascontiguousarray(array[rows[:, None], columns])
