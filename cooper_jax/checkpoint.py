"""Checkpoints: the state, the position in the data, and what they are.

Orbax writes each checkpoint into a temporary folder and renames it, so a
finished one is whole or absent. It doesn't checksum what it holds: a flipped
bit would be restored in silence. So shapes, dtypes and checksums are kept
beside it (manifest.py) and compared before a state is handed out. A damaged
checkpoint costs what came after the one before it, not the run.
"""

import itertools
import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from cooper_jax import interrupt
from cooper_jax.errors import UserError
from cooper_jax.manifest import (
  checksum,
  find_damage,
  flatten,
  from_json,
  is_key,
  make_record,
  to_json,
)
from cooper_jax.optim import path_name
from cooper_jax.parallel import processes, shard


def _abstract(leaf):
  sharding = getattr(leaf, "sharding", None)
  if is_key(leaf):  # which drops how it lies
    leaf = jax.eval_shape(jax.random.key_data, leaf)
  if sharding is None and processes.several():
    sharding = shard.replicated(jax.sharding.get_mesh())
  elif sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _taking_part():
  """Orbax's word for who calls it: all, or this process alone."""
  from orbax.checkpoint import options

  if processes.several() or processes.count() == 1:
    return options.MultiprocessingOptions()
  me = processes.index()
  return options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"own{me}"
  )


def _reader():
  """Reads arrays in this process alone, whatever the others meet with."""
  import orbax.checkpoint as ocp

  logging.getLogger("absl").setLevel(logging.ERROR)
  me = processes.index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"read{me}"
  )
  return ocp.Checkpointer(
    ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
    multiprocessing_options=alone,
  )


class _Damaged(Exception):
  """A checkpoint does not hold what was saved; says why in one line."""


# What TensorStore and the system say where the machine fails, not the bytes.
ELSEWHERE = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
ELSEWHERE += ("Too many open files", "Cannot allocate memory")


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
    raise _Damaged(f"{type(error).__name__}: {first}") from error


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
    data = to_json(data_state)
    with interrupt.held():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(flat),
          data=ocp.args.JsonSave(data),
          meta=ocp.args.JsonSave(make_record(step, state, data, meta)),
        ),
      )

  def restore(self, abstract_state):
    """Gives (state, data_state, meta), or None where nothing was saved.

    `abstract_state` is a state, or its shapes; arrays take the shardings of
    its leaves. Where the newest is damaged, the newest that is whole is used,
    and what came after it gets other names. Raises UserError if none is whole,
    or if it is of a different model.
    """

    def read(step):
      data, record = self._describe(step)
      state = self._arrays(step, record["manifest"], abstract_state)
      return state, from_json(data), from_json(record["meta"])

    with interrupt.held():
      found, at, damaged = self._newest(read, older=True)
      if damaged and at is None:
        raise self._refusal(damaged)
      for each, reason in damaged.items():
        self._set_aside(each, reason, at)
    return found

  def restore_part(self, name: str, abstract_part, *, older: bool = False):
    """Reads one field of the state, e.g. "params", or None if none saved.

    Changes nothing on disk. older: whether a damaged newest checkpoint may be
    stood in for by the one before it, which is said; else it is a UserError.
    """

    def read(step):
      _, record = self._describe(step)
      part = {name: abstract_part}
      return self._arrays(step, record["manifest"], part, name)[name]

    with interrupt.held():
      found, at, damaged = self._newest(read, older=older)
      if damaged and at is None:
        raise self._refusal(damaged, finished=True)
    for each, reason in damaged.items():
      self._say(f"{self._damage(each, reason)}; step {at} is read instead")
    return found

  def wait(self) -> None:
    """Waits for a save in the background and raises what went wrong."""
    if self._opened is not None:
      with interrupt.held():
        self._opened.wait_until_finished()

  def close(self) -> None:
    if self._opened is not None:
      with interrupt.held():
        self._opened.close()
        self._opened = None

  def _newest(self, read: Callable, *, older: bool):
    """Gives (what was read, its step, why those after it were not, by step).

    All processes agree on it: what one can't read is damaged to all.
    """
    # A file system may show a new folder to one process before another.
    steps = processes.agree(f"steps in {self.directory.parent}", self.steps())
    damaged = {}
    for at in reversed(steps):
      found = reason = None
      try:
        found = read(at)
      except _Damaged as error:
        reason = str(error)
      reasons = processes.gather("damage", reason) or [None]
      told = next((each for each in reasons if each is not None), None)
      reason = processes.agree("damage", told)
      if reason is None:
        return found, at, damaged
      damaged[at] = reason
      if not older:
        break
    return None, None, damaged

  def _damage(self, step: int, reason: str) -> str:
    path = self.directory / str(step)
    return f"checkpoint of step {step} is damaged ({path}: {reason})"

  def _refusal(self, damaged: dict[int, str], finished=False) -> UserError:
    step = max(damaged)
    text = self._damage(step, damaged[step])
    if len(damaged) > 1:
      text += f", and so are all {len(damaged) - 1} before it"
    text += "; nothing was changed; "
    stage, earlier = self.directory.parent, min(self.steps(), default=step)
    if finished and earlier < step:
      return UserError(
        f"{text}delete {stage / 'stage.json'} and run the command that made it"
        " again: it goes on from the checkpoint before"
      )
    what = f"delete {stage}" if finished else f"move {self.directory} away"
    return UserError(f"{text}{what} to start that stage anew")

  def _set_aside(self, step: int, reason: str, used: int) -> None:
    if processes.is_first():
      path = self.directory / str(step)
      names = (f"{step}.damaged{n or ''}" for n in itertools.count())
      aside = next(
        each for name in names if not (each := path.with_name(name)).exists()
      )
      try:
        path.rename(aside)
      except OSError as error:
        raise UserError(
          f"{self._damage(step, reason)} and can't be renamed to {aside.name}"
          f" ({error.strerror}); do that to go on from step {used}"
        ) from error
      self._say(
        f"{self._damage(step, reason)}; it is now {aside.name}, and step {used}"
        " is used"
      )
    processes.barrier("set aside")

  def _say(self, text: str) -> None:
    if processes.is_first():
      print(text, file=sys.stderr, flush=True)

  def _describe(self, step: int):
    folder = self.directory / str(step)

    def read():
      # As Orbax' JsonSave writes them.
      texts = [(folder / n / "metadata").read_bytes() for n in ("data", "meta")]
      return [json.loads(text) for text in texts]

    data, record = _read(folder, read)
    damage = _read(folder, lambda: find_damage(step, data, record))
    if damage:
      raise _Damaged(damage)
    return data, record

  def _arrays(self, step, manifest, abstract_state, part=None):
    import orbax.checkpoint as ocp

    leaves, treedef = jax.tree_util.tree_flatten_with_path(abstract_state)
    wanted = {path_name(path): _abstract(leaf) for path, leaf in leaves}
    self._compare(step, manifest, wanted, part)
    folder = self.directory / str(step)
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
        raise _Damaged(f"shape of {name} differs")
      if expected is not None and checksum(leaf) not in (expected, None):
        raise _Damaged(f"checksum of {name} differs")
      if is_key(like):
        leaf = jax.random.wrap_key_data(leaf, impl=kind)
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
