"""Disk space for a stage's checkpoints, checked before its first step.

Found at the first save, a full disk costs all the steps before it.
"""

import math
import shutil

from cooper_jax.errors import UserError
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.manifest import flatten


def check(checkpoints: Checkpoints, state, *, label: str, saves: int) -> None:
  """Raises UserError where the checkpoints to come don't fit, in MiB.

  saves: that are still to come. Of all, `checkpoints.keep` stay, and while one
  is written there is one more.
  """
  one = 1.1 * (sum(x.nbytes for x in flatten(state).values()) + 2**20)
  there = len(checkpoints.steps())
  more = max(1, min(checkpoints.keep + 1 - there, saves))
  folder = checkpoints.directory
  folder.mkdir(parents=True, exist_ok=True)
  free = shutil.disk_usage(folder).free
  if free < more * one:
    fewer = f"lower config.{label}.keep, " if more > 1 else ""
    raise UserError(
      f"{label} needs {math.ceil(more * one / 2**20)} MiB for {more}"
      f" checkpoint{'s' if more > 1 else ''} of {one / 2**20:.0f} MiB, the disk"
      f" of {folder} has {free // 2**20} MiB free; make room, {fewer}or"
      " choose another --workdir"
    )
