"""Records of tf.train.Example, read without TensorFlow, and TFRecord files.

An Example is a protocol buffer of named lists: of bytes, floats or whole
numbers. https://www.tensorflow.org/tutorials/load_data/tfrecord has both forms:
before each record of a TFRecord file stand its length (8 bytes) and a checksum
of that (4), behind it one of the record (4), which is not looked at.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cooper_jax.data import picture_files
from cooper_jax.errors import UserError

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # fields of a Feature
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types
_HEADER, _FOOTER = 12, 4  # bytes before and behind a record
_CASTAGNOLI = 0x82F63B78  # polynomial of the checksum, bits reversed


def parse(record: bytes) -> dict[str, list]:
  """Feature -> its values: bytes, floats or integers.

  Raises ValueError where the bytes are no Example, or have a feature twice.
  """
  found = {}
  for field, features in _fields(memoryview(record)):
    if field != 1:
      raise ValueError("no tf.train.Example")
    for _, entry in _fields(features):
      parts = dict(_fields(entry))
      if not isinstance(parts[1], memoryview):
        raise ValueError("no tf.train.Example")
      name = bytes(parts[1]).decode()
      if name in found:  # of two, one would be lost in silence
        raise ValueError(f"feature {name!r} stands twice")
      found[name] = _feature(parts.get(2, b""))
  return found


def _feature(feature) -> list:
  for field, values in _fields(memoryview(feature)):
    if field == _BYTES:
      # Of a memoryview: of a number, as many zeros.
      return [each.tobytes() for _, each in _fields(values)]
    if field == _FLOATS:
      return [
        number  # f32, which as text is as short as it was written
        for _, each in _fields(values)
        for number in np.frombuffer(each, "<f4")
      ]
    if field == _INTEGERS:
      return [number for _, each in _fields(values) for number in _whole(each)]
  return []


def _whole(each) -> Iterator[int]:
  """Signed numbers of a packed list, or the one of a plain field."""
  if isinstance(each, int):
    yield _signed(each)
    return
  at = 0
  while at < len(each):
    number, at = _varint(each, at)
    yield _signed(number)


def _signed(number: int) -> int:
  return number - (1 << 64) if number >> 63 else number


def _fields(message) -> Iterator[tuple[int, memoryview | int]]:
  """(number, value) of each field of a message."""
  at = 0
  while at < len(message):
    key, at = _varint(message, at)
    kind = key & 7
    if kind == _VARINT:
      value, at = _varint(message, at)
    else:
      if kind == _DELIMITED:
        size, at = _varint(message, at)
      else:
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind, len(message) + 1)
      value, at = message[at : at + size], at + size
    if at > len(message):
      raise ValueError("no tf.train.Example, or a cut one")
    yield key >> 3, value


def _varint(message, at: int) -> tuple[int, int]:
  """(number, place behind it)."""
  number = shift = 0
  while at < len(message) and shift < 64:
    byte = message[at]
    number |= (byte & 127) << shift
    at, shift = at + 1, shift + 7
    if byte < 128:
      return number, at
  raise ValueError("no tf.train.Example, or a cut one")


def places(path: str | Path, where: str) -> np.ndarray:
  """Where each record of a TFRecord file begins and ends, i64 [n, 2].

  Raises UserError where the file is cut, packed or none.
  """
  found, at = [], 0
  try:
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
      while at < size:
        file.seek(at)
        header = file.read(_HEADER)
        length = struct.unpack("<Q", header[:8].ljust(8))[0]
        whole = len(header) == _HEADER
        if not whole or header[8:] != _checksum(header[:8]):
          kind = "it is packed; unpack it" if header[:2] == b"\x1f\x8b" else ""
          kind = kind or f"no record begins at byte {at:,}"
          raise UserError(f"{where}: {path} is no TFRecord file: {kind}")
        start, at = at + _HEADER, at + _HEADER + length + _FOOTER
        if at > size:
          raise UserError(
            f"{where}: {path} is cut: record {len(found)} should end at byte"
            f" {at:,} of {size:,}"
          )
        found.append((start, start + length))
  except OSError as error:
    raise UserError(
      f"{where}: {path} can't be read: {picture_files.reason(error)}"
    ) from error
  return np.array(found, np.int64).reshape(-1, 2)


def _checksum(data: bytes) -> bytes:
  """The masked CRC-32C that TFRecord files have, little end first."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (_CASTAGNOLI if crc & 1 else 0)
  crc ^= 0xFFFFFFFF
  masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
  return struct.pack("<I", masked)
