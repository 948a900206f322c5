"""Checkpoints: the state, the position in the data, and what they are.

Orbax writes each checkpoint into a temporary folder and renames it, so a
finished one is whole or absent. It doesn't checksum what it holds: a flipped
bit would be restored in silence. So shapes, dtypes and checksums are kept
beside it (manifest.py) and compared before a state is handed out. A damaged
checkpoint costs what came after the one before it, not the run.
"""

import itertools
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from cooper_jax.errors import UserError
from cooper_jax.parallel import processes
from cooper_jax.runtime import interrupt
from cooper_jax.training import checkpoint_folder
from cooper_jax.training.manifest import (
  flatten,
  from_json,
  make_record,
  to_json,
)


def _taking_part():
  """Orbax's word for who calls it: all, or this process alone."""
  from orbax.checkpoint import options

  if processes.several() or processes.count() == 1:
    return options.MultiprocessingOptions()
  me = processes.index()
  return options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"own{me}"
  )


class Checkpoints:
  """The checkpoints in one directory, newest last; keeps `keep` of them.

  Of several processes, all that take part under the mesh that is set must call
  the same methods in the same order.
  """

  def __init__(self, directory, *, keep: int | None = 2):
    """keep: of the newest; None = all, until `delete`."""
    self.directory = Path(directory).absolute()
    self.keep = keep
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
          max_to_keep=self.keep,
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

  def delete(self, step: int) -> None:
    """Removes a finished checkpoint."""
    with interrupt.held():
      self._manager.delete(step)

  def meta(self, step: int) -> dict:
    """What `save` was given as meta; raises UserError where it is damaged."""
    try:
      record = checkpoint_folder.describe(self.directory / str(step))[1]
    except checkpoint_folder.Damaged as error:
      raise self._refusal({step: str(error)}) from error
    return from_json(record["meta"])

  def restore(self, abstract_state):
    """Gives (state, data_state, meta), or None where nothing was saved.

    `abstract_state` is a state, or its shapes; arrays take the shardings of
    its leaves. Where the newest is damaged, the newest that is whole is used,
    and what came after it gets other names. Raises UserError if none is whole,
    or if it is of a different model.
    """

    def read(step):
      folder = self.directory / str(step)
      data, record = checkpoint_folder.describe(folder)
      state = checkpoint_folder.arrays(
        folder, record["manifest"], abstract_state
      )
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
      folder, part = self.directory / str(step), {name: abstract_part}
      manifest = checkpoint_folder.describe(folder)[1]["manifest"]
      return checkpoint_folder.arrays(folder, manifest, part, name)[name]

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
      except checkpoint_folder.Damaged as error:
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
