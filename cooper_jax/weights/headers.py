"""Headers of safetensors files: what a file holds and where, checked.

The format: eight bytes, the header's length; the header, JSON of each tensor's
dtype, shape and place; the tensors' bytes, one after the other. It is read here
and not by `safetensors.numpy`, whose reader has no bfloat16 and whose errors
name no tensor; the tests read what is written here with that library.
"""

import dataclasses
import json
import math
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError

# Bytes of a value, of the dtypes that a file may hold; the format has others,
# of less than a byte among them, and a file with one is refused.
BYTES = dict(BOOL=1, U8=1, I8=1, F8_E5M2=1, F8_E4M3=1, F8_E8M0=1)
BYTES |= dict(I16=2, U16=2, F16=2, BF16=2, I32=4, U32=4, F32=4)
BYTES |= dict(F64=8, I64=8, U64=8)
# Those that weights are imported in: all of them fit into float32 exactly.
DTYPES = {
  name: np.dtype(dtype)
  for name, dtype in (
    ("F32", np.float32),
    ("BF16", jnp.bfloat16),
    ("F16", np.float16),
  )
}
LARGEST_HEADER = 100_000_000  # bytes; the library's own limit
LENGTH_BYTES = 8  # bytes in front of the header
MOST_AXES = 64  # of a tensor; numpy's own limit
MOST_DIGITS = 40  # of a whole number; no size, id or place has as many
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
AGAIN = "get the file anew"
LFS = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True)
class TensorEntry:
  """One tensor of a file: `begin` and `end` are bytes from the file's start."""

  file: str
  dtype: str  # as the format names it
  shape: tuple[int, ...]
  begin: int
  end: int


def parse(data: bytes):
  """What JSON in UTF-8 says; ValueError or RecursionError where it is none.

  So it is of a key that is given twice, and of a number that means nothing.
  """
  text = data.decode("utf-8")
  return json.loads(text, object_pairs_hook=_once, parse_int=_whole)


def _whole(digits: str) -> int:
  if len(digits) > MOST_DIGITS:
    raise ValueError(f"it has a number of {len(digits):,} digits")
  return int(digits)


def _once(pairs) -> dict:
  found = {}
  for key, value in pairs:
    if not key.isprintable():
      raise ValueError(f"{key!r} is no name")
    if key in found:
      raise ValueError(f"{key} is given twice")
    found[key] = value
  return found


def read_header(path: Path, name: str) -> tuple[dict[str, TensorEntry], dict]:
  """What a file holds: (its tensors by key, its metadata).

  Raises UserError where the file is cut, or its header is none.

  name: of the file, as its folder knows it.
  """
  size = path.stat().st_size
  with path.open("rb") as file:
    start, first = file.read(LENGTH_BYTES), file.read(1)
    if start.startswith(PICKLES) and first != b"{":
      raise UserError(
        f"{path} is a pickle under a safetensors name; {no_pickle()}"
      )
    length = int.from_bytes(start, "little")
    if first != b"{":
      check_fetched(path, start + first + file.read(2 * len(LFS)))
      file.seek(LENGTH_BYTES + 1)
    if len(start) < LENGTH_BYTES or LENGTH_BYTES + length > size:
      raise UserError(
        f"{path} is cut, or no safetensors file: its header would have"
        f" {length:,} bytes, the file has {size:,}; {AGAIN}"
      )
    if length > LARGEST_HEADER:
      raise UserError(
        f"{path} has a header of {length:,} bytes; allowed:"
        f" {LARGEST_HEADER:,}; {AGAIN}"
      )
    text = first + file.read(max(0, length - 1))
  try:
    header = parse(text)
  except (ValueError, RecursionError) as error:
    raise UserError(f"the header of {path} is damaged: {error}") from error
  if not isinstance(header, dict):
    raise UserError(f"the header of {path} is no JSON object; {AGAIN}")
  metadata = header.pop("__metadata__", {})
  if not isinstance(metadata, dict) or not all(
    isinstance(value, str) for value in metadata.values()
  ):
    raise UserError(
      f"the header of {path} is damaged: its __metadata__ is no object of"
      f" strings; {AGAIN}"
    )
  base = LENGTH_BYTES + length
  found = {key: _entry(path, name, base, key, header[key]) for key in header}
  _check_places(path, found, base, size)
  return found, metadata


def _entry(path: Path, name: str, base: int, key: str, said) -> TensorEntry:
  said = said if isinstance(said, dict) else {}
  dtype, shape = said.get("dtype"), said.get("shape")
  place = said.get("data_offsets")
  if not (_counts(shape) and _counts(place) and len(place) == 2):
    raise UserError(
      f"the header of {path} is damaged: {key} has shape {shape!r} and"
      f" data_offsets {place!r}; {AGAIN}"
    )
  if not isinstance(dtype, str) or dtype not in BYTES:
    raise UserError(
      f"{path}: {key} is of dtype {dtype!r}; allowed: {', '.join(BYTES)}"
    )
  begin, end = place
  needed = math.prod(shape) * BYTES[dtype]
  if end - begin != needed:
    raise UserError(
      f"the header of {path} is damaged: {key}, {dtype} {shape}, needs"
      f" {needed:,} bytes and has {end - begin:,}; {AGAIN}"
    )
  return TensorEntry(name, dtype, tuple(shape), base + begin, base + end)


def _counts(values) -> bool:
  return (
    isinstance(values, list)
    and len(values) <= MOST_AXES
    and all(type(value) is int and value >= 0 for value in values)
  )


def _check_places(path: Path, found, base: int, size: int) -> None:
  """Every byte behind the header is of one tensor."""
  at, before = base, "the header"
  for key, entry in sorted(
    found.items(), key=lambda item: (item[1].begin, item[1].end)
  ):
    if entry.begin < at:
      raise UserError(
        f"{path} is damaged: {key} overlaps {before} by {at - entry.begin:,}"
        f" bytes; {AGAIN}"
      )
    if entry.begin > at:
      raise UserError(
        f"{path} is damaged: {entry.begin - at:,} bytes between {before} and"
        f" {key} are of no tensor; {AGAIN}"
      )
    at, before = entry.end, key
  if at > size:
    raise UserError(
      f"{path} is cut: it ends {at - size:,} bytes before {before} does;"
      f" {AGAIN}"
    )
  if at < size:
    raise UserError(
      f"{path} is damaged: {size - at:,} bytes behind {before} are of no"
      f" tensor; {AGAIN}"
    )


def check_fetched(path: Path, start: bytes) -> None:
  """Raises UserError where a file is what stands for it, by its first bytes."""
  if start.startswith(LFS):
    raise UserError(
      f"{path} is a pointer of Git LFS, not the file; get it with git lfs pull"
    )
  if start.lstrip().startswith(b"<"):
    raise UserError(
      f"{path} is a web page, not the file; download the file itself, which may"
      " need a login"
    )


def no_pickle() -> str:
  """Why pickles are refused, and what to do with one."""
  return (
    "reading a pickle can run any code, so it is refused; where you trust it,"
    " convert it with transformers: AutoModelForCausalLM.from_pretrained(OLD)"
    ".save_pretrained(NEW, safe_serialization=True)"
  )


def write_file(path: Path, entries: dict, data, metadata: dict) -> None:
  """Writes a safetensors file, one tensor in memory at a time.

  entries: (dtype, shape) of each key; data: the array of a key, as asked for.
  """
  # Wide ones first, as the library has it: each lies at a multiple of itself.
  order = sorted(entries, key=lambda key: (-BYTES[entries[key][0]], key))
  header, at = {"__metadata__": metadata} if metadata else {}, 0
  for key in order:
    dtype, shape = entries[key]
    end = at + math.prod(shape) * BYTES[dtype]
    header[key] = dict(dtype=dtype, shape=list(shape), data_offsets=[at, end])
    at = end
  text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
  text += b" " * (-len(text) % LENGTH_BYTES)
  with path.open("wb") as file:
    file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
    for key in order:
      array = np.ascontiguousarray(data(key))
      begin, end = header[key]["data_offsets"]
      if array.nbytes != end - begin:
        raise ValueError(f"{key} has {array.nbytes} bytes, not {end - begin}")
      file.write(array.reshape(-1).view(np.uint8).data)
    file.flush()
    os.fsync(file.fileno())
