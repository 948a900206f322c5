"""New folders of weights: whole, or not there at all."""

import collections
import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.weights import folder, headers

# Files beside the weights that belong to a model.
BESIDE = (".json", ".txt", ".model", ".jinja", ".md")
BESIDE_NAMES = ("LICENSE", "LICENCE", "NOTICE", folder.EXPECTED.upper())
ROOM = 2**20  # bytes asked for on top of the files
# What a disk says that has no more room, for anyone or for this one.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_new(target) -> None:
  """Raises UserError unless a folder can be made there."""
  target = Path(os.path.expanduser(target))
  if os.path.lexists(target):
    raise UserError(f"{target} exists; name a folder that does not")
  parent = target.absolute().parent
  if not parent.is_dir():
    raise UserError(f"{parent} is no folder; make it first")


def check_outside(target, source: Path) -> None:
  """Raises UserError where a new folder would be a part of its source."""
  parent = Path(os.path.expanduser(target)).absolute().parent.resolve()
  if parent.is_relative_to(source.resolve()):
    raise UserError(
      f"{target} is in {source}, which is read; name a folder outside of it"
    )


@contextlib.contextmanager
def new_folder(target, *, size: int) -> Iterator[Path]:
  """Gives a folder to fill, which becomes `target` when all is in it.

  Raises UserError where the target exists or the disk has no room for `size`
  bytes. Where anything fails, nothing is left.
  """
  check_new(target)
  target = Path(os.path.expanduser(target))
  parent = target.absolute().parent
  free = shutil.disk_usage(parent).free
  if free < size + ROOM:
    raise UserError(
      f"{target} needs {math.ceil((size + ROOM) / 2**20)} MiB, the disk of"
      f" {parent} has {free // 2**20} MiB free; make room, or choose another"
    )
  made = Path(
    tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=parent)
  )
  try:
    yield made
    # As a folder that anyone makes; this one was for its owner alone.
    mask = os.umask(0)
    os.umask(mask)
    made.chmod(0o777 & ~mask)
    check_new(target)  # it may have been made meanwhile
    made.rename(target)
  except BaseException as error:
    shutil.rmtree(made, ignore_errors=True)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
      raise UserError(
        f"{target} can't be written: {error.strerror}; make room, or choose"
        " another disk"
      ) from error
    raise


def write_weights(
  made: Path,
  entries: dict[str, headers.TensorEntry],
  data: Callable[[str], np.ndarray],
  metadata: dict,
) -> list[str]:
  """Writes tensors into the files that they came in; gives the files' names.

  Several files have an index, of exactly what was written. entries: dtype,
  shape and file of each key; data: the array of a key.
  """
  files = collections.defaultdict(dict)
  for key, entry in entries.items():
    files[entry.file][key] = (entry.dtype, entry.shape)
  names = [folder.SINGLE]
  if folder.BAGEL_SINGLE in files:
    names = [folder.BAGEL_SINGLE]
  if len(files) > 1:
    count = len(files)
    names = [
      f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)
    ]
  listed = {}
  for name, file in zip(names, sorted(files), strict=True):
    headers.write_file(made / name, files[file], data, metadata)
    listed |= dict.fromkeys(files[file], name)
  if len(files) > 1:
    whole = {
      "metadata": {
        "total_parameters": sum(math.prod(e.shape) for e in entries.values()),
        "total_size": sum(e.end - e.begin for e in entries.values()),
      },
      "weight_map": dict(sorted(listed.items())),
    }
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    (made / folder.INDEX).write_text(text + "\n", "utf-8")
  return names


def beside(path: Path) -> list[Path]:
  """Files of a model beside its weights: config, tokenizer, licence."""
  return sorted(
    folder.inside(path, file.name)
    for file in path.iterdir()
    if file.is_file()
    and (file.suffix in BESIDE or file.name.upper() in BESIDE_NAMES)
    and not file.name.endswith(".index.json")
  )
