"""Workdir of a run: its settings, which stages are finished, what came out.

Each stage leaves `<stage>/stage.json` with the settings that it depends on. A
finished stage whose settings are the same is not run again; one begun with
other settings is never mixed with new ones.
"""

import contextlib
import os
import sys
from pathlib import Path

from ml_collections import ConfigDict

from cooper_jax.errors import NumericsError, UserError
from cooper_jax.parallel import processes
from cooper_jax.runtime import interrupt
from cooper_jax.training import (
  precision,
  provenance,
  settings_version,
  stage_settings,
  start_folders,
)
from cooper_jax.training.json_files import (
  digest,
  plain,
  read_json,
  write_json,
)

# Stages whose result a stage begins with; SFT may begin without pretraining.
BEGINS_WITH = {
  "pretrain": ("tokenizer",),
  "sft": ("tokenizer",),
  "grpo": ("tokenizer", "sft"),
  "evaluate": ("tokenizer",),
}
# What may be more than it was: the stage goes on from its last step.
GROWS = frozenset(["grpo.steps"])
# What may be another in a stage whose training was lost, when it goes on.
RATES = ("learning_rate", "adam_learning_rate", "warmup_steps", "clip_norm")
MADE_BY = ("version", "commit")  # of config.json, beside the settings


def read_config(workdir) -> ConfigDict:
  """The config that a workdir was last run with; UserError without one."""
  _check_name(Path(workdir).expanduser().absolute())
  path = Path(workdir).expanduser() / "config.json"
  if not path.exists():
    raise UserError(
      f"no run in {workdir}: {path} does not exist; give the --workdir of a"
      " run of cooper_jax.main"
    )
  saved = read_json(path)
  settings_version.check(saved, path)
  return to_config({n: v for n, v in saved.items() if n not in MADE_BY})


def to_config(saved: dict) -> ConfigDict:
  """Undoes `plain`: lists become tuples again."""

  def restore(value):
    if isinstance(value, dict):
      return {name: restore(item) for name, item in value.items()}
    return tuple(map(restore, value)) if isinstance(value, list) else value

  return ConfigDict(restore(settings_version.completed(saved))).lock()


def record(workdir, stage: str) -> dict | None:
  """Gives what a stage wrote about itself, or None if it never began."""
  path = Path(workdir) / stage / "stage.json"
  if not path.exists():
    return None
  found = read_json(path)
  missing = [n for n in ("digest", "finished", "settings") if n not in found]
  if missing:
    raise UserError(
      f"{path} is damaged (it has no {' and no '.join(missing)}); delete it,"
      " and the same command goes on from that stage's last checkpoint"
    )
  settings_version.check(found, path)
  return found


def is_finished(config, workdir, stage: str) -> bool:
  """True if the stage is done with these very settings, less the free ones."""
  found = record(workdir, stage)
  if not found or not found["finished"]:
    return False
  now = stage_settings.of(config, stage)
  return stage_settings.bound(found["settings"]) == now


def differences(config, workdir, stage: str) -> list[str]:
  """Lists settings that a stage was begun with and that are others now."""
  found = record(workdir, stage)
  if found is None:
    return []
  now = stage_settings.of(config, stage)
  before, now = settings_version.paired(found["settings"], now)
  lost = "lost" in found and not found["finished"]
  free = {f"{stage}.optim.{name}" for name in RATES} if lost else set()
  shared = before.keys() & now.keys()
  if "grpo.steps" in shared:  # a reward that is not computed is not noted
    noted = before.keys() | now.keys()
    shared |= {name for name in noted if name.startswith("grpo.rl.rewards.")}
  return [
    settings_version.differing(name, before, now)
    # Another pipeline around it is a reason to run again, not to refuse.
    for name in sorted(shared)
    if name != "after"
    and before.get(name) != now.get(name)
    and name not in free
    and not (name in GROWS and now[name] > before[name])
  ]


def check(config, workdir) -> Path:
  """Gives the whole path of a folder that this config may be run in.

  Raises UserError naming the settings that differ in one made by another
  config, or where the path has no one name, or a stage's folder is a link to
  nothing; changes nothing.
  """
  workdir = Path(workdir).expanduser().absolute()
  _check_name(workdir)
  for stage in config.pipeline:
    folder = workdir / stage
    if folder.is_symlink() and not folder.exists():
      raise UserError(
        f"{folder} is a link to {os.readlink(folder)}, which is not there; put"
        " it back, or copy a run of a sweep with what its links name (cp -rL)"
      )
    if folder.exists() and not folder.is_dir():
      raise UserError(f"{folder} is a file, not the folder of a stage; move it")
    found = differences(config, workdir, stage)
    if found:
      raise UserError(
        f"{workdir} was made by another config:"
        f" {settings_version.several(found)} (stage {stage}); use another"
        f" --workdir, or give the old values, or delete {workdir / stage} and"
        " what came after it to train it anew"
      )
    for needed in BEGINS_WITH.get(stage, ()):
      there = (workdir / needed / "checkpoints").is_dir()
      there |= needed == "sft" and start_folders.begins_grpo(config, workdir)
      if needed not in config.pipeline and not there:
        raise UserError(
          f"{stage} begins with what {needed} made, which {workdir} does not"
          f" hold; put {needed} into config.pipeline"
        )
  if (workdir / "summary.json").exists():
    read_json(workdir / "summary.json")  # refused now, not after hours
  return workdir


def _check_name(workdir: Path) -> None:
  # TensorBoard and Orbax write names in UTF-8, Python in the locale's
  # encoding: of a folder where these differ there would be two.
  named = str(workdir)
  if os.fsencode(named) != named.encode("utf-8", "surrogatepass"):
    raise UserError(
      f"--workdir={ascii(named)[1:-1]} has letters that are no UTF-8 under this"
      f" locale ({sys.getfilesystemencoding()}); set LC_ALL=C.UTF-8 or"
      " PYTHONUTF8=1, or choose a folder with an ASCII name"
    )


def prepare(config, workdir) -> Path:
  """Makes the folder after `check`, and saves the config there."""
  workdir = check(config, workdir)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if processes.is_first():
      now = settings_version.SETTINGS_VERSION, provenance.commit()
      made_by = zip(MADE_BY, now)
      write_json(workdir / "config.json", plain(config) | dict(made_by))
  except OSError as error:
    raise UserError(
      f"--workdir={workdir} can't be written ({error.strerror}); choose "
      "another folder"
    ) from error
  return workdir


def begin(config, workdir, stage: str) -> Path:
  """Notes that a stage has begun, and by what; gives its folder."""
  interrupt.check()
  now, before = provenance.maker(config), record(workdir, stage) or {}
  precision.say_moved(stage, before.get("by", ()), now)
  by = [each for each in before.get("by", ()) if each != now]
  _note(config, workdir, stage, finished=False, seconds=None, by=[*by, now])
  return Path(workdir) / stage


@contextlib.contextmanager
def noting_loss(folder):
  """Notes in a stage's folder that its training was lost, if it is.

  The next run may then go on with lower rates (RATES).
  """
  try:
    yield
  except NumericsError as error:
    path = Path(folder) / "stage.json"
    if path.exists() and processes.is_first():
      write_json(path, read_json(path) | {"lost": str(error)})
    raise


def finish(
  config, workdir, stage: str, *, seconds: float, package: dict | None = None
) -> None:
  """Notes that a stage is done, so that it is not run again.

  package: of a stage that was not run here, `name` of the package that it came
  with, and what made it there (`by`, `hours`).
  """
  by = (record(workdir, stage) or {}).get("by", [])
  _note(
    config, workdir, stage, finished=True, seconds=seconds, by=by,
    **({"package": package} if package else {}),
  )  # fmt: skip


def _note(config, workdir, stage, *, finished, seconds, by, **more) -> None:
  if not processes.is_first():
    return
  settings = stage_settings.of(config, stage)
  folder = Path(workdir) / stage
  folder.mkdir(parents=True, exist_ok=True)
  write_json(
    folder / "stage.json",
    {
      "version": settings_version.SETTINGS_VERSION,
      "digest": digest(settings),
      "settings": settings,
      "finished": finished,
      "seconds": seconds,
      "by": by,
      **more,
    },
  )


def plan(config, workdir) -> tuple[list[str], list[str]]:
  """Gives a line per stage, and the stages that are still to be run."""
  lines, todo = [], []
  for stage in config.pipeline:
    if is_finished(config, workdir, stage):
      package = record(workdir, stage).get("package")
      how = f"from package {package['name']}" if package else "finished before"
      lines.append(f"  {stage:9s} {how}, skipped")
      continue
    todo.append(stage)
    minutes = config[stage].expected_minutes
    begun = "goes on" if record(workdir, stage) else "to do"
    lines.append(f"  {stage:9s} {begun}, about {minutes:g} min on two cores")
  return lines, todo


def add_summary(workdir, values: dict) -> None:
  """Merges flat values into summary.json."""
  if not processes.is_first():
    return
  path = Path(workdir) / "summary.json"
  write_json(path, (read_json(path) if path.exists() else {}) | values)
