"""Packages: a trained model as two files that travel with the code.

  python -m cooper_jax.package --workdir=runs/sft --out=cooper_jax/assets/tiny

`model.safetensors` holds the parameters of the map tokenizers and of the SFT
policy, by their path in the tree; `manifest.json` says what made them (config,
version of the world, seed; the maps that they learned from; of each stage the
commands, commits, machines and hours, as far as they were noted; figures) and
gives a checksum of the parameters. Nothing in either can run code. The text
files of a policy that speaks a downloaded model's text stand beside them.
"""

import argparse
import functools
import hashlib
import os
import sys
from pathlib import Path

import jax
import numpy as np

from cooper_jax import package_settings
from cooper_jax.errors import EXIT_USER, UserError, printable
from cooper_jax.eval import own_code
from cooper_jax.parallel import processes, shard
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.policy import (
  Policy,
  boxed_params,
  make_policy,
  note_text,
)
from cooper_jax.stages import tokenizer
from cooper_jax.tokenizers import text_files
from cooper_jax.trained import load_stage
from cooper_jax.training import (
  json_files,
  settings_version,
  start_folders,
  workdir,
)
from cooper_jax.training.checkpoint import Checkpoints, flatten
from cooper_jax.world.config import WORLD_VERSION

FORMAT = 1
STAGE = "sft"  # whose policy is packaged
STAGES = ("tokenizer", "pretrain", STAGE)  # that led to it
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
KEPT = ("qa/accuracy/", "maps/")  # of the figures, beside each modality's


def names() -> list[str]:
  """The packages that come with this version."""
  folder = Path(__file__).parent / "assets"
  return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))


def is_one(folder: Path) -> bool:
  """Whether a folder holds a package."""
  return (folder / MANIFEST).is_file()


def find(start) -> Path:
  """The folder of a package, by its name in `assets` or by path."""
  folder = Path(start).expanduser()
  if str(start) in names():
    folder = Path(__file__).parent / "assets" / start
  if not is_one(folder):
    raise UserError(
      f"no packaged model {start}: {folder / MANIFEST} does not exist; packaged"
      f" with this version: {', '.join(names()) or 'none'}"
    )
  return folder


def maker(manifest: dict) -> str:
  """Which version made a package, as errors name it."""
  if manifest.get("version"):
    return f"version {manifest['version']}"
  made = manifest["made"].get(STAGE, {}).get("by", [])
  commits = [each["commit"] for each in made if "commit" in each]
  return f"commit {commits[-1]}" if commits else "another version"


def read_manifest(folder: Path) -> dict:
  """The manifest; UserError if it is of another format or world."""
  manifest = json_files.read_json(folder / MANIFEST)
  config = manifest.get("config")
  parts = [config, manifest.get("made")]
  parts += [config.get("data")] if isinstance(config, dict) else []
  if not all(isinstance(part, dict) for part in parts):
    raise UserError(
      f"{folder / MANIFEST} does not say how the model was made; {_restore()}"
    )
  config.setdefault("init_as", STAGE)  # not said in older packages
  if config.get("text_digest"):  # its text is beside it
    config["text_folder"] = str(folder)
  for name, here in (("format", FORMAT), ("world", WORLD_VERSION)):
    if manifest.get(name) != here:
      raise UserError(
        f"packaged model {folder} is of {name} {manifest.get(name)}, made by"
        f" {maker(manifest)}; this version has {here}; {_instead()}"
      )
  return manifest


def check(config, folder: Path) -> dict:
  """Gives the manifest; UserError names settings that the model wasn't for.

  A world in which only cameras, lenses or sizes differ is said in one line.
  """
  manifest = read_manifest(folder)
  sections = ("modalities", "maps", "world", "model", *replaced(config))
  seen, differing = package_settings.differences(
    manifest["config"], config, sections
  )
  if seen and not differing:
    _say(
      f"note: packaged model {folder.name} was trained in another view of the"
      f" world: {'; '.join(seen)}"
    )
  if differing:
    by = settings_version.made_by(manifest | manifest["made"].get(STAGE, {}))
    raise UserError(
      f"packaged model {folder} was made with other settings ({by}):"
      f" {settings_version.several(differing)}; give its values, or"
      f" {_instead()}"
    )
  return manifest


@functools.cache
def _say(note: str) -> None:
  """Once, though a start and each loading look at the package."""
  if processes.is_first():
    print(note, file=sys.stderr, flush=True)


def replaced(config) -> tuple[str, ...]:
  """The stages that `config.init_from` stands for: SFT and those before it, or
  with `config.init_as` "pretrain" those alone, and SFT is trained anew."""
  return STAGES[: STAGES.index(config.init_as) + 1]


def _instead() -> str:
  return (
    "train every stage (variant long, or scratch in 40 minutes), or start from"
    " a package that fits (--config.init_from=FOLDER)"
  )


def take_text(config) -> None:
  """Notes which text a config has, and whose image tokenizers.

  Of the package that it begins with, where it names no folder.
  """
  if config.init_from:
    folder = find(config.init_from)
    there = read_manifest(folder)["config"]
    if there.get("text_digest") and not config.text_folder:
      config.text_folder = str(folder)
    config.init.networks.update(there.get("init", {}).get("networks", {}))
  note_text(config)


def trained_on(manifest: dict) -> list[str]:
  """The modalities whose maps the tokenizers and the policy learned from."""
  return manifest.get("maps", manifest["config"]["modalities"])


def load(config, policy: Policy, folder: Path):
  """Reads (codecs, parameters of the policy) of a package.

  Raises UserError where a file is damaged or the sizes are others.
  """
  import safetensors.numpy

  manifest = check(config, folder)
  path = folder / WEIGHTS
  try:
    data = path.read_bytes()
    found = safetensors.numpy.load(data)
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(f"{path} can't be read: {error}; {_restore()}") from error
  if digest(data) != manifest.get("sha256"):
    raise UserError(f"{path} is not what {MANIFEST} describes; {_restore()}")
  boxed = boxed_params(policy)
  modules = tokenizer.find_modules(config)
  configs = tokenizer.make_configs(config, modules)
  wanted = {
    "tokenizer": jax.eval_shape(
      lambda: tokenizer.init_params(configs, jax.random.key(0))
    ),
    STAGE: shard.unbox(boxed),
  }
  tree = _fill(wanted, found, path)
  mesh = jax.sharding.get_mesh()
  placed = jax.device_put(tree["tokenizer"], shard.replicated(mesh))
  params = jax.device_put(tree[STAGE], shard.abstract_shardings(boxed, mesh))
  return tokenizer.codecs(configs, modules, placed), params


def _fill(wanted, found: dict, path: Path):
  """The tree of `wanted` with the arrays of `found`, by path."""
  shapes = {name: leaf.shape for name, leaf in flatten(wanted).items()}
  for name in sorted(shapes.keys() | found.keys()):
    here = shapes.get(name, "absent")
    there = found[name].shape if name in found else "absent"
    if here != there:
      raise UserError(
        f"{path} does not fit this model: {name} is {there} there and {here}"
        f" here; {_instead()}"
      )
  leaves = [found[name] for name in flatten(wanted)]
  return jax.tree.unflatten(jax.tree.structure(wanted), leaves)


def _restore() -> str:
  return "get the file anew (git checkout), or package a run again"


def install(config, run_folder, mesh) -> None:
  """Puts the package `config.init_from`, if one is named, into a workdir.

  Its parameters are then where the stages that it stands for would have put
  theirs, and these count as finished. A workdir that has them is left as it is.
  """
  if config.init_from and config.evaluate.reuse:
    own_code.digest()  # as the code is now, whatever is written meanwhile
  last = config.init_as
  here = [stage for stage in replaced(config) if stage in config.pipeline]
  done = (workdir.is_finished(config, run_folder, stage) for stage in here)
  if not config.init_from or all(done):
    return
  folder = find(config.init_from)
  manifest = read_manifest(folder)
  with jax.set_mesh(mesh):
    policy = make_policy(config)
    codecs, params = load(config, policy, folder)
    summary = tokenizer.test_scores(config, codecs)
  learned = trained_on(manifest)
  summary |= {f"{tokenizer.TRAINED}/{n}": 0 for n in codecs if n not in learned}
  parts = {
    last: {"ema" if config[last].optim.ema_decay > 0 else "params": params},
  }
  made = dict(manifest["made"])
  if last != STAGE:  # what trained the package stands in for pretraining
    made[last] = _together([made.get(stage, {}) for stage in (last, STAGE)])
  for stage in here:
    workdir.begin(config, run_folder, stage)
    if stage == tokenizer.STAGE:
      own = {name: codec.params for name, codec in codecs.items()}
      with jax.set_mesh(mesh):
        tokenizer.keep(config, Path(run_folder) / stage, own)
    if stage in parts:
      with jax.set_mesh(mesh):
        saved = Checkpoints(Path(run_folder) / stage / "checkpoints")
        if saved.latest() is None:  # else: interrupted after it
          steps = config[stage].steps
          saved.save(steps, parts[stage], data_state={}, meta={})
        saved.close()
  workdir.add_summary(run_folder, summary)
  for stage in here:
    came = {"name": folder.name, **made.get(stage, {})}
    workdir.finish(config, run_folder, stage, seconds=0.0, package=came)


def _together(made: list[dict]) -> dict:
  return {
    "by": [one for each in made for one in each.get("by", [])],
    "hours": round(sum(each.get("hours", 0.0) for each in made), 2),
  }


def pack(run_folder, out) -> dict:
  """Writes the package of a workdir whose SFT is done; returns the manifest."""
  import safetensors.numpy

  if not str(out):
    raise UserError("--out is empty; name a folder")
  run_folder, out = Path(run_folder).expanduser(), Path(out).expanduser()
  written = (WEIGHTS, *text_files.KEPT)
  lost = [name for name in written if os.path.lexists(out / name)]
  if lost and not is_one(out):
    raise UserError(
      f"{out} is no package, and has a {lost[0]} that would be lost; give"
      " another --out"
    )
  config = workdir.read_config(run_folder)
  found = {stage: workdir.record(run_folder, stage) for stage in STAGES}
  for stage, record in found.items():
    if not record or not record["finished"]:
      raise UserError(
        f"{run_folder} has no finished {stage}; run it to its end"
      )
  note_text(config)
  policy = make_policy(config)
  codecs = tokenizer.load(config, run_folder)
  params = load_stage(policy, config, run_folder, STAGE)
  drawing = {name: codec.params for name, codec in codecs.items()}
  tree = {"tokenizer": drawing, STAGE: params}
  arrays = {
    name: np.ascontiguousarray(leaf, np.float32)
    for name, leaf in flatten(jax.device_get(tree)).items()
  }
  data = safetensors.numpy.save(arrays)
  summary = json_files.read_json(run_folder / "summary.json")
  made = {}
  for stage, record in found.items():
    seconds = summary.get(f"speed/{stage}/seconds", 0.0)
    here = {"by": record.get("by", []), "hours": round(seconds / 3600, 2)}
    # What came in a package was made where that was made.
    came = record.get("package", {})
    made[stage] = {name: came.get(name, value) for name, value in here.items()}
  manifest = {
    "format": FORMAT,
    "version": settings_version.SETTINGS_VERSION,
    "world": WORLD_VERSION,
    "config": json_files.plain(config),
    "seed": config.seed,
    "maps": sorted(tokenizer.trained_on(run_folder, codecs)),
    "made": made,
    "parameters": sum(array.size for array in arrays.values()),
    "sha256": digest(data),
    "figures": {
      name: value
      for name, value in sorted(summary.items())
      if name.startswith((*KEPT, *(f"{each}/" for each in codecs)))
    },
  }
  # Where it began is of this machine; which weights those were, is not.
  unknown = {"tokenizer": start_folders.maps_of("")}
  unknown |= dict.fromkeys(start_folders.ROLES, "")
  manifest["config"]["init"] |= unknown
  out.mkdir(parents=True, exist_ok=True)
  if config.text_folder:
    rows = policy.form.vocabulary.text
    manifest["config"] |= {"text_folder": "", "text_rows": rows}
    text_files.copy(config.text_folder, out, rows)
  else:
    text_files.remove(out)
  (out / WEIGHTS).write_bytes(data)
  json_files.write_json(out / MANIFEST, manifest)
  return manifest


def digest(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def main(argv=None) -> int:
  """Packages a workdir; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.package",
    description="Writes the trained model of a workdir as a package.",
  )
  parser.add_argument("--workdir", required=True, help="of a finished SFT run")
  parser.add_argument("--out", required=True, help="folder to write")
  asked = parser.parse_args(argv)
  try:
    out = Path(asked.out).expanduser() if asked.out else ""
    with jax.set_mesh(make_mesh()):
      manifest = pack(asked.workdir, out)
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  size = (out / WEIGHTS).stat().st_size / 2**20
  print(f"{out}: {manifest['parameters']:,} parameters, {size:.1f} MiB")
  return 0


if __name__ == "__main__":
  sys.exit(main())
