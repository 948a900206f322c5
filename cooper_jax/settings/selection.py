"""Checks of settings that select what a stage learns from.

A family that nobody asks or more scenes than there are would be found out when
the stage begins, hours after those before it.
"""

from ml_collections import ConfigDict

from cooper_jax.errors import UserError, nearest
from cooper_jax.settings import ranges

# Settings that name question families, by stage.
NAMING = {
  "pretrain": ("families",),
  "sft": ("families", "direct_families"),
  "grpo": ("families",),
}
REPHRASED = "rephrased"  # the benchmark that asks in held-out words


def check(config: ConfigDict) -> None:
  """Raises UserError for what the settings alone tell."""
  _check_scenes(config)
  if config.data.source == "world":
    from cooper_jax.world.questions import families

    _check_named(config, families.names())
  _check_lengths(config)
  _check_sizes(config)
  _check_phrasings(config)
  _check_replacements(config)
  if "pretrain" in config.pipeline:
    _check_exchanged(config)
  if "sft" in config.pipeline:
    _check_direct(config)


def check_data(config: ConfigDict) -> list[str]:
  """Lines of the plan; UserError for what only the training split tells."""
  from cooper_jax.data import mixture, selection
  from cooper_jax.data.sources import DataConfig
  from cooper_jax.rollouts import lengths
  from cooper_jax.world.questions import families

  data = DataConfig.from_config(config)
  lines = []
  if data.tell_lens and "world" not in data.names:  # whose samples have one
    lines = _cameras(mixture.open_tolerant(data, "train"), data)
  if config.data.source != "world":  # else `check` knew their number
    for stage, name, select in (
      ("sft", "scenes", selection.first),
      ("grpo", "skip_scenes", selection.after),
    ):
      if stage in config.pipeline and config[stage][name]:
        select(mixture.open_split(data, "train"), config[stage][name])
  if not any(named for _, named in _naming(config)):
    return lines
  known = [each.question.family for each in lengths.of_split(data, "train")]
  if "world" in data.names:
    known += families.names()  # not all of them are the longest there are
  _check_named(config, sorted({*known}))
  return lines


def _cameras(source, data) -> list[str]:
  """A line where no image has a camera."""
  from cooper_jax.data import mixture

  if mixture.has_cameras(source):
    return []
  return [
    f"no image of {data.source} has a camera in the training split, so no"
    " prompt tells a lens (of a JSONL file: 'camera': [fx, fy, cx, cy])"
  ]


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

  names = config.data.source.split(",")
  there = config.data.train_scenes if names == ["world"] else ranges.LARGEST
  for stage, setting, count, most in (
    ("sft", selection.FIRST, config.sft.scenes, there),
    ("grpo", selection.SKIPPED, config.grpo.skip_scenes, there - 1),
  ):
    if stage in config.pipeline:
      selection.check_scenes(setting, count, most, sources=len(names))


def _check_phrasings(config) -> None:
  """Words that the world has, and that are no test of unseen ones any more."""
  from cooper_jax.data import selection

  world, heldout = config.data.source == "world", []
  for stage in selection.PHRASED:
    said = config[stage].phrasings
    if said not in selection.WORDS:
      raise UserError(
        f'config.{stage}.phrasings is "{said}"; allowed: '
        f"{', '.join(selection.WORDS)}{nearest(said, selection.WORDS)}"
      )
    if stage in config.pipeline and said == selection.HELDOUT_WORDS:
      heldout.append(f"config.{stage}.phrasings=heldout")
  for name in ("extra_counting", "extra_sizes"):
    if config.sft[name] and any("config.sft" in each for each in heldout):
      raise UserError(
        f"config.sft.{name}={config.sft[name]} adds questions in the usual"
        " words; set it to 0, or config.sft.phrasings=usual"
      )
  evaluated = "evaluate" in config.pipeline
  for asked, setting in (
    *((True, each) for each in heldout),
    (
      evaluated and REPHRASED in config.evaluate.benchmarks,
      f'benchmark "{REPHRASED}" of config.evaluate.benchmarks',
    ),
  ):
    if asked and not world:
      raise UserError(
        f"{setting} asks in the world's held-out words, and config.data.source"
        f" is {config.data.source}; set it to world"
      )
  if heldout and evaluated and config.evaluate.heldout_questions:
    raise UserError(
      f"{heldout[0]} trains on the words that the held-out"
      " split is the test of; set config.evaluate.heldout_questions=0 (the"
      f' benchmark "{REPHRASED}" asks test scenes in them), or phrasings=usual'
    )


def _check_replacements(config) -> None:
  """Maps that can be put in place, with the drawn one to compare them with."""
  from cooper_jax.eval.map_use import REPLACEMENTS

  named = config.evaluate.replacements
  for name in named:
    if name not in REPLACEMENTS:
      raise UserError(
        f'config.evaluate.replacements names "{name}"; allowed:'
        f" {', '.join(REPLACEMENTS)}{nearest(name, REPLACEMENTS)}"
      )
  usual = ("own", "other", "true")
  if not {*usual} <= {*named}:
    raise UserError(
      f"config.evaluate.replacements is {', '.join(named) or '()'}; others are"
      f" measured beside {', '.join(usual)}: name these three, too"
    )


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


def _check_sizes(config) -> None:
  """Families that questions of sizes are added of are named, where they are."""
  from cooper_jax import plugins

  stages = [
    stage
    for stage in ("pretrain", "sft")
    if stage in config.pipeline and config[stage].extra_sizes
  ]
  able = [
    name
    for name in plugins.names("families")
    if hasattr(plugins.find("families", name), "SIZE")
  ]
  if stages and not {*able} & {*config.world.derive}:
    setting = f"config.{stages[0]}.extra_sizes"
    raise UserError(
      f"{setting}={config[stages[0]].extra_sizes} adds questions of the"
      f" families {' and '.join(able)} that config.world.derive names, and it"
      f" names neither; name one, or set {setting} to 0"
    )


def _check_lengths(config) -> None:
  """No family is named whose questions `without_lengths` leaves out."""
  if not config.pretrain.without_lengths:
    return
  from cooper_jax.data import counterfactual
  from cooper_jax.world.questions import families

  read_off = counterfactual.changeable()
  derive = config.world.derive
  named = [
    name
    for name in config.pretrain.families
    if name in families.names() and read_off in families.needs(name, derive)
  ]
  if named:
    raise UserError(
      f'config.pretrain.families names "{named[0]}", whose traces tell lengths,'
      " and config.pretrain.without_lengths leaves these out; take it out, or"
      " set without_lengths to False"
    )
