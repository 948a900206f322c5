"""Trained models loaded by name: packaged ones and those of a run's folder."""

import os
from pathlib import Path

import jax

from cooper_jax import package, policy, trained
from cooper_jax.errors import UserError, nearest
from cooper_jax.inference.model import Model
from cooper_jax.parallel import mesh
from cooper_jax.runtime import compilation
from cooper_jax.stages import tokenizer
from cooper_jax.training import workdir

TRAINED = ("grpo", "sft")  # the later stage first


def load(start="tiny", *, stage: str | None = None) -> Model:
  """Loads a packaged model by name, a package's folder or a run's folder.

  stage: whose policy of a run, "sft" or "grpo"; default the last finished.
  Raises UserError, one line, where there is none, and says what there is.
  """
  if not isinstance(start, (str, os.PathLike)):
    raise UserError(
      f"no model of type {type(start).__name__}: give the name of a package,"
      " or a folder"
    )
  folder = Path(start).expanduser()
  # A package with a folder's text has a config.json, too, of that folder.
  packaged = str(start) in package.names() or package.is_one(folder)
  if (folder / "config.json").is_file() and not packaged:
    return load_run(folder, stage)
  if not packaged:
    there = package.names()
    runs = sorted(str(p.parent) for p in Path("runs").glob("*/config.json"))
    listed = f"; runs here: {', '.join(runs[:5])}" if runs else ""
    raise UserError(
      f"no model {start}: it is no folder of a run (config.json) or of a"
      f" package ({package.MANIFEST}), and packaged with this version:"
      f" {', '.join(there) or 'none'}{listed}"
      f"{nearest(str(start), [*there, *runs])}"
    )
  if stage:
    raise UserError(
      f"stage={stage}: {start} is a package, which holds one policy; drop it"
    )
  return load_package(start)


def load_package(start) -> Model:
  """Loads the package of a name or folder; raises as `load`."""
  with _prepared():
    manifest = package.read_manifest(package.find(start))
    return _made(*_package(start), package.trained_on(manifest))


def load_run(folder, stage: str | None = None) -> Model:
  """Loads the policy that a run's stage ended with; raises as `load`."""
  with _prepared():
    found = _run(folder, stage)
    return _made(*found, tokenizer.trained_on(folder, found[3]))


def _prepared():
  """A mesh of the first device, and what was compiled before at hand."""
  asked = jax.config.jax_compilation_cache_dir or ""
  compilation.use_cache(asked, fallback=Path("compiled"))
  return jax.set_mesh(mesh.make_mesh(devices=jax.local_devices()[:1]))


def _made(config, made, params, codecs, name, drawable) -> Model:
  return Model(
    name=name,
    config=config,
    policy=made,
    params=params,
    codecs=codecs,
    drawable=tuple(drawable),
    mesh=jax.sharding.get_mesh(),
  )


def _package(start):
  """(config, policy, its parameters, codecs, what they are)."""
  folder = package.find(start)
  manifest = package.read_manifest(folder)
  config = workdir.to_config(manifest["config"])
  name = f"packaged model {folder.name}"
  made = make(config, name, package.maker(manifest))
  codecs, params = package.load(config, made, folder)
  return config, made, params, codecs, name


def _run(folder, stage: str | None):
  """The same of a run's folder."""
  config = workdir.read_config(folder)
  if stage not in (None, *TRAINED):
    raise UserError(
      f"stage={stage}: allowed are {', '.join(TRAINED)}"
      f"{nearest(str(stage), TRAINED)}"
    )
  wanted = (stage,) if stage else TRAINED
  found = [workdir.record(folder, each) for each in wanted]
  done = [s for s, r in zip(wanted, found, strict=True) if r and r["finished"]]
  if not done:
    raise UserError(
      f"{folder} has no finished {' or '.join(wanted)}; train it with"
      " python -m cooper_jax.main"
    )
  made = make(config, folder)
  codecs = tokenizer.load(config, folder)
  params = trained.load_stage(made, config, folder, done[0], older=True)
  return config, made, params, codecs, f"{done[0]} of {folder}"


def make(config, whose, maker: str = "another version") -> policy.Policy:
  """The policy of a config that another version may have written."""
  try:
    return policy.make_policy(config)
  except (AttributeError, KeyError, TypeError) as error:
    raise UserError(
      f"{whose} was made by {maker} of cooper_jax ({error}); ask it with that"
      " version"
    ) from error
