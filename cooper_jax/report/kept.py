"""Gallery rows and facts of a report, kept in its folder.

So the page can be written again, by a newer version or beside new figures,
without asking the model anew. MessagePack: nothing in it can run code.
"""

from pathlib import Path

import msgpack
import numpy as np

from cooper_jax.errors import UserError

GALLERY_FILE = "gallery.msgpack"


def save(folder: Path, rows: list[dict], about: dict) -> None:
  """Writes the rows and facts of a report into its folder, whole or not."""
  path = Path(folder) / GALLERY_FILE
  value = {"rows": list(rows), "about": dict(about)}
  partial = path.with_suffix(".partial")
  partial.write_bytes(msgpack.packb(value, default=_pack))
  partial.replace(path)


def load(folder: Path) -> dict | None:
  """{"rows", "about"} of a report's folder, None where none were kept.

  Raises UserError where the file is damaged.
  """
  path = Path(folder) / GALLERY_FILE
  if not path.is_file():
    return None
  try:
    found = msgpack.unpackb(path.read_bytes(), object_hook=_unpack)
    return {"rows": found["rows"], "about": found["about"]}
  except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
    raise UserError(
      f"{path} can't be read ({type(error).__name__}); delete it to have the"
      " page without a gallery"
    ) from error


def _pack(value):
  if isinstance(value, np.ndarray):
    return {
      "dtype": value.dtype.str,
      "shape": list(value.shape),
      "bytes": np.ascontiguousarray(value).tobytes(),
    }
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f"a row of the gallery holds a {type(value).__name__}")


def _unpack(value: dict):
  if value.keys() != {"dtype", "shape", "bytes"}:
    return value
  array = np.frombuffer(value["bytes"], np.dtype(value["dtype"]))
  return array.reshape(value["shape"])
