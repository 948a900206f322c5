"""Ends of picture files: a file that was cut off lacks its format's last mark.

Downloads and copies that stopped leave a good header and missing pixels, which
a decoder meets only when a batch draws the sample. Here lengths are followed
and the last mark is looked for; no pixel is decoded. Formats and files that say
nothing about their end pass.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image


def check(file: Path, picture: Image.Image) -> None:
  """ValueError where the file ends before its picture does."""
  whole = _WHOLE.get(picture.format)
  if whole is None:
    return
  with (
    file.open("rb") as raw,
    mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    try:
      found = whole(data, picture)
    except (IndexError, struct.error):  # the end came inside a length
      found = False
    if not found:
      raise ValueError(
        f"it is cut off, {picture.format} should go on after its "
        f"{len(data)} bytes"
      )


def _png(data: mmap.mmap, picture: Image.Image) -> bool:
  at = 8
  while data[at + 4 : at + 8] != b"IEND":
    at += 12 + struct.unpack_from(">I", data, at)[0]
  return at + 8 <= len(data)


def _jpeg(data: mmap.mmap, picture: Image.Image) -> bool:
  """The end's mark can't stand within pixels, but well in a thumbnail."""
  at = 2
  while data[at + 1] != 0xDA:
    if data[at] != 0xFF:
      return True  # no segments to follow: left to the decoder
    fill = data[at + 1] == 0xFF
    at += 1 if fill else 2 + struct.unpack_from(">H", data, at + 2)[0]
  return data.find(b"\xff\xd9", at) >= 0


def _riff(data: mmap.mmap, picture: Image.Image) -> bool:
  return 8 + struct.unpack_from("<I", data, 4)[0] <= len(data) + 1


def _gif(data: mmap.mmap, picture: Image.Image) -> bool:
  """Up to the end of the first frame, all that is read."""

  def table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

  def blocks(at: int) -> int:
    while data[at]:
      at += 1 + data[at]
    return at + 1

  at = 13 + table(data[10])
  while data[at] == 0x21:
    at = blocks(at + 2)
  return blocks(at + 11 + table(data[at + 9])) <= len(data)


def _bmp(data: mmap.mmap, picture: Image.Image) -> bool:
  """Of rows that are not packed, each of a multiple of four bytes."""
  if struct.unpack_from("<I", data, 30)[0] not in (0, 3):
    return True
  start, bits = (struct.unpack_from(c, data, i)[0] for c, i in _BMP)
  row = (picture.width * bits + 31) // 32 * 4
  return start + row * picture.height <= len(data)


def _tiff(data: mmap.mmap, picture: Image.Image) -> bool:
  order = "<" if data[:2] == b"II" else ">"
  if struct.unpack_from(f"{order}H", data, 2)[0] == 42:  # not of 64 bits
    at = struct.unpack_from(f"{order}I", data, 4)[0]
    for _ in range(struct.unpack_from(f"{order}H", data, at)[0]):
      kind, count, value = struct.unpack_from(f"{order}2xHII", data, at + 2)
      size = _TIFF.get(kind, 1) * count
      if size > 4 and value + size > len(data):
        return False
      at += 12
  tags = picture.tag_v2
  for starts, sizes in ((273, 279), (324, 325)):  # of strips, of tiles
    both = zip(tags.get(starts, ()), tags.get(sizes, ()))
    if any(start + size > len(data) for start, size in both):
      return False
  return True


def _boxes(data: mmap.mmap, picture: Image.Image) -> bool:
  """AVIF, HEIC and JPEG 2000: boxes, each with its length in front."""
  if data[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000 without boxes
    return data.find(b"\xff\xd9", 4) >= 0
  return all(end <= len(data) for end in _box_ends(data))


def _box_ends(data: mmap.mmap) -> Iterator[int]:
  at = 0
  while at + 8 <= len(data):
    size = struct.unpack_from(">I", data, at)[0]
    if size == 1:
      size = struct.unpack_from(">Q", data, at + 8)[0]
    known = data[at + 4 : at + 8] in _BOXES
    if not known or size < 8:  # what was appended; 0: up to the file's end
      return
    at += size
    yield at


_BOXES = (b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"uuid")
_BOXES += (b"jP  ", b"jp2h", b"jp2c", b"xml ", b"wide", b"idat")
_BMP = (("<I", 10), ("<H", 28))  # where pixels start, bits of each
_TIFF = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a type
_WHOLE = {
  "PNG": _png,
  "JPEG": _jpeg,
  "WEBP": _riff,
  "GIF": _gif,
  "BMP": _bmp,
  "TIFF": _tiff,
  "AVIF": _boxes,
  "HEIF": _boxes,
  "JPEG2000": _boxes,
}
