"""Settings and small records as JSON: plain, flat, in files that are whole."""

import hashlib
import json
import os
from pathlib import Path

from cooper_jax.errors import UserError


def plain(value):
  """Turns a config into what JSON gives back: tuples become lists."""
  if hasattr(value, "to_dict"):
    value = value.to_dict()
  return json.loads(json.dumps(value))


def flat(value, prefix="") -> dict:
  """In: {"a": {"b": 1}}   Out: {"a.b": 1}."""
  if not isinstance(value, dict):
    return {prefix: value}
  items = {}
  for name, item in value.items():
    items |= flat(item, f"{prefix}.{name}" if prefix else name)
  return items


def digest(settings: dict) -> str:
  text = json.dumps(settings, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_json(path: Path) -> dict:
  """Reads a JSON object, or raises UserError naming the file."""
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise UserError(
      f"{path} can't be read ({type(error).__name__}); mend it, or move it "
      "away to do that part again"
    ) from error
  if not isinstance(value, dict):
    raise UserError(
      f"{path} holds a {type(value).__name__}, expected an object"
    )
  return value


def write_json(path: Path, value) -> None:
  """Writes a file whole or not at all."""
  partial = path.with_suffix(".partial")
  partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
  os.replace(partial, path)
