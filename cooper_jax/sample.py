"""The one record: an image, its maps and everything asked about it.

Every source (the embedded world, JSONL files, benchmarks) yields `Sample`, and
nothing after it knows where a sample came from. `maps` holds what a modality
of the same name can draw, as `modalities/<name>.py` describes it: a source
converts its own units once, on reading.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import msgpack
import numpy as np

VERSION = 2  # of the byte layout below; raise it when the layout changes


@dataclasses.dataclass(frozen=True)
class Question:
  """One question (or grounding request) about an image, and its answer.

  `reasoning` is the inner text of the gold trace in the markup of
  `data/traces.py`; for grounding requests it is the whole response.
  """

  family: str  # "closer", "left_right", ...; grounding: "list" "where" "mark"
  text: str  # what is asked
  answer: str  # option text | "yes" / "no" | "2.4 m" | "3"
  answer_type: str  # "choice" | "yes_no" | "number" | "text"
  options: tuple[str, ...] = ()
  unit: str = ""  # of a length, as the answer is written; "" for counts
  value: float | None = None  # behind a numeric answer; of a length in metres
  needs: tuple[str, ...] = ()  # maps that the program reads
  flag: str = "boundary"  # does seeing help: "positive" "negative" "boundary"
  reasoning: str = ""
  template: int = 0  # which phrasing
  evidence: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sample:
  """One image with what is known about it; what is not known is None."""

  id: str
  source: str
  image: np.ndarray  # u8 [H, W, 3]
  # [H, W] or [H, W, channels] by modality; absent = not known.
  maps: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  instances: np.ndarray | None = None  # u8 or u16 [H, W], 0 = none
  # f32 [3, 3] pinhole K, pixel centres at .5; of a source that fits its
  # pictures to `config.data.fit`, of the square that the maps are.
  camera: np.ndarray | None = None
  questions: tuple[Question, ...] = ()
  grounding: tuple[Question, ...] = ()


_ARRAYS = ("image", "instances", "camera")


def to_bytes(
  sample: Sample, *, unit: Collection[str] = (), half: Collection[str] = ()
) -> bytes:
  """Packs a sample with msgpack: no code runs when it is read back.

  Every array is kept as it is, of any type: labels up to 65,535, and depth in
  f32, which holds 1/256 m at 80 m where a half float has steps of .06. The
  maps of floats that `half` names are kept in half precision (5e-4 relative),
  those that `unit` names, of vectors of length one, in one byte an axis
  (1/254): a 64-pixel record of the world has 45 kB, with f32 it would have 90.
  """
  record: dict[str, Any] = {
    "version": VERSION,
    "id": sample.id,
    "source": sample.source,
    "questions": [_pack_question(q) for q in sample.questions],
    "grounding": [_pack_question(q) for q in sample.grounding],
  }
  for name in _ARRAYS:
    array = getattr(sample, name)
    if array is not None:
      record[name] = _pack(array)
  maps = record["maps"] = {}
  for name, array in sample.maps.items():
    kept = np.asarray(array)
    if name in unit:
      kept = np.rint(kept * 127).astype(np.int8)
    elif name in half and kept.dtype == np.float32:
      kept = kept.astype(np.float16)
    maps[name] = [*_pack(kept), name in unit]
  return msgpack.packb(record, use_bin_type=True)


def from_bytes(data: bytes) -> Sample:
  """Reads what `to_bytes` wrote.

  Raises:
    ValueError: the bytes are no sample, or of another layout version.
  """
  record = _record(data)
  arrays = {name: _unpack(record[name]) for name in _ARRAYS if name in record}
  maps = {}
  for name, (*packed, unit) in record["maps"].items():
    array = _unpack(packed)
    if unit:
      array = array.astype(np.float32)
      length = np.linalg.norm(array, axis=-1, keepdims=True)
      array = array / np.maximum(length, 1e-6)
    elif array.dtype == np.float16:
      array = array.astype(np.float32)
    maps[name] = array
  return Sample(
    id=record["id"],
    source=record["source"],
    questions=tuple(_unpack_question(q) for q in record["questions"]),
    grounding=tuple(_unpack_question(q) for q in record["grounding"]),
    maps=maps,
    **arrays,
  )


def questions_from_bytes(data: bytes) -> tuple[Question, ...]:
  """The questions alone of what `to_bytes` wrote; ValueError as above."""
  return tuple(_unpack_question(q) for q in _record(data)["questions"])


def _record(data: bytes) -> dict[str, Any]:
  try:
    record = msgpack.unpackb(data, raw=False)
    version = record["version"]
  except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
    raise ValueError(f"not a sample record: {error!r}") from error
  if version != VERSION:
    raise ValueError(
      f"sample record has layout version {version}, this code reads {VERSION};"
      " delete the cache to build it again"
    )
  return record


def _pack(array: np.ndarray) -> list:
  array = np.ascontiguousarray(array)
  return [array.dtype.str, list(array.shape), array.tobytes()]


def _unpack(packed: list) -> np.ndarray:
  kind, shape, raw = packed
  return np.frombuffer(raw, np.dtype(kind)).reshape(shape)


def _pack_question(question: Question) -> dict[str, Any]:
  fields = dataclasses.fields(question)
  return {f.name: getattr(question, f.name) for f in fields}


def _unpack_question(record: dict[str, Any]) -> Question:
  return Question(
    **{
      **record,
      "options": tuple(record["options"]),
      "needs": tuple(record["needs"]),
    }
  )
