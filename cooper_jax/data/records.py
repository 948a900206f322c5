"""Lines of a JSONL file as objects, read strictly: every mistake is named.

Read are UTF-8, with or without a byte order mark, UTF-16 and UTF-32 with one,
as spreadsheets and PowerShell write them, and gzip of any of these. A number
stays as it is written, so that `2.40` is an answer of two decimals.
"""

import codecs
import contextlib
import functools
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cooper_jax import modalities
from cooper_jax.data import conversations, picture_files
from cooper_jax.errors import UserError, nearest

REQUIRED_KEYS = ("image", "question", "answer")
ASKING = REQUIRED_KEYS[1:]  # what a line with a map may be without, together
CLASSES = "class_list"  # of the ids of its map: a packaged name, or a text file
CAMERA = "camera"  # [fx, fy, cx, cy], pixels of the picture
TEXTS = (CLASSES, "unit", "reasoning", "flag", "id", "family", "answer_type")
ASKED = (  # what says more of a question, and means nothing without one
  "options", "value", "unit", "reasoning", "flag", "family", "answer_type"
)  # fmt: skip
NUMERIC = ("answer", "id")  # may be numbers, and are then read as written
LINE_BYTES = 1 << 20
_BLANK = re.compile(r"\s*")
_NO_CHARACTER = re.compile("[\ud800-\udfff\0]")
DIGITS = 30  # of a number, at most
MARKS = (  # the longer before the shorter that it begins with
  (codecs.BOM_UTF32_LE, "utf-32"),
  (codecs.BOM_UTF32_BE, "utf-32"),
  (codecs.BOM_UTF16_LE, "utf-16"),
  (codecs.BOM_UTF16_BE, "utf-16"),
)
PACKED = {
  b"BZh": "bzip2",
  b"\xfd7zXZ": "xz",
  b"\x28\xb5\x2f\xfd": "zstd",
  b"PK\x03\x04": "zip",
}


class Number(str):
  """A JSON number, as written."""


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
  """(number, UTF-8 bytes) of each line; a longer one than the most is cut.

  Raises UserError where the file is none, or is packed or cut.
  """
  names = "config.data.settings.jsonl.path names the file to read"
  try:
    file = picture_files.regular(path, "own data", "file")
  except UserError as error:
    raise UserError(f"{error}; {names}") from error
  try:
    with file.open("rb") as raw:
      if raw.read(2) == b"\x1f\x8b":
        raw.seek(0)
        with gzip.open(raw) as unpacked:
          yield from _lines(unpacked, path)
      else:
        raw.seek(0)
        yield from _lines(raw, path)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise UserError(
      f"{path}: not whole gzip: {picture_files.reason(error)}"
    ) from error
  except OSError as error:
    raise UserError(
      f"{path}: {picture_files.reason(error)}; {names}"
    ) from error


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
  head = file.read(6)
  for mark, name in PACKED.items():
    if head.startswith(mark):
      raise UserError(f"{path}: packed with {name}; unpack it, or use gzip")
  file.seek(0)
  for mark, name in MARKS:
    if head.startswith(mark):
      try:
        text = file.read().decode(name)
      except UnicodeDecodeError as error:
        raise UserError(
          f"{path}: not {name.upper()} at byte {error.start}, as its first "
          "bytes say"
        ) from error
      for number, line in enumerate(text.split("\n"), 1):
        yield number, line.encode()
      return
  start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
  if head[start:].lstrip().startswith(b"["):
    yield from _elements(file, path)
    return
  file.seek(start)
  number = 0
  while line := file.readline(LINE_BYTES + 1):
    number += 1
    yield number, line
    while len(line) > LINE_BYTES and not line.endswith(b"\n"):
      line = file.readline(LINE_BYTES + 1)


def _elements(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
  """Elements of one JSON array, as LLaVA's files are, each as a line."""
  file.seek(0)
  try:
    text = file.read().decode("utf-8-sig")
    at, number, decoder = text.index("[") + 1, 0, json.JSONDecoder()
    while True:
      at = _BLANK.match(text, at).end()
      if text[at : at + 1] in ("]", ""):
        break
      number, start = number + 1, at
      at = _BLANK.match(text, decoder.raw_decode(text, at)[1]).end()
      yield number, text[start:at].encode()
      if text[at : at + 1] == ",":
        at += 1
    if text[at:].strip() != "]":
      raise ValueError("the array does not end, or goes on after its end")
  except (ValueError, RecursionError) as error:
    raise UserError(
      f"{path}: begins with [ and is no JSON array: {error}"
    ) from error


def texts() -> tuple[str, ...]:
  """The keys whose values are strings, files of maps among them."""
  return (*REQUIRED_KEYS, *modalities.names(), *TEXTS)


def keys() -> tuple[str, ...]:
  """All keys that a line may have."""
  return _keys(modalities.names())


@functools.cache  # of every line
def _keys(names: tuple[str, ...]) -> tuple[str, ...]:
  known = modalities.found()
  scales = (f"{name}_scale" for name in names if known[name].SCALED)
  return (*texts(), CAMERA, "options", "value", *scales)


def parse(raw: bytes) -> list[tuple[dict[str, Any], list[str]]]:
  """(object, what is wrong with it) of a line; {} where it is no object.

  Of a conversation one for each question, of other lines one. Every value is
  of its type; keys whose value is null, or wrong, are left out, so that what
  else is wrong with the line can be found.
  """
  try:
    expanded = conversations.expand(_decode(raw), keys())
  except ValueError as error:
    return [({}, [str(error)])]
  return [checked(record) for record in expanded]


def checked(record: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
  """The record with values of their types, and what was wrong with it.

  Numbers are `Number`, as they are written.
  """
  problems, known = [], keys()
  several = [k for k in ("image", "images") if isinstance(record.get(k), list)]
  for key in several:
    problems.append(
      f"{key!r} is a list of {len(record.pop(key))}: several images a question"
      " are not read; write a line with one path as 'image'"
    )
  bare = not any(record.get(key) for key in ASKING)
  bare = bare and any(record.get(name) for name in modalities.names())
  for key in record:
    if key not in known:
      problems.append(
        f"unknown key {said(key)}; allowed are {', '.join(known)}"
        f"{nearest(key, known)}"
      )
  record = {
    key: value
    for key, value in record.items()
    if value is not None and key in known
  }
  problems += [
    f"{key!r} belongs to a question, and this line has none; write 'question'"
    f" and 'answer', or leave {key!r} out"
    for key in ASKED
    if bare and record.get(key)
  ]
  for key in texts():
    if key in several or (bare and key in ASKING):
      record.pop(key, None)
      continue
    value = record.get(key, "")
    if isinstance(value, Number) and key in NUMERIC:
      record[key] = str(value)
    elif isinstance(value, Number) or not isinstance(value, str):
      wanted = "a string"
      if key == "answer" and isinstance(value, bool):
        wanted = '"yes" or "no"'
      problems.append(f"{key!r} is {said(value)}; it should be {wanted}")
      del record[key]
    elif key in REQUIRED_KEYS and not value.strip():
      problems.append(
        f"no {key!r}; a line needs {', '.join(REQUIRED_KEYS)}, or an image and"
        f" a map ({', '.join(modalities.names())}) without a question"
      )
      record.pop(key, None)
  return record, problems


def _decode(raw: bytes) -> dict[str, Any]:
  """One line's object; ValueError says why it is none."""
  if len(raw) > LINE_BYTES:
    raise ValueError(
      f"line has over {LINE_BYTES} bytes, the most is {LINE_BYTES}"
    )
  try:
    record = json.loads(
      raw.decode("utf-8"),
      parse_constant=_refuse,
      parse_int=_number,
      parse_float=_number,
      object_pairs_hook=_object,
    )
  except UnicodeDecodeError as error:
    raise ValueError(f"not UTF-8 at byte {error.start}") from error
  except json.JSONDecodeError as error:
    raise ValueError(
      f"not JSON: {error.msg} at column {error.colno}"
    ) from error
  except RecursionError as error:
    raise ValueError("not JSON: nested too deeply") from error
  if not isinstance(record, dict):
    raise ValueError("not a JSON object; write {...} on each line")
  for value in _strings(record):
    _check_characters(value)
  return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """An object whose keys differ: of two, one would be lost in silence."""
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ValueError(f"key {said(twice)} stands twice; keep one of them")
  return found


def _number(text: str) -> Number:
  if len(text) > DIGITS:
    raise ValueError(
      f"a number of {len(text)} digits; {DIGITS} are read at most"
    )
  return Number(text)


def _refuse(constant: str) -> None:
  raise ValueError(f"not JSON: {constant} is no number")


def strings(raw: bytes) -> Iterator[str]:
  """All strings of a line, keys too; none where it is no JSON."""
  with contextlib.suppress(ValueError):
    yield from _strings(_decode(raw))


def _strings(value: Any) -> Iterator[str]:
  """All strings within, keys too."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, dict):
    for key, item in value.items():
      yield key
      yield from _strings(item)
  elif isinstance(value, list):
    for item in value:
      yield from _strings(item)


def _check_characters(text: str) -> None:
  """Half a character and NUL can be written in JSON, and nowhere after it."""
  found = _NO_CHARACTER.search(text)
  if found and found[0] == "\0":
    raise ValueError(f"{said(text)} holds the character \\u0000; remove it")
  if found:
    raise ValueError(
      f"{said(text)} holds half a character, \\u{ord(found[0]):04x}; write the"
      " whole character"
    )


def said(value: Any) -> str:
  """A value as a message shows it; of JSON, as it was written."""
  if isinstance(value, bool):
    return str(value).lower()
  return picture_files.shown(_written(value))


def _written(value: Any) -> str:
  if isinstance(value, list):
    return f"[{', '.join(map(_written, value))}]"
  return str(value) if isinstance(value, Number) else repr(value)
