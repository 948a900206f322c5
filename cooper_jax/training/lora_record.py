"""Record of a LoRA stage: what it trains, and beside which parameters.

Its checkpoints hold A and B alone. `lora.json` beside them names the parameters
that these belong to: a stage of the same run, by the checksum of its
checkpoint, or folders of released weights, by their digests. Others there now
are refused: A and B mean nothing beside them.
"""

import dataclasses
from pathlib import Path

from cooper_jax.errors import UserError
from cooper_jax.parallel import processes
from cooper_jax.training import (
  checkpoint_folder,
  json_files,
  start_folders,
)
from cooper_jax.training.checkpoint import Checkpoints

RECORD_FILE = "lora.json"


@dataclasses.dataclass(frozen=True)
class Record:
  """What `lora.json` holds.

  trains: fields of `models.lora.Adaptation`. base: {"stage", "step",
  "checksum", "averaged"} of an earlier stage, or {"folders", "digests"}.
  """

  folder: Path  # of the LoRA stage
  trains: dict
  base: dict

  @property
  def workdir(self) -> Path:
    """The run's folder."""
    return self.folder.parent


def read(folder) -> Record | None:
  """The record of a stage, by its folder or `best` in it; None: not LoRA."""
  folder = Path(folder)
  stage = folder.parent if folder.name == "best" else folder
  path = stage / RECORD_FILE
  if not path.is_file():
    return None
  said = json_files.read_json(path)
  if not {"trains", "base"} <= said.keys():
    raise UserError(
      f"{path} is damaged: it has no trains and base, so A and B mean"
      " nothing; restore it, or train the stage anew"
    )
  return Record(stage, said["trains"], said["base"])


def note(folder, trains: dict, base: dict) -> None:
  """Notes what a stage trains beside what; UserError where another is noted."""
  folder, trains = Path(folder), json_files.plain(trains)
  before = read(folder)
  if before is None:
    if not processes.is_first():
      return None
    folder.mkdir(parents=True, exist_ok=True)
    said = {"trains": trains, "base": base}
    return json_files.write_json(folder / RECORD_FILE, said)
  for name in sorted(trains.keys() | before.trains.keys()):
    there, here = before.trains.get(name), trains.get(name)
    if there != here:
      raise UserError(
        f"{folder} trains A and B of other layers or sizes: {name} is {there}"
        f" there and {here} here; give the old config.lora, or another"
        " --workdir"
      )
  return check(before, base)


def check(record: Record, base: dict) -> None:
  """Raises UserError where a base is not the one that is noted."""
  if _identity(record.base) != _identity(base):
    raise UserError(
      f"A and B of {record.folder} belong to {told(record.base)}, and there is"
      f" {told(base)}; give them that, or take another --workdir"
    )


def _identity(base: dict) -> dict:
  """A base without what may change in a run: where its folders lie."""
  return {name: value for name, value in base.items() if name != "folders"}


def told(base: dict) -> str:
  """A base in words.

  In: {"stage": "sft", "step": 9, "checksum": 7}   Out: "sft, step 9 (7)"
  """
  if "stage" in base:
    return f"{base['stage']}, step {base['step']} ({base['checksum']})"
  return ", ".join(
    f"the {role} weights {digest}" for role, digest in base["digests"].items()
  )


def of_stage(run_folder, stage: str, *, averaged: bool) -> dict:
  """The base of a stage that begins with an earlier one's parameters."""
  checkpoints = Checkpoints(Path(run_folder) / stage / "checkpoints")
  step = checkpoints.latest()
  if step is None:
    raise UserError(f"no {stage} checkpoint in {run_folder}, which LoRA is of")
  try:
    found = checkpoint_folder.describe(checkpoints.directory / str(step))[1]
  except checkpoint_folder.Damaged as error:
    raise UserError(f"checkpoint {step} of {stage} is damaged: {error}") from (
      error
    )
  # Older checkpoints have no checksum of their own.
  checksum = found.get("checksum", 0)
  return {
    "stage": stage,
    "step": step,
    "checksum": checksum,
    "averaged": averaged,
  }


def of_folders(config) -> dict:
  """The base of a stage that begins with folders of released weights."""
  roles = start_folders.folders(config)
  digests = {role: config.init.digests[role] for role in roles}
  return {"folders": dict(roles), "digests": digests}
