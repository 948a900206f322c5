"""Source "built": a data set that `cooper_jax.data.build` made of another.

The samples are those of the source that it was built from, in its order and
its splits, at one size: they only have to be unpacked. `built:NAME` reads the
folder NAME of the root, so that several built sets can be mixed.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from cooper_jax import modalities, plugins, sample
from cooper_jax.data import line_maps, mixture, shards, splits
from cooper_jax.data.shards import BuiltSource, ShardJob
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError

# What a JSON file of another form raises.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError)
BUILD = "python -m cooper_jax.data.build SOURCE --root DIR --out"


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the built set lies."""

  root: str = ""  # folder that was built; of `built:NAME` the one above it


def check(config: DataConfig) -> None:
  """UserError where nothing is built, or for another size or other classes."""
  _opened(config)


def source(config: DataConfig, split: str) -> BuiltSource:
  """The samples of a split."""
  folder, manifest = _opened(config)
  if split not in manifest["splits"]:
    raise UserError(
      f"built: {folder} was built without split {split!r}, of"
      f" {', '.join(manifest['splits'])} alone"
    )
  found = BuiltSource(folder, split, manifest)
  if not len(found):
    raise UserError(f"built: {folder} has no samples of split {split!r}")
  return found


def everything(config: DataConfig) -> BuiltSource:
  """The samples of the first split that was built."""
  return source(config, next(iter(_opened(config)[1]["splits"])))


def asked(config: DataConfig, split: str):
  """Yields (question, place of its sample, maps); no picture is read."""
  found = source(config, split)
  for index in range(len(found)):
    for question in found.questions(index):
      yield question, f"{found.folder} {split} {index}", found.kind(index)


def survey(config: DataConfig) -> list[str]:
  """What a run's plan says; a sample of each end of a split is unpacked."""
  folder, manifest = _opened(config)
  lines = [f"data built {folder} of {manifest['source']}"]
  for split in manifest["splits"]:
    found = source(config, split)
    some = mixture.tolerant(found, config.bad_samples)
    for index in {0, len(found) - 1}:
      _ = some[index]
    bad = len(manifest["splits"][split]["bad"])
    left = f", {bad:,} were left out as bad" if bad else ""
    lines.append(f"  {split:10s} {len(found):,} images{left}")
  return lines


def facts_of(config: DataConfig) -> dict[str, Any]:
  """What the samples of a config's one source depend on, fit for JSON."""
  (name,) = config.names
  others = [n for n in plugins.names("sources") if n not in ("world", "built")]
  if name not in others:
    raise UserError(
      f"source {name} is quick to read as it is; build one of"
      f" {', '.join(others)}"
    )
  module, own = plugins.find("sources", name), {}
  tables = module.DATA.tables if hasattr(module, "DATA") else ()
  where = {"root", "path", *tables}  # where files lie is no part of them
  if hasattr(module, "Config"):
    given = config.own(name)
    for field in dataclasses.fields(given):
      value = line_maps.told_apart(field.name, getattr(given, field.name))
      if field.name not in where:
        own[field.name] = list(value) if isinstance(value, tuple) else value
  return {
    "source": config.source,
    "settings": own,
    "image_size": config.image_size,
    "fit": config.fit,
    "maps": {n: _noted(each) for n, each in config.modalities.items()},
  }


def suited(config: DataConfig) -> DataConfig:
  """The config with the size, the fit and the classes that were built."""
  folder = _folder(config)
  manifest = read_manifest(folder)
  maps = {name: {**config.maps.get(name, {}), **each}
          for name, each in manifest["maps"].items() if each}  # fmt: skip
  return dataclasses.replace(
    config,
    image_size=manifest["image_size"],
    fit=manifest["fit"],
    maps={**config.maps, **maps},
  )


def _noted(module) -> dict[str, Any]:
  """What a modality's stored numbers depend on: a class list, by its lines."""
  if not module.noted:
    return {}
  given = modalities.settings_in(module) or dataclasses.asdict(module.Config())
  noted = module.noted(given)
  return json.loads(json.dumps(noted))


def _opened(config: DataConfig) -> tuple[Path, dict[str, Any]]:
  """(folder, manifest); UserError where a run would read something else."""
  folder = _folder(config)
  manifest = read_manifest(folder)
  for name in ("image_size", "fit"):
    if manifest[name] != getattr(config, name):
      raise UserError(
        f"built: {folder} was built with {name} {manifest[name]}, and"
        f" config.data.{name} is {getattr(config, name)}; set it, or build"
        " another"
      )
  for name, module in config.modalities.items():
    before, now = manifest["maps"].get(name, {}), _noted(module)
    shown = any(
      [name] == each or name in each
      for split in manifest["splits"].values()
      for shard in split["shards"]
      for each in shard["maps"]
    )
    if shown and before != now:
      words = ", ".join(f"config.maps.{name}.{field}" for field in now)
      raise UserError(
        f"built: {folder} was built with another {words} than this run has; set"
        " it as it was, or build another"
      )
  return folder, manifest


def _folder(config: DataConfig) -> Path:
  """The folder that is set; UserError where it is none."""
  key = "config.data.settings.built.root"
  root = config.own("built").root
  if not root:
    raise UserError(
      f"config.data.source={config.source} reads a folder and {key} names"
      f" none; build one: {BUILD} FOLDER, and set --{key}=FOLDER"
    )
  return Path(os.path.expanduser(root)).absolute() / config.argument


def read_manifest(folder: Path) -> dict[str, Any]:
  """The manifest of a built folder; UserError where it is none, or half."""
  path = folder / shards.MANIFEST
  if not path.exists():
    said = "is no folder" if not folder.is_dir() else "holds no built set"
    if (folder / shards.PLAN).exists():
      said = "is not built to its end; run its command again"
    raise UserError(f"built: {folder} {said}: {BUILD} {folder}")
  manifest = read_json(path)
  version = [manifest.get("version"), manifest.get("record")]
  if version != [shards.LAYOUT, sample.VERSION]:
    raise UserError(
      f"built: {folder} has layout {version}, this code reads"
      f" {[shards.LAYOUT, sample.VERSION]}; {shards.REBUILD}"
    )
  try:
    _check(manifest)
  except DAMAGED as error:
    raise UserError(f"built: {path} is damaged; {shards.REBUILD}") from error
  return manifest


def _check(manifest: dict[str, Any]) -> None:
  """Raises one of `DAMAGED` where a manifest is not as build writes it.

  A shard's name is that of its place: it may come from others and name no file
  outside of its folder.
  """
  _ = manifest["source"], manifest["image_size"], manifest["fit"]
  _ = [each.items() for each in manifest["maps"].values()]
  if not manifest["splits"]:
    raise ValueError("no split")
  for split, facts in manifest["splits"].items():
    _, total = len(facts["bad"]), len(facts["shards"])
    for number, shard in enumerate(facts["shards"]):
      name, kinds = ShardJob(split, number, total, 0, 0).name, shard["kinds"]
      if split not in splits.NAMES or shard["name"] != name:
        raise ValueError("a shard of another name")
      if not set(kinds) <= set(range(len(shard["maps"]))):
        raise ValueError("a kind that is none")
      if shard["count"] != len(kinds):
        raise ValueError("another count")
      _ = shard["digest"]
      for ending in (shards.RECORDS, shards.QUESTIONS):
        size, _ = shard[ending]
        _ = f"{size:,}"


def read_json(path: Path) -> dict[str, Any]:
  """A JSON object; UserError where it is damaged."""
  try:
    found = json.loads(path.read_text("utf-8"))
    _ = found["splits"], found["version"]
  except (OSError, *DAMAGED) as error:
    raise UserError(f"built: {path} is damaged; {shards.REBUILD}") from error
  return found
