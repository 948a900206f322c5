"""Facts of a run in its report: machine, command, versions, files, package."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys

from cooper_jax.report import tables

LIBRARIES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
FILES = (
  "summary.json",
  "config.json",
  "evaluate/sft.jsonl",
  "evaluate/grpo.jsonl",
  "grpo/rollouts.jsonl",
)


def facts(workdir):
  """Date, machine, command, config and versions of this process."""
  import jax

  device = jax.devices()[0]
  chips = ""
  if device.platform != "cpu":
    chips = f", {jax.device_count()} x {device.device_kind}"
  found = {
    "date": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
    "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}){chips}",
    "command": " ".join(["python -m cooper_jax.main", *sys.argv[1:]]),
  }
  config = workdir / "config.json"
  if config.exists():
    values = json.loads(config.read_text(encoding="utf-8"))
    for name in ("variant", "pipeline", "seed"):
      if name in values:
        value = values[name]
        listed = isinstance(value, list)
        found[name] = ", ".join(map(str, value)) if listed else value
    own = _own_data(values.get("data", {}))
    if own:
      found["data"] = own
  versions = [f"Python {platform.python_version()}"]
  for library in LIBRARIES:
    versions.append(f"{library} {importlib.metadata.version(library)}")
  return found | {"versions": ", ".join(versions)}


def _own_data(data):
  """Sources that are not the rendered world alone, and where they lie."""
  source, settings = data.get("source", "world"), data.get("settings", {})
  names = [each.partition(":")[0].strip() for each in source.split(",")]
  if set(names) == {"world"}:
    return ""
  each = [settings.get(name, {}) for name in names]
  places = [one.get("path") or one.get("root") for one in each]
  said = ", ".join(filter(None, places))
  return f"{source} ({said})" if said else source


def files(workdir):
  """Those of the run's files that are there, as the page can link to them."""
  logs = sorted(p.relative_to(workdir) for p in workdir.glob("*/metrics.jsonl"))
  names = [*FILES, *(path.as_posix() for path in logs)]
  return [name for name in names if (workdir / name).is_file()]


def packages(workdir):
  """[(stages, name, hours or None)] of stages that a package was trained by."""
  found = {}
  for stage in ("tokenizer", "pretrain", "sft"):
    path = workdir / stage / "stage.json"
    if not path.is_file():
      continue
    package = json.loads(path.read_text(encoding="utf-8")).get("package")
    if package:
      stages, hours = found.setdefault(package["name"], ([], []))
      stages.append(tables.STAGES.get(stage, stage))
      hours.append(package.get("hours"))
  return [
    (
      ", ".join(stages)[:1].upper() + ", ".join(stages)[1:],
      name,
      None if None in hours else sum(hours),
    )
    for name, (stages, hours) in found.items()
  ]
