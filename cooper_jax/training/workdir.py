"""Workdir of a run: its settings, which stages are finished, what came out.

Each stage leaves `<stage>/stage.json` with the settings that it depends on. A
finished stage whose settings are the same is not run again; one begun with
other settings is never mixed with new ones.
"""

import contextlib
import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from ml_collections import ConfigDict

from cooper_jax.errors import NumericsError, UserError
from cooper_jax.parallel import processes
from cooper_jax.runtime import interrupt
from cooper_jax.training import precision, settings_version, start_folders

# Sections of the config that a stage is the first to depend on; it depends
# on those of the stages before it as well.
COMMON = ("init_from", "init_as", "seed", "precision", "text_rows")
COMMON += ("text_digest", "modalities", "maps", "world", "data", "init")
SECTIONS = {
  "tokenizer": ("tokenizer",),
  "pretrain": ("model", "pretrain"),
  "sft": ("sft",),
  "grpo": ("sampling", "grpo"),
  "evaluate": ("sampling", "evaluate"),
}
# Stages whose result a stage begins with; SFT may begin without pretraining.
BEGINS_WITH = {
  "pretrain": ("tokenizer",),
  "sft": ("tokenizer",),
  "grpo": ("tokenizer", "sft"),
  "evaluate": ("tokenizer",),
}
# Settings that change how a run is watched or where it runs, not its result.
FREE = frozenset(
  "log_every save_every image_every keep expected_minutes workers cache "
  "in_memory rows remat attention unroll kept_logits_mib prompt_buckets "
  "micro_batches".split()
)
# As free, but only here: in other sections these names change what is learned.
FREE_HERE = frozenset(["evaluate.batch", "evaluate.reuse", "grpo.bins"])
# What these name is noted beside them.
FREE_HERE |= {*start_folders.PATHS, "maps.segmentation.classes"}
# Where the last parameters are taken, validation only watches.
FREE_LAST = FREE_HERE | {"grpo.validate_every", "grpo.validation_questions"}
# What may be more than it was: the stage goes on from its last step.
GROWS = frozenset(["grpo.steps"])
# What may be another in a stage whose training was lost, when it goes on.
RATES = ("learning_rate", "adam_learning_rate", "warmup_steps", "clip_norm")
MADE_BY = ("version", "commit")  # of config.json, beside the settings


def plain(value):
  """Turns a config into what JSON gives back: tuples become lists."""
  if hasattr(value, "to_dict"):
    value = value.to_dict()
  return json.loads(json.dumps(value))


def flat(value, prefix="") -> dict:
  """In: {"a": {"b": 1}}   Out: {"a.b": 1}."""
  if not isinstance(value, dict):
    return {prefix: value}
  items = {}
  for name, item in value.items():
    items |= flat(item, f"{prefix}.{name}" if prefix else name)
  return items


def stage_settings(config, stage: str) -> dict:
  """Gives the settings that the result of a stage depends on, flat."""
  pipeline = list(config.pipeline)
  before = pipeline[: pipeline.index(stage)]
  sections = list(COMMON)
  for name in [*before, stage]:
    sections += SECTIONS.get(name, (name,))
  settings = flat({name: plain(config[name]) for name in sections})
  # Settings of a source or a reward that is not used change nothing.
  used = [name.strip() for name in config.data.source.split(",")]
  below = [f"data.settings.{n}." for n in config.data.settings if n not in used]
  if "grpo" in sections:
    off = [n for n, w in config.grpo.rl.rewards.items() if w is None]
    below += [f"grpo.rl.settings.{name}." for name in off]
    settings = {
      name: value
      for name, value in settings.items()
      if name not in {f"grpo.rl.rewards.{each}" for each in off}
    }
  settings = {
    k: v for k, v in settings.items() if not k.startswith(tuple(below))
  }
  if settings["init_as"] == "sft":  # as it is where nothing is said of it
    del settings["init_as"]
  return _bound(settings) | {"after": before}


def _bound(settings: dict) -> dict:
  """Those of flat settings that may not change in a workdir."""
  free = FREE_HERE if settings.get("grpo.result") == "best" else FREE_LAST
  return {
    name: value
    for name, value in settings_version.without_added(settings).items()
    if name not in free and name.rsplit(".", 1)[-1] not in FREE
  }


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


def digest(settings: dict) -> str:
  text = json.dumps(settings, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_json(path: Path) -> dict:
  """Reads a JSON object, or raises UserError naming the file."""
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise UserError(
      f"{path} can't be read ({type(error).__name__}); mend it, or move it "
      "away to do that part again"
    ) from error
  if not isinstance(value, dict):
    raise UserError(
      f"{path} holds a {type(value).__name__}, expected an object"
    )
  return value


def write_json(path: Path, value) -> None:
  """Writes a file whole or not at all."""
  partial = path.with_suffix(".partial")
  partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
  os.replace(partial, path)


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
  return _bound(found["settings"]) == stage_settings(config, stage)


def differences(config, workdir, stage: str) -> list[str]:
  """Lists settings that a stage was begun with and that are others now."""
  found = record(workdir, stage)
  if found is None:
    return []
  now = stage_settings(config, stage)
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
  config, or where the path has no one name; changes nothing.
  """
  workdir = Path(workdir).expanduser().absolute()
  _check_name(workdir)
  for stage in config.pipeline:
    found = differences(config, workdir, stage)
    if found:
      shown = "; ".join(found[:4])
      more = f"; and {len(found) - 4} more" if len(found) > 4 else ""
      raise UserError(
        f"{workdir} was made by another config: {shown}{more} (stage {stage});"
        " use another --workdir, or give the old values, or delete "
        f"{workdir / stage} and what came after it to train it anew"
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
      made_by = zip(MADE_BY, (settings_version.SETTINGS_VERSION, commit()))
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
  now, before = maker(config), record(workdir, stage) or {}
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


def maker(config) -> dict:
  """What runs now: settings of the command line, commit, machine and dtypes."""
  from cooper_jax.training import telemetry

  words = [word for each in sys.argv[1:] for word in each.split("=", 1)]
  asked = [
    name if value.startswith("--") else f"{name}={value}"
    for name, value in zip(words, [*words[1:], "--"])
    if name.startswith("--config")
  ]
  return {
    "command": shlex.join(["python", "-m", "cooper_jax.main", *asked]),
    "commit": commit(),
    "machine": telemetry.describe_machine()[0],
    "dtypes": str(precision.dtypes(config.precision)),
  }


def identity(config) -> str:
  """What several processes of one run must have in common."""
  made = f"{digest(plain(config))} of commit {commit()}"
  return f"{made}, in {precision.dtypes(config.precision)}"


def commit() -> str:
  """The commit of this code, "-dirty" after it if it was changed since.

  A launcher that ships files without their history says it in COOPER_COMMIT.
  """
  if said := os.environ.get("COOPER_COMMIT"):
    return said
  try:
    run = subprocess.run(
      ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
      cwd=Path(__file__).parent,
      capture_output=True,
      text=True,
      check=False,
    )
  except OSError:  # no git here
    return "unknown"
  return run.stdout.strip() or "unknown"


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
  settings = stage_settings(config, stage)
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
