"""Checks between settings, made before anything is built.

A wrong setting costs a second here and hours at the stage that would find it.
"""

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

from cooper_jax import modalities, plugins
from cooper_jax.data import fitting
from cooper_jax.errors import UserError, nearest
from cooper_jax.settings import adapting, ranges, reinforcing, selection
from cooper_jax.training import (
  precision,
  stage_settings,
  start_folders,
  trackers,
  workdir,
)

STARTS = ("sft", "pretrain")


def validate(config: ConfigDict) -> None:
  """Raises UserError, which names the setting, where one does not hold."""
  if not config.pipeline:
    raise UserError("config.pipeline is empty; name at least one stage")
  for stage in config.pipeline:
    plugins.check("stages", stage)
  _check_plugins(config)
  _check_order(config)
  precision.check(config.precision)
  trackers.check(config.trackers)
  ranges.check(config)
  size, patch = config.data.image_size, config.model.vision.patch
  merge = config.model.vision.merge
  if size % (patch * max(merge, 1)):
    times = f", of which {merge} x {merge} merge into a cell" if merge else ""
    also = " times config.model.vision.merge" if merge else ""
    raise UserError(
      f"image size {size} is not divisible by the patch {patch}{times}; set "
      f"config.data.image_size to a multiple of config.model.vision.patch{also}"
    )
  modalities.of(config)
  fitting.check(config.data.fit)
  _check_data(config)
  _check_shapes(config)
  _check_reading(config)
  selection.check(config)
  adapting.check(config)
  if "grpo" in config.pipeline:
    reinforcing.check(config)
  if config.init_from or config.init_as != "sft":
    _check_start(config)

  from cooper_jax.training.optim import OptimConfig

  for stage in config.pipeline:
    if "optim" in config[stage]:
      try:
        made = OptimConfig(**config[stage].optim)
      except UserError as error:
        raise UserError(f"config.{stage}.{error}") from error
      batch = config[stage].batch if "batch" in config[stage] else 0
      if batch % made.micro_batches:
        raise UserError(
          f"config.{stage}.batch is {batch}, which"
          f" config.{stage}.optim.micro_batches={made.micro_batches} can't"
          " divide evenly; make it a divisor"
        )


def _check_order(config: ConfigDict) -> None:
  """Nothing named twice, and no stage before one that it begins with."""
  for name, what, named in (
    ("pipeline", "stage", config.pipeline),
    ("modalities", "modality", config.modalities),
    ("data.source", "source", config.data.source.split(",")),
    ("evaluate.benchmarks", "benchmark", config.evaluate.benchmarks),
  ):
    if len({each.strip() for each in named}) != len(named):
      raise UserError(f"config.{name} names a {what} twice: {', '.join(named)}")
  known = [
    stage for stage in config.pipeline if stage in stage_settings.SECTIONS
  ]
  right = sorted(known, key=list(stage_settings.SECTIONS).index)
  if known != right:
    raise UserError(
      f"config.pipeline is {', '.join(known)}; a stage begins with what those"
      f" before it made, allowed: {', '.join(right)}"
    )


def _check_data(config: ConfigDict) -> None:
  """Sources that can be opened, and nothing set that no source reads."""
  from cooper_jax.data.sources import DataConfig

  made, data = DataConfig.from_config(config), config.data
  names = made.names
  for source, own in made.settings.items():
    for field in dataclasses.fields(own):
      value = getattr(own, field.name)
      if source not in names and value != getattr(type(own)(), field.name):
        raise UserError(
          f"config.data.settings.{source}.{field.name} is {value} and"
          f" config.data.source={data.source} does not read it; set"
          f" --config.data.source={source}, or {data.source},{source} to read"
          " both"
        )
  for name, part in made.parts:
    module = plugins.find("sources", name)
    if hasattr(module, "check"):
      module.check(part)
  if data.weights and len(data.weights) != len(names):
    raise UserError(
      f"config.data.source names {len(names)} sources and config.data.weights"
      f" {len(data.weights)} weights; give one each, or () for equal shares"
    )


def _check_shapes(config: ConfigDict) -> None:
  """Sizes of the model that go together, as far as numbers tell.

  What only building it tells is seen before the first stage (plan/fit.py).
  """
  from cooper_jax.models.config import ModelConfig, VisionConfig

  fields = dict(config.model)
  vision = fields.pop("vision")
  ModelConfig(
    **fields,
    text=1,
    codes=1,
    vision=VisionConfig(
      **vision,
      image_size=config.data.image_size,
      shapes=fitting.shapes(config.data.fit),
    ),
  )
  twice = 2 * config.model.map_grid
  pixels = config.data.image_size
  if pixels % twice:
    mend = f"make the size a multiple of {twice}, twice the grid"
    if "vision" in start_folders.folders(config):  # the size is the tower's
      most = pixels // config.model.vision.patch
      fits = [n for n in range(1, most + 1) if not pixels % (2 * n)]
      mend = f"allowed with this tower: {', '.join(map(str, fits)) or 'none'}"
    raise UserError(
      f"config.model.map_grid={config.model.map_grid} can't divide images of"
      f" config.data.image_size={pixels} pixels; {mend}"
    )
  if not config.tokenizer.network.levels:
    raise UserError(
      "config.tokenizer.network.levels is (); name a level, as in (8, 5, 5, 5)"
    )
  if not config.sampling.prompt_buckets:
    raise UserError(
      "config.sampling.prompt_buckets is (); name a length, as in (96, 160)"
    )


def check_ahead(config: ConfigDict, folder, mesh) -> None:
  """Raises UserError where a stage that is to be run in a workdir can't be."""
  from cooper_jax import package
  from cooper_jax.parallel.mesh import check_batches
  from cooper_jax.plan import fit
  from cooper_jax.rl import build
  from cooper_jax.rollouts import lengths

  if "grpo" in config.pipeline:
    build.check_processes(config)
  fit.check(config, config.pipeline)
  came = package.replaced(config) if config.init_from else ()
  ahead = [
    stage
    for stage in config.pipeline
    if stage not in came and not workdir.is_finished(config, folder, stage)
  ]
  adapting.check_begin(config, ahead)
  trained = [s for s in ahead if s in ("tokenizer", "pretrain", "sft")]
  check_batches(mesh, {s: config[s].batch for s in trained})
  lengths.check(config, ahead)


def check_data(asked) -> list[str]:
  """Lines of the plan on the data; [] where no stage is left to read it.

  asked: config and workdir. Raises UserError where a file that the data names
  can't be read.
  """
  from cooper_jax.data import mixture
  from cooper_jax.data.sources import DataConfig

  config, folder = asked.config, Path(asked.workdir).expanduser()
  if all(workdir.is_finished(config, folder, s) for s in config.pipeline):
    return []
  data = DataConfig.from_config(config)
  lines = mixture.survey(data)
  mixture.check_ids(data)
  return lines + selection.check_data(config)


def _check_reading(config: ConfigDict) -> None:
  """Maps that are shown to be read, a model that can, and whose map."""
  given = config.pretrain.map_context
  if given and not config.model.map_lookup:
    raise UserError(
      f"config.pretrain.map_context is {given}, and the model can't read maps"
      " that are not in the row; set config.model.map_lookup=True, or"
      " map_context to 0"
    )
  share = config.pretrain.counterfactual
  if share and not given:
    raise UserError(
      f"config.pretrain.counterfactual is {share}, a share of the maps in a"
      " text's context, and config.pretrain.map_context is 0; raise it"
    )
  modality, known = config.sft.lengths_need_map, config.modalities
  if modality and modality not in known:
    raise UserError(
      f'config.sft.lengths_need_map is "{modality}"; allowed: "" or a map that'
      f" traces draw ({', '.join(known)}){nearest(modality, known)}"
    )


def _check_start(config: ConfigDict) -> None:
  """A package that is there, fits, and has a place in the pipeline."""
  from cooper_jax import package

  if config.init_as not in STARTS:
    raise UserError(
      f'config.init_as is "{config.init_as}"; allowed: '
      f"{', '.join(STARTS)}{nearest(config.init_as, STARTS)}"
    )
  if not config.init_from:
    raise UserError(
      f"config.init_as={config.init_as} says what a package stands for, and"
      " none is named; set config.init_from, to tiny or a folder"
    )
  if config.init_as not in config.pipeline:
    raise UserError(
      f"config.init_from stands for {config.init_as}, which config.pipeline has"
      " not; add it, or set config.init_as to a stage that it has"
    )
  package.check(config, package.find(config.init_from))


def _check_plugins(config: ConfigDict) -> None:
  if not config.modalities:
    raise UserError(
      "config.modalities is empty; name at least one modality (a map that the"
      " data lacks is not asked for: data without maps needs no change here)"
    )
  for kind, names in (
    ("modalities", config.modalities),
    ("rewards", config.grpo.rl.rewards),
    ("sources", [s.partition(":")[0] for s in config.data.source.split(",")]),
    ("benchmarks", config.evaluate.benchmarks),
  ):
    for name in names:
      plugins.check(kind, name.strip())
