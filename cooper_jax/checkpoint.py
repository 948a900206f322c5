"""Checkpoints: the state, the position in the data, and what they are.

Orbax writes each checkpoint into a temporary folder and renames it, so a
finished one is whole or absent. It doesn't checksum the arrays: a flipped bit
would be restored in silence. So each array's shape, dtype and checksum are
kept beside it and compared before a state is handed out.
"""

import base64
import logging
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.optim import path_name
from cooper_jax.parallel import processes, shard


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
  return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def flatten(tree) -> dict[str, Any]:
  """Names every array by its path; typed PRNG keys become their data."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    path_name(path): jax.random.key_data(leaf) if is_key(leaf) else leaf
    for path, leaf in leaves
  }


def _abstract(leaf):
  if is_key(leaf):
    leaf = jax.eval_shape(jax.random.key_data, leaf)
  sharding = getattr(leaf, "sharding", None)
  if sharding is None and processes.several():
    sharding = shard.replicated(jax.sharding.get_mesh())
  elif sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _manifest(state) -> dict[str, list]:
  """Per array: shape, dtype, checksum, and the kind of a PRNG key."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  kinds = {
    path_name(path): str(jax.random.key_impl(leaf)) if is_key(leaf) else None
    for path, leaf in leaves
  }
  return {
    name: [list(leaf.shape), str(leaf.dtype), _checksum(leaf), kinds[name]]
    for name, leaf in flatten(state).items()
  }


def _checksum(leaf) -> int | None:
  # Arrays cut among several processes can't be read by one of them.
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    if not leaf.is_fully_replicated:
      return None
    leaf = leaf.addressable_data(0)
  return zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1))


def _taking_part():
  """Orbax's word for who calls it: all, or this process alone."""
  from orbax.checkpoint import options

  if processes.several() or processes.count() == 1:
    return options.MultiprocessingOptions()
  me = processes.index()
  return options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"own{me}"
  )


def _first_line(error: Exception) -> str:
  text = str(error).strip().splitlines()
  return f"{type(error).__name__}: {text[0][:160] if text else 'no message'}"


class Checkpoints:
  """The checkpoints in one directory, newest last; keeps `keep` of them.

  Of several processes, all that take part under the mesh that is set must call
  the same methods in the same order.
  """

  def __init__(self, directory, *, keep: int = 2):
    self.directory = Path(directory).absolute()
    self._keep = keep
    self._opened = None

  @property
  def _manager(self):
    # Imported when first used: Orbax takes four seconds.
    if self._opened is None:
      import orbax.checkpoint as ocp

      logging.getLogger("absl").setLevel(logging.ERROR)
      self.directory.mkdir(parents=True, exist_ok=True)
      self._opened = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
          max_to_keep=self._keep,
          create=False,
          multiprocessing_options=_taking_part(),
          cleanup_tmp_directories=True,
          # On CPU the arrays are not copied before a background write, and
          # the next step would overwrite what it donates.
          enable_async_checkpointing=jax.default_backend() != "cpu",
        ),
      )
      # Orbax would ask JAX whether to stop, by the number of the checkpoint.
      # The answer holds for numbers that only grow: the loop's (interrupt.py).
      self._opened.reached_preemption = lambda step: False
    return self._opened

  def steps(self) -> list[int]:
    """Lists the finished checkpoints, oldest first."""
    if not self.directory.is_dir():
      return []
    return sorted(
      int(path.name)
      for path in self.directory.iterdir()
      if path.is_dir() and path.name.isdigit()
    )

  def latest(self) -> int | None:
    """Gives the newest step, or None where there is none."""
    return max(self.steps(), default=None)

  def save(self, step: int, state, *, data_state: dict, meta: dict) -> None:
    """Writes a checkpoint; raises UserError if the disk has no room."""
    import orbax.checkpoint as ocp

    flat = flatten(state)
    needed = sum(leaf.nbytes for leaf in flat.values()) + 2**20
    self.directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(self.directory).free
    if free < 1.1 * needed:
      raise UserError(
        f"checkpoint of step {step} needs {needed / 2**20:.0f} MiB, the disk "
        f"of {self.directory} has {free / 2**20:.0f} MiB free; make room or "
        "choose another --workdir"
      )
    if processes.count() > 1 and not processes.several():
      # Orbax refuses device arrays of one process where there are others.
      flat = jax.device_get(flat)
    record = {"manifest": _manifest(state), "meta": to_json(meta)}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(flat),
        data=ocp.args.JsonSave(to_json(data_state)),
        meta=ocp.args.JsonSave(record),
      ),
    )

  def restore(self, abstract_state, *, step: int | None = None):
    """Gives (state, data_state, meta), or None where nothing was saved.

    `abstract_state` is a state, or its shapes; arrays take the shardings of
    its leaves. Raises UserError if the checkpoint is damaged or of a
    different model.
    """
    step = self._agreed() if step is None else step
    if step is None:
      return None
    data, record = self._describe(step)
    state = self._arrays(step, record["manifest"], abstract_state)
    return state, from_json(data), from_json(record["meta"])

  def restore_part(self, name: str, abstract_part, *, step: int | None = None):
    """Reads one field of the state, e.g. "params", or None if none saved."""
    step = self._agreed() if step is None else step
    if step is None:
      return None
    _, record = self._describe(step)
    part = self._arrays(step, record["manifest"], {name: abstract_part}, name)
    return part[name]

  def wait(self) -> None:
    """Waits for a save in the background and raises what went wrong."""
    if self._opened is not None:
      self._opened.wait_until_finished()

  def close(self) -> None:
    if self._opened is not None:
      self._opened.close()
      self._opened = None

  def _agreed(self) -> int | None:
    # A file system may show a new folder to one process before another.
    return processes.agree(f"latest in {self.directory.parent}", self.latest())

  def _damaged(self, step: int, reason: str) -> UserError:
    earlier = [other for other in self.steps() if other < step]
    then = f"to go on from step {earlier[-1]}" if earlier else "to start anew"
    path = self.directory / str(step)
    return UserError(
      f"checkpoint of step {step} is damaged ({path}: {reason}); nothing was "
      f"changed; move that folder away {then}"
    )

  def _describe(self, step: int):
    import orbax.checkpoint as ocp

    try:
      items = self._manager.restore(
        step,
        args=ocp.args.Composite(
          data=ocp.args.JsonRestore(), meta=ocp.args.JsonRestore()
        ),
      )
      return items["data"], {
        "manifest": dict(items["meta"]["manifest"]),
        "meta": items["meta"]["meta"],
      }
    # Orbax and TensorStore raise many kinds; all mean the same here.
    except Exception as error:
      raise self._damaged(step, _first_line(error)) from error

  def _arrays(self, step, manifest, abstract_state, part=None):
    import orbax.checkpoint as ocp

    leaves, treedef = jax.tree_util.tree_flatten_with_path(abstract_state)
    wanted = {path_name(path): _abstract(leaf) for path, leaf in leaves}
    self._compare(step, manifest, wanted, part)
    try:
      flat = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeRestore(
            wanted,
            restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
            partial_restore=True,
          )
        ),
      )["state"]
    except Exception as error:
      raise self._damaged(step, _first_line(error)) from error
    restored = []
    for path, like in leaves:
      name = path_name(path)
      leaf, expected = flat[name], manifest[name][2]
      if expected is not None and _checksum(leaf) not in (expected, None):
        raise self._damaged(step, f"checksum of {name} differs")
      if is_key(like):
        leaf = jax.random.wrap_key_data(leaf, impl=manifest[name][3])
      restored.append(leaf)
    return jax.tree_util.tree_unflatten(treedef, restored)

  def _compare(self, step, manifest, wanted, part) -> None:
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
          f"checkpoint of step {step} in {self.directory} does not fit this "
          f"config: {name} is {here} there and {there} here; use the config "
          "that made it, or another --workdir"
        )


def _shape(shape, dtype) -> str:
  return f"{dtype}[{','.join(str(size) for size in shape)}]"
