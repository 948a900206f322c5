"""Checks of settings that select what a stage learns from.

A family that nobody asks or more scenes than there are would be found out when
the stage begins, hours after those before it.
"""

from ml_collections import ConfigDict

from cooper_jax.errors import UserError

# Settings that name question families, by stage.
NAMING = {
  "pretrain": ("families",),
  "sft": ("families", "direct_families"),
  "grpo": ("families",),
}


def check(config: ConfigDict) -> None:
  """Raises UserError for what the settings alone tell."""
  if "sft" in config.pipeline:
    _check_scenes(config)
  if config.data.source == "world":
    from cooper_jax.world.questions import families

    _check_named(config, families.names())
  _check_lengths(config)
  if "pretrain" in config.pipeline:
    _check_exchanged(config)
  if "sft" in config.pipeline:
    _check_direct(config)


def check_data(config: ConfigDict) -> None:
  """Raises UserError for what only the training split tells."""
  from cooper_jax.data import mixture, selection
  from cooper_jax.data.sources import DataConfig
  from cooper_jax.rollouts import lengths
  from cooper_jax.world.questions import families

  data = DataConfig.from_config(config)
  rendered = config.data.source == "world"  # then `check` knows their number
  if "sft" in config.pipeline and config.sft.scenes and not rendered:
    selection.first(mixture.open_split(data, "train"), config.sft.scenes)
  if not any(named for _, named in _naming(config)):
    return
  known = [each.question.family for each in lengths.of_split(data, "train")]
  if "world" in data.names:
    known += families.names()  # not all of them are the longest there are
  _check_named(config, sorted({*known}))


def _naming(config):
  """(setting, families) of the stages that are run."""
  for stage, names in NAMING.items():
    if stage in config.pipeline:
      for name in names:
        yield f"config.{stage}.{name}", config[stage][name]


def _check_named(config, known) -> None:
  from cooper_jax.data import selection

  for setting, named in _naming(config):
    selection.check_families(setting, named, known)


def _check_scenes(config) -> None:
  """As many scenes as there are, as far as the settings tell."""
  from cooper_jax.data import selection

  source, count = config.data.source, config.sft.scenes
  there = config.data.train_scenes if source == "world" else count
  selection.check_scenes(count, there, sources=len(source.split(",")))


def _check_exchanged(config) -> None:
  """No map of the image itself stands beside those of another."""
  for name in ("counterfactual", "single_object"):
    share = config.pretrain[name]
    if config.pretrain.exchanged_maps and share:
      raise UserError(
        "config.pretrain.exchanged_maps gives each image the maps of another,"
        f" and config.pretrain.{name}={share} shows its own; set {name} to 0,"
        " in the run that this one is compared with, too"
      )


def _check_direct(config) -> None:
  """Families that are answered at once are asked at all."""
  asked = config.sft.families
  for family in config.sft.direct_families:
    if asked and family not in asked:
      raise UserError(
        f'config.sft.direct_families names "{family}", which'
        f" config.sft.families leaves out ({', '.join(asked)}); add it there,"
        " or take it out here"
      )


def _check_lengths(config) -> None:
  """No family is named whose questions `without_lengths` leaves out."""
  if not config.pretrain.without_lengths:
    return
  from cooper_jax.world.questions import families

  measured = families.where(lambda family: "depth" in family.NEEDS)
  named = [f for f in config.pretrain.families if f in measured]
  if named:
    raise UserError(
      f'config.pretrain.families names "{named[0]}", whose traces tell lengths,'
      " and config.pretrain.without_lengths leaves these out; take it out, or"
      " set without_lengths to False"
    )
