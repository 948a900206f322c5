"""Pictures and maps from files, as a sample holds them.

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

from cooper_jax.data import depth_scale, file_ends
from cooper_jax.data.picture_files import (
  BROKEN,
  PIXELS,
  opened,
  orientation,
  reason,
  shown,
  sized,
)
from cooper_jax.errors import UserError
from cooper_jax.modalities import segmentation

LOSSLESS = ("PNG", "TIFF", "BMP")  # that keep values; writers of GIF renumber
LOSSY = ("jpeg", "tiff_jpeg", "webp")  # compressions of TIFF that do not
ASPECT = 0.02  # by which a map's sides may stand otherwise to each other
# What brings a stored array [H, W] upright, by EXIF's number.
TURNS = {
  1: lambda a: a,
  2: lambda a: a[:, ::-1],
  3: lambda a: a[::-1, ::-1],
  4: lambda a: a[::-1],
  5: lambda a: a.T,
  6: lambda a: np.rot90(a, -1),
  7: lambda a: a[::-1, ::-1].T,
  8: lambda a: np.rot90(a),
}
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


def read_image(path: str | Path, size: int, where: str) -> np.ndarray:
  """RGB u8 [size, size, 3], turned upright, cubic, on white."""
  with opened(path, where, "image") as picture:
    _check_depth_of_colour(picture, path, where)
    _draft(picture, size)
    rgb = _turned(picture).resize((size, size), Image.Resampling.BICUBIC)
  return np.array(rgb, np.uint8)


def read_upright(path: str | Path, longest: int, where: str) -> np.ndarray:
  """RGB u8 [H, W, 3] in its own aspect, turned upright, on white.

  longest: pixels that its longer side may have; a larger one is shrunk.
  """
  with opened(path, where, "image") as picture:
    _check_depth_of_colour(picture, path, where)
    _draft(picture, longest)
    rgb = within(_turned(picture), longest)
  return np.array(rgb, np.uint8)


def upright(picture: Image.Image, where: str) -> Image.Image:
  """An image that Pillow has opened, as RGB on white, turned upright."""
  _check_depth_of_colour(picture, "of Pillow", where)
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
    return _frame(picture)


def read_frame(path: str | Path, where: str) -> Frame:
  """The picture's sides and how it is turned, of its header."""
  with opened(path, where, "image") as picture:
    return _frame(picture)


def read_depth(
  path: str | Path,
  size: int,
  where: str,
  *,
  scale: float | None = None,
  frame: Frame | None = None,
) -> np.ndarray:
  """Planar metres f32 [size, size], 0 = no reading; of .npy, PNG or TIFF.

  `scale` is units a metre; without it integers are millimetres and floats are
  metres. `frame` is the picture's: the map is turned with it.
  """
  raw = _depth(path, where, frame, decode=True)
  metres = depth_scale.to_metres(raw, scale, f"{where}: depth {shown(path)}")
  return _nearest(metres, size)


def check_depth(
  path: str | Path,
  where: str,
  *,
  scale: float | None = None,
  frame: Frame | None = None,
) -> None:
  """UserError where a file can't be a depth map of that picture."""
  del scale  # told by the values alone
  _depth(path, where, frame, decode=False)


def raw_depth(path: str | Path, where: str) -> np.ndarray:
  """The numbers of a depth file, as they are stored."""
  return _depth(path, where, None, decode=True)


def read_classes(
  path: str | Path, size: int, where: str, *, frame: Frame | None = None
) -> np.ndarray:
  """Class ids u8 [size, size], of an 8-bit PNG, TIFF or BMP."""
  classes = _classes(path, where, frame, decode=True)
  ids, known = np.unique(classes), len(segmentation.CLASSES)
  strange = [int(i) for i in ids if i >= known and i != segmentation.IGNORE]
  said = f"{where}: segmentation {shown(path)}"
  if strange:
    raise UserError(
      f"{said} has class ids above {known - 1} ({_few(strange)}); map them"
      f" to the {known} of modalities/segmentation.py, or to"
      f" {segmentation.IGNORE} (ignore)"
    )
  if ids.tolist() == [segmentation.IGNORE]:
    raise UserError(
      f"{said} has no reading, all is {segmentation.IGNORE} (ignore); leave"
      " the map out of its line"
    )
  return _nearest(classes, size)


def check_classes(
  path: str | Path, where: str, *, frame: Frame | None = None
) -> None:
  """UserError where a file can't be a class map of that picture."""
  _classes(path, where, frame, decode=False)


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


def _frame(picture: Image.Image) -> Frame:
  """Of a picture that is not decoded yet."""
  frame = Frame(picture.width, picture.height, orientation(picture))
  if picture.format == "TIFF":  # Pillow gives the sides of the turned one
    width, height = frame.upright
    frame = dataclasses.replace(frame, width=width, height=height)
  return frame


def _depth(
  path: str | Path, where: str, frame: Frame | None, *, decode: bool
) -> np.ndarray | None:
  """Numbers as stored, turned upright; None where only the header is read."""
  said = f"{where}: depth {shown(path)}"
  file = sized(path, where, "depth")
  with file.open("rb") as raw:
    numpy = raw.read(6) == b"\x93NUMPY" or file.suffix.lower() == ".npy"
  if numpy:
    try:
      found = np.load(file, allow_pickle=False, mmap_mode="r")
    except BROKEN as error:
      raise UserError(
        f"{said} can't be read as .npy: {reason(error)}"
      ) from error
    if found.ndim != 2 or found.dtype.kind not in "fiu" or not found.size:
      raise UserError(
        f"{said} is {found.dtype}{list(found.shape)}; write metres as a float "
        "array [height, width]"
      )
    turned = _turn(Frame(*found.shape[::-1]), frame, said)
    return np.array(TURNS[turned](found)) if decode else None
  with opened(path, where, "depth") as picture:
    _check_lossless(picture, said)
    if picture.mode[0] not in "IF":
      raise UserError(
        f"{said} has mode {picture.mode}; write a 16-bit grey PNG of "
        "millimetres or a .npy of metres"
      )
    return _upright(picture, file, frame, said, decode=decode)


def _classes(
  path: str | Path, where: str, frame: Frame | None, *, decode: bool
) -> np.ndarray | None:
  """Ids as stored, turned upright; None where only the header is read."""
  said = f"{where}: segmentation {shown(path)}"
  with opened(path, where, "segmentation") as picture:
    _check_lossless(picture, said)
    stored = picture.tile[0].args if picture.tile else ""
    if picture.mode not in ("L", "P") or str(stored).startswith("L;"):
      raise UserError(
        f"{said} has mode {picture.mode}; write an 8-bit grey or palette PNG "
        "whose values are class ids"
      )
    file = Path(os.path.expanduser(path))
    return _upright(picture, file, frame, said, decode=decode)


def _upright(
  picture: Image.Image,
  file: Path,
  frame: Frame | None,
  said: str,
  *,
  decode: bool,
) -> np.ndarray | None:
  own = _frame(picture)
  turned = _turn(own, frame, said)
  if not decode:
    file_ends.check(file, picture)
    return None
  array = np.asarray(picture)
  if picture.format == "TIFF" and own.orientation != 1:
    return np.array(array)  # Pillow has turned it
  return np.array(TURNS[turned](array))


def _check_lossless(picture: Image.Image, said: str) -> None:
  """A lossy file holds blends of ids, and depths that nobody measured."""
  lossy = picture.info.get("compression") in LOSSY
  if picture.format not in LOSSLESS or lossy:
    kind = f"{picture.format} compressed as JPEG" if lossy else picture.format
    raise UserError(
      f"{said} is {kind}, which need not keep values; write a 16-bit grey PNG "
      "of depth or a .npy of metres, an 8-bit PNG of class ids"
    )


def _turn(own: Frame, frame: Frame | None, said: str) -> int:
  """EXIF's number of the turn that brings a map upright with its picture.

  A map that says nothing itself is as stored or as seen, whichever its sides
  are alike; where they are alike both, nobody can tell, and it is refused.
  """
  if frame is None:
    return own.orientation
  size, stored, seen = (
    own.upright,
    (frame.width, frame.height),
    frame.upright,
  )
  if own.orientation != 1 or frame.orientation == 1:
    if not _alike(size, seen):
      raise UserError(f"{said} {_otherwise(size, seen)}")
    return own.orientation
  as_stored, as_seen = _alike(size, stored), _alike(size, seen)
  if as_stored and as_seen and stored != seen and size in (stored, seen):
    as_stored, as_seen = size == stored, size == seen
  if as_stored and as_seen:
    raise UserError(
      f"{said} may be turned or not: EXIF turns its picture (orientation "
      f"{frame.orientation}) and {size[0]}x{size[1]} fits both ways; save the "
      "picture upright, without an orientation"
    )
  if not as_stored and not as_seen:
    raise UserError(f"{said} {_otherwise(size, seen)}")
  return frame.orientation if as_stored else 1


def _alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
  """Of one aspect, but for rounding to whole pixels."""
  across, down = size[0] * other[1], size[1] * other[0]
  return abs(across - down) <= max(*other, ASPECT * down)


def _otherwise(size: tuple[int, int], seen: tuple[int, int]) -> str:
  return (
    f"is {size[0]}x{size[1]}, of another aspect than its picture of "
    f"{seen[0]}x{seen[1]}; cut or pad one of them alike, a map is not stretched"
  )


def _few(ids: list[int]) -> str:
  more = ", ..." if len(ids) > 5 else ""
  return ", ".join(map(str, ids[:5])) + more


def _nearest(array: np.ndarray, size: int) -> np.ndarray:
  """Resized to [size, size] without blending across edges."""
  rows, columns = (
    ((np.arange(size) + 0.5) * side / size).astype(int) for side in array.shape
  )
  return np.ascontiguousarray(array[rows[:, None], columns])
