"""Files of maps, opened for the modality that reads them.

A modality's `read_file(file)` gets a `MapFile` and asks it for an array or for
pixels, which come upright as their picture is seen. What is missing, broken,
huge, of another kind or of another aspect than its picture raises UserError,
one line that begins with the place that names the file ("own.jsonl:17").
Where only the header, EXIF, size and end of a file are to be checked, the
reading ends there, and nothing is decoded.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cooper_jax import plugins
from cooper_jax.data import file_ends, fitting, numpy_files
from cooper_jax.data.picture_files import Embedded, opened, shown, sized
from cooper_jax.data.pictures import Frame, frame_of
from cooper_jax.errors import UserError

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


class _Checked(Exception):
  """Ends the reading of a file of which only the header is checked."""


@dataclasses.dataclass(frozen=True)
class MapFile:
  """One file of a map, as a modality's `read_file` gets it."""

  what: str  # the modality's name
  path: str | Path | Embedded
  where: str  # the place that names it
  frame: Frame | None = None  # of its picture: the map is turned with it
  scale: float | None = None  # units, as the line says
  decode: bool = True  # False: only the header is checked
  written: str = ""  # the path as the line has it, to be said
  certain: bool = False  # its units are those of a published data set
  names: tuple[str, ...] = ()  # of its class ids; () = those of the run's list

  @property
  def said(self) -> str:
    """The place, the modality and the path, as a message begins."""
    return f"{self.where}: {self.what} {shown(self.written or self.path)}"

  def is_numpy(self) -> bool:
    """Whether it is a .npy, by its first bytes or its name."""
    file = sized(self.path, self.where, self.what)
    with file.open("rb") as raw:
      return raw.read(6) == b"\x93NUMPY" or file.suffix.lower() == ".npy"

  def numpy(
    self, *, axes: int, kinds: str = "f", wanted: str = ""
  ) -> np.ndarray:
    """The array [h, w, ...] of a .npy, of so many axes and kinds of numbers.

    `wanted` says what to write instead. Vectors, of three axes, are not turned.
    """
    wanted = wanted or f"write an array of {axes} axes [height, width, ...]"
    found = numpy_files.array(self.path, self.where, self.what, self.said)
    if found.ndim == axes + 1 and found.shape[-1] == 1:  # as [h, w, 1]
      found = found[..., 0]
    if found.ndim != axes or found.dtype.kind not in kinds or not found.size:
      raise UserError(
        f"{self.said} is {found.dtype}{list(found.shape)}; {wanted}"
      )
    turned = _turn(Frame(*found.shape[1::-1]), self.frame, self.said)
    if turned != 1 and axes > 2:
      raise UserError(
        f"{self.said} would have to be turned with its picture (orientation"
        f" {turned}), its vectors too; save the picture upright"
      )
    if not self.decode:
      raise _Checked
    return np.array(TURNS[turned](found))

  def check_sides(self, array: np.ndarray) -> None:
    """UserError where an array [h, w] has another aspect than its picture."""
    if self.frame is not None:
      _turn(Frame(*array.shape[1::-1]), self.frame, self.said)

  def pixels(self, fits: Callable[[str], bool], *, wanted: str) -> np.ndarray:
    """The pixels [h, w] of a picture file that keeps values.

    `fits` tells which of Pillow's modes can be read, `wanted` what to write
    instead.
    """
    with opened(self.path, self.where, self.what) as picture:
      _check_lossless(picture, self.said)
      stored = picture.tile[0].args if picture.tile else ""
      mode = picture.mode
      if not fits(mode) or str(stored).startswith("L;"):
        raise UserError(f"{self.said} has mode {mode}; {wanted}")
      file = Path(os.path.expanduser(str(self.path)))
      array = _upright(picture, file, self.frame, self.said, decode=self.decode)
    if array is None:
      raise _Checked
    return array


def read(
  name: str,
  path: str | Path,
  size: int,
  where: str,
  *,
  scale: float | None = None,
  names: tuple[str, ...] = (),
  frame: Frame | None = None,
  modality: Any = None,
  fit: str = fitting.SQUASH,
) -> np.ndarray:
  """The map [size, size, ...] of a file, as the modality `name` reads it.

  modality: as `modalities.set_up` gives it; None = as it stands.
  """
  modality = modality or plugins.find("modalities", name)
  file = MapFile(name, path, where, frame, scale, names=names)
  array = modality.read_file(file)
  sides = frame.upright if frame else array.shape[1::-1]
  return fitting.place(fit, sides, size).array(array, modality.fill())


def check(
  name: str,
  path: str | Path,
  where: str,
  *,
  scale: float | None = None,
  names: tuple[str, ...] = (),
  frame: Frame | None = None,
  modality: Any = None,
) -> None:
  """UserError where a file's header and end show that it is no such map."""
  modality = modality or plugins.find("modalities", name)
  file = MapFile(name, path, where, frame, scale, decode=False, names=names)
  try:
    modality.read_file(file)
  except _Checked:
    return


def _upright(
  picture: Image.Image,
  file: Path,
  frame: Frame | None,
  said: str,
  *,
  decode: bool,
) -> np.ndarray | None:
  own = frame_of(picture)
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
