"""Disk space for a stage's checkpoints, checked before its first step.

Found at the first save, a full disk costs all the steps before it.
"""

import math
import shutil

from cooper_jax.errors import UserError
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.manifest import flatten


def check(
  checkpoints: Checkpoints, state, *, label: str, saves: int, beside: int = 0
) -> None:
  """Raises UserError where the checkpoints to come don't fit, in MiB.

  saves: that are still to come. Of all, `checkpoints.keep` stay, and while one
  is written there is one more. beside: bytes of what else is to be written.
  """
  one = room_of(state)
  there = len(checkpoints.steps())
  more = max(1, min(checkpoints.keep + 1 - there, saves))
  folder = checkpoints.directory
  folder.mkdir(parents=True, exist_ok=True)
  free = shutil.disk_usage(folder).free
  needed = more * one + beside
  if free < needed:
    fewer = f"lower config.{label}.keep, " if more > 1 else ""
    raise UserError(
      f"{label} needs {math.ceil(needed / 2**20)} MiB for {more}"
      f" checkpoint{'s' if more > 1 else ''} of {one / 2**20:.0f} MiB"
      f"{' and the best by validation' if beside else ''}, the disk"
      f" of {folder} has {free // 2**20} MiB free; make room, {fewer}or"
      " choose another --workdir"
    )


def room_of(state) -> float:
  """Bytes that a checkpoint of a state takes, with what is said of it."""
  return 1.1 * (sum(x.nbytes for x in flatten(state).values()) + 2**20)
