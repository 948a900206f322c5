"""Manifest of a checkpoint: shapes and checksums, so that damage is noticed.

Each array's shape, dtype and checksum; and one checksum over all that is kept
as JSON: these, the step, the position in the data and the averages. CRC-32
notices every change within 32 bits, so any one digit or byte.
"""

import base64
import json
import zlib
from typing import Any

import jax
import numpy as np

from cooper_jax.parallel.shard import path_name


def to_json(value):
  """Encodes arrays and bytes inside a JSON-able tree."""
  if isinstance(value, dict):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_json(item) for item in value]
  if isinstance(value, bytes):
    return {"__bytes__": base64.b64encode(value).decode("ascii")}
  if isinstance(value, np.generic):
    return value.item()
  if isinstance(value, (np.ndarray, jax.Array)):
    array = np.asarray(value)
    return {
      "__array__": base64.b64encode(array.tobytes()).decode("ascii"),
      "dtype": array.dtype.name,
      "shape": list(array.shape),
    }
  return value


def from_json(value):
  """Inverse of `to_json`; tuples come back as lists."""
  if isinstance(value, dict):
    if "__bytes__" in value:
      return base64.b64decode(value["__bytes__"])
    if "__array__" in value:
      data = base64.b64decode(value["__array__"])
      array = np.frombuffer(data, np.dtype(value["dtype"]))
      return array.reshape(value["shape"]).copy()
    return {key: from_json(item) for key, item in value.items()}
  if isinstance(value, list):
    return [from_json(item) for item in value]
  return value


def is_key(leaf) -> bool:
  """Whether a leaf is a typed PRNG key."""
  return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def flatten(tree) -> dict[str, Any]:
  """Names every array by its path; typed PRNG keys become their data."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    path_name(path): jax.random.key_data(leaf) if is_key(leaf) else leaf
    for path, leaf in leaves
  }


def describe(state) -> dict[str, list]:
  """Per array: shape, dtype, checksum, and the kind of a PRNG key."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  kinds = {
    path_name(path): str(jax.random.key_impl(leaf)) if is_key(leaf) else None
    for path, leaf in leaves
  }
  return {
    name: [list(leaf.shape), str(leaf.dtype), checksum(leaf), kinds[name]]
    for name, leaf in flatten(state).items()
  }


def checksum(leaf) -> int | None:
  # Arrays sharded over several processes can't be read by one of them.
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    if not leaf.is_fully_replicated:
      return None
    leaf = leaf.addressable_data(0)
  return zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1))


def _seal(step: int, data, record: dict) -> int:
  parts = {name: record[name] for name in ("manifest", "meta")}
  text = json.dumps({"step": step, "data": data, **parts}, sort_keys=True)
  return zlib.crc32(text.encode())


def make_record(step: int, state, data, meta: dict) -> dict:
  """What is kept beside a state and `data`, which is JSON already."""
  record = {"manifest": describe(state), "meta": to_json(meta)}
  # As JSON gives it back: tuples have become lists, all keys strings.
  data, record = json.loads(json.dumps([data, record]))
  return record | {"step": step, "checksum": _seal(step, data, record)}


def find_damage(step: int, data, record) -> str | None:
  """Says what is wrong with what was read as the checkpoint of a step."""
  if not isinstance(record, dict) or not isinstance(data, dict):
    return "no JSON object"
  if set(record) == {"manifest", "meta"}:  # made before there was a checksum
    meant = record["meta"].get("step", step)
    return None if meant == step else f"its own step is {meant}"
  if set(record) != {"manifest", "meta", "step", "checksum"}:
    return f"it has {', '.join(sorted(record))}"
  if record["step"] != step:
    return f"its own step is {record['step']}"
  if record["checksum"] != _seal(step, data, record):
    return "checksum of step, position, averages and shapes differs"
  return None
