"""Picture files that others wrote are opened safely, or refused in one line.

A path may begin with `~`; a URL, a folder, a device or a pipe is no picture.
Each refusal names the place that asked for the file ("own.jsonl:17"), the file
and what would be read instead. Pixels are not decoded here.
"""

import contextlib
import dataclasses
import io
import os
import re
import stat
import struct
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image, JpegImagePlugin

from cooper_jax.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000")
FILE_BYTES = 1 << 28
PIXELS = 64_000_000  # a 137 kB PNG can hold 144 million
JPEG_PIXELS = 256_000_000  # read at an eighth of the side: phones have 200
ORIENTATION = 0x0112  # of EXIF, 1 to 8
# What Pillow's decoders raise on broken files; never the way a run is stopped.
BROKEN = (
  OSError,
  ValueError,
  SyntaxError,
  TypeError,
  LookupError,
  ArithmeticError,
  AttributeError,
  RuntimeError,
  struct.error,
  tokenize.TokenError,  # of a .npy's header
)
_URL = re.compile(r"(?i)[a-z][a-z0-9+.-]+:/|data:")
_LONGEST = 200  # characters of a path in a message
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")


@dataclasses.dataclass(frozen=True)
class Embedded:
  """The bytes of a file that lies in another one, opened as a file is."""

  data: bytes = dataclasses.field(repr=False)
  name: str  # as a message has it

  suffix = ""

  def open(self, mode: str = "rb") -> BinaryIO:
    del mode
    return io.BytesIO(self.data)

  def __str__(self) -> str:
    return self.name


def beside(folder: Path, written: str) -> str:
  """The path that a file in `folder` means by `written`."""
  if not written or _URL.match(written):
    return written
  return str(folder / os.path.expanduser(written))


def shown(text: object) -> str:
  """A text of any length and content in one short line."""
  text = str(text)
  if len(text) > _LONGEST:
    text = f"{text[:120]}...{text[-60:]}"
  return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
  """What an exception says, without the path that OSError repeats."""
  return shown(getattr(error, "strerror", None) or error)


def regular(path: str | Path, where: str, what: str) -> Path:
  """The file of a path, `~` expanded; UserError where there is none."""
  return _regular(path, where, what)[0]


def sized(
  path: str | Path | Embedded, where: str, what: str
) -> Path | Embedded:
  """The same, of a file that is neither empty nor too large to be read."""
  file, size = _regular(path, where, what)
  said = f"{where}: {what} {shown(path)}"
  if size > FILE_BYTES:
    raise UserError(f"{said} is over {FILE_BYTES >> 20} MB; shrink it")
  if not size:
    raise UserError(f"{said} can't be read: it has no bytes")
  return file


def _regular(path, where: str, what: str) -> tuple[Path | Embedded, int]:
  if isinstance(path, Embedded):
    return path, len(path.data)
  written = os.fspath(path)
  said = f"{where}: {what} {shown(written)}"
  if not written.strip():
    raise UserError(f"{where}: the path of the {what} is empty; name a file")
  if _URL.match(written):
    raise UserError(f"{said}: URLs are not read; save the file and name it")
  try:
    file = Path(os.path.expanduser(written))
    found = file.stat()
  except FileNotFoundError as error:
    raise UserError(f"{said} does not exist") from error
  except (OSError, ValueError, RuntimeError) as error:
    raise UserError(f"{said} can't be read: {reason(error)}") from error
  if not stat.S_ISREG(found.st_mode):
    folder = stat.S_ISDIR(found.st_mode)
    kind = "a folder" if folder else "a pipe, socket or device"
    raise UserError(f"{said} can't be read: it is {kind}, not a file")
  return file, found.st_size


@contextlib.contextmanager
def opened(
  path: str | Path | Embedded,
  where: str,
  what: str,
  formats: Sequence[str] = FORMATS,
) -> Iterator[Image.Image]:
  """A picture whose header is read; what its decoding raises is one line.

  Raises UserError for files of other formats, broken and huge ones.
  """
  file = sized(path, where, what)
  said = f"{where}: {what} {shown(path)}"
  try:
    with (
      warnings.catch_warnings(action="ignore"),  # of Pillow: an error, or fine
      # A file, not a path: of a path, Pillow maps some turned TIFFs wrongly.
      file.open("rb") as raw,
      _recognised(raw, said, formats) as picture,
    ):
      most = PIXELS
      if picture.format == "JPEG" and not picture.info.get("progressive"):
        most = JPEG_PIXELS  # a progressive one is held whole to be decoded
      if picture.width * picture.height > most:
        raise UserError(
          f"{said} is {picture.width}x{picture.height}, the most is "
          f"{most // 10**6} million pixels; shrink it"
        )
      yield picture
  except Image.DecompressionBombError as error:
    raise UserError(
      f"{said} has over {PIXELS // 10**6} million pixels; shrink it"
    ) from error
  except BROKEN as error:
    raise UserError(f"{said} can't be read: {reason(error)}") from error


def orientation(picture: Image.Image) -> int:
  """How EXIF says that a picture is to be turned, 1 = not at all."""
  try:
    turned = picture.getexif().get(ORIENTATION, 1)
  except BROKEN:  # of no use then, as viewers see it
    return 1
  return turned if turned in range(1, 9) else 1


def _recognised(
  raw: BinaryIO, said: str, formats: Sequence[str]
) -> Image.Image:
  head = raw.read(32)
  raw.seek(0)
  if head.startswith(b"\xff\xd8\xff") and "JPEG" in formats:
    # Not by Image.open, which takes 200 million pixels for an attack.
    return JpegImagePlugin.JpegImageFile(raw)
  heic = head[4:8] == b"ftyp" and head[8:12] in _HEIC
  if heic and "AVIF" in formats:
    _load_heif(said)
    formats = ("HEIF", *formats)
  Image.preinit()
  if not set(formats) <= set(Image.OPEN):
    Image.init()
  known = [name for name in formats if name in Image.OPEN]
  try:
    return Image.open(raw, formats=known)
  except Image.UnidentifiedImageError as error:
    avif = head[4:8] == b"ftyp" and head[8:12] in _AVIF
    hint = "; a newer Pillow (11.3) reads AVIF" if avif else ""
    raise UserError(
      f"{said} is no {', '.join(known)} picture, or a broken one{hint}"
    ) from error


def _load_heif(said: str) -> None:
  """Registers HEIC, which phones write, with Pillow."""
  try:
    import pillow_heif
  except ImportError as error:
    raise UserError(
      f"{said} is HEIC, which Pillow reads with the package pillow-heif: "
      "pip install pillow-heif, or save it as JPEG or PNG"
    ) from error
  pillow_heif.register_heif_opener()
