"""Checkpoint folders: read whole and verified, or reported as damaged.

Orbax gives back what it finds. Here that is compared with what the folder says
of itself (manifest.py), and everything that Orbax, TensorStore and JSON raise
for damage becomes one exception. Nothing waits for another process.
"""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from cooper_jax.errors import UserError
from cooper_jax.parallel import processes, shard
from cooper_jax.parallel.shard import path_name
from cooper_jax.training.manifest import checksum, find_damage, is_key


class Damaged(Exception):
  """A checkpoint does not hold what was saved; says why in one line."""


# What TensorStore and the system say where the machine fails, not the bytes.
ELSEWHERE = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
ELSEWHERE += ("Too many open files", "Cannot allocate memory")
ELSEWHERE += ("Stale file handle", "not connected", "Connection", "timed out")


def _read(path: Path, work: Callable):
  """Gives work(); what it raises means damage, as far as it can."""
  try:
    return work()
  # Orbax and TensorStore raise many kinds.
  except Exception as error:
    text = str(error)
    if "permission" in text.lower():
      raise UserError(
        f"{path} may not be read; give this user the right to, and run again"
      ) from error
    elsewhere = any(word in text for word in ELSEWHERE)
    if elsewhere or isinstance(error, MemoryError):
      raise
    first = (text.strip().splitlines() or ["no message"])[0][:160]
    raise Damaged(f"{type(error).__name__}: {first}") from error


def describe(folder: Path) -> tuple[dict, dict]:
  """Gives (position in the data, record of manifest.py), as they are in JSON.

  Raises Damaged where they are not what was saved.
  """

  def read():
    # As Orbax' JsonSave writes them.
    texts = [(folder / n / "metadata").read_bytes() for n in ("data", "meta")]
    data, record = (json.loads(text) for text in texts)
    return data, record, find_damage(int(folder.name), data, record)

  data, record, damage = _read(folder, read)
  if damage:
    raise Damaged(damage)
  return data, record


def arrays(folder: Path, manifest: dict, abstract_state, part=None):
  """Gives a state, or a part of one, whose arrays are those of `manifest`.

  Raises Damaged where they are others, UserError for another model's.
  """
  import orbax.checkpoint as ocp

  leaves, treedef = jax.tree_util.tree_flatten_with_path(abstract_state)
  wanted = {path_name(path): _abstract(leaf) for path, leaf in leaves}
  _compare(folder, manifest, wanted, part)
  flat = _read(
    folder,
    lambda: _reader().restore(
      folder / "state",
      args=ocp.args.PyTreeRestore(
        wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
      ),
    ),
  )
  restored = []
  for path, like in leaves:
    name = path_name(path)
    leaf, (shape, dtype, expected, kind) = flat[name], manifest[name]
    if _shape(leaf.shape, leaf.dtype) != _shape(shape, dtype):
      raise Damaged(f"shape of {name} differs")
    if expected is not None and checksum(leaf) not in (expected, None):
      raise Damaged(f"checksum of {name} differs")
    if is_key(like):
      leaf = jax.random.wrap_key_data(leaf, impl=kind)
    restored.append(leaf)
  return jax.tree_util.tree_unflatten(treedef, restored)


def _reader():
  """Reads arrays in this process alone, whatever the others meet with."""
  import orbax.checkpoint as ocp

  logging.getLogger("absl").setLevel(logging.ERROR)
  _hear_no_stragglers()
  me = processes.index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"read{me}"
  )
  return ocp.Checkpointer(
    ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
    multiprocessing_options=alone,
  )


def _hear_no_stragglers() -> None:
  """Keeps quiet what TensorStore says to a loop that Orbax has closed.

  After the first array that can't be read Orbax waits for no other, and each
  would print a traceback of its own.
  """
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  before = sys.unraisablehook
  if getattr(before, "quiet", False):
    return

  def hook(raised):
    if str(raised.exc_value) != "Event loop is closed":
      before(raised)

  hook.quiet = True
  sys.unraisablehook = hook


def _abstract(leaf):
  sharding = getattr(leaf, "sharding", None)
  if is_key(leaf):  # which drops its sharding
    leaf = jax.eval_shape(jax.random.key_data, leaf)
  if sharding is None and processes.several():
    sharding = shard.replicated(jax.sharding.get_mesh())
  elif sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _compare(folder, manifest, wanted, part) -> None:
  saved = {
    name: entry
    for name, entry in manifest.items()
    if part is None or name.split("/")[0] == part
  }
  for name in sorted(saved.keys() | wanted.keys()):
    here = _shape(*saved[name][:2]) if name in saved else "absent"
    there = (
      _shape(wanted[name].shape, wanted[name].dtype)
      if name in wanted
      else "absent"
    )
    if here != there:
      raise UserError(
        f"checkpoint of step {folder.name} in {folder.parent} does not fit this"
        f" config: {name} is {here} there and {there} here; use the config "
        "that made it, or another --workdir"
      )


def _shape(shape, dtype) -> str:
  return f"{dtype}[{','.join(str(size) for size in shape)}]"
