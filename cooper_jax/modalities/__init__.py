"""Modalities: what can be drawn, one per file, found by its file name.

A modality module says what calls for its map, how a file of one is read, and
how a map is put into numbers for the tokenizer, taken back out, scored and
shown. Beside this folder only the rendered world and the configs name one (a
test looks for that), so that one file here is tokenized, pretrained, reasoned
with, rewarded, evaluated, read from own data and shown. `MODALITY_ID` fixes the
special tokens that its map opens and closes with, and the order in which
modalities are drawn.

The contract is the names in `REQUIRED` and what `OPTIONAL` says of the rest.
A module that leaves out an optional name gets its default when it is found.

What depends on the data (how far depth reaches, which classes there are) are
fields of a module's frozen `Config`, each with a default:
`config.maps.<modality>.<field>` of a run. Its functions that need them have a
parameter `config`, which `of` fills in: modules are used as `of` gives them.
"""

import dataclasses
import functools
import inspect
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cooper_jax import plugins
from cooper_jax.errors import UserError

REQUIRED = (
  "MODALITY_ID",
  "TITLE",  # in tables, and as pretraining asks for the map
  "CALL",  # the thought that calls for the map: "measure the depth"
  "CHANNELS",  # of `to_input`
  "OUTPUTS",  # of what `loss` and `from_output` take
  "read_file",  # read_file(file) -> [h, w, ...]; file: data/map_files.py
  "to_input",  # to_input(targets [B, H, W, ...]) -> [B, H, W, CHANNELS]
  "loss",  # loss(outputs [B, H, W, OUTPUTS], targets) -> (sum, weight)
  "from_output",  # from_output(outputs) -> targets
  "statistics",  # statistics(drawn, true, objects) -> sums that add up
  "metrics",  # metrics(sums) -> {name: value}, for tables and summary.json
  "constant",  # constant(targets) -> the best map that is always the same
  "quality",  # quality(drawn, true) -> reward of one map in [0, 1], NaN = none
  "picture",  # picture(map) -> u8 [H, W, 3]
)
OPTIONAL = {
  "Config": "a frozen dataclass of what `config.maps.<name>` may set; hashable;"
  " default none. A function `check(config)` refuses what can't be",
  "sizes": "sizes(config) -> (CHANNELS, OUTPUTS) where they depend on it;"
  " default as they stand",
  "noted": "noted(settings, begins=False) -> {field: value}: what files that"
  " settings name hold, noted as a run begins; default nothing",
  "facts": "facts(config) -> {name: number}: what the metrics are over, for"
  " summary.json; default nothing",
  "renumber": "renumber(names) -> the id here of each name of another list [n],"
  " None where they are the same; default None",
  "absent": "absent() -> the value where a map shows one object alone and it"
  " is not; default 0",
  "convert": "convert(numbers, file) -> the map of the numbers [h, w] of a"
  " file, as `read_file` makes it of those that it opens; default none: no"
  " source that has files of its own kind gives it",
  "to_colours": "to_colours(targets) -> pictures [B, H, W, 3] in [-1, 1], that"
  " image tokenizers of others take; default none: they don't draw it",
  "from_colours": "from_colours(pictures) -> targets, the inverse",
  "describe": "describe(map) -> (key, JSON value) of one map, for data/show.py;"
  " default nothing",
  "fill": "fill() -> the value of a pixel that is in no picture, where"
  " `data.fit` pads; default 0",
  "REQUEST": "what pretraining asks for by name; default TITLE",
  "NOUN": 'the map in a caption, "true depth"; default TITLE in lower case',
  "HEADLINE": "(metric, title, sentence) of the report's top; default none",
  "SCALED": "whether a JSONL line may say <name>_scale, the units in which a"
  " file counts; default False",
  "MARKS": "share of the tokenizer's maps that show one object alone; one"
  " modality may have it, and is asked to mark objects; default 0",
  "read": "read(sample) -> the map or None; default sample.maps.get(name)",
  "check_files": "check_files(files, strict): files of a data set together;"
  " default nothing",
  "summarize": "summarize(map) -> what an overview of own data needs of a map;"
  " default nothing",
  "overview": "overview(summaries) -> (title, JSON value, words) of them all;"
  " default nothing",
  "panels": "panels(true, drawn) -> [(caption, picture)], first of the true and"
  " the drawn map; a picture is None where its map is; default these two",
  "legend": "legend(maps) -> [(colour, name)] of what maps show; default none",
  "scale": "scale(maps) -> the Scale of a bar for all these maps; default None",
  "scales": "scales() -> [(name, u8 colours [n, 3], words)] of the colours that"
  " `panels` uses; default none",
  "move": "move(map, instances, steps) -> the map with objects moved nearer or"
  " farther (data/counterfactual.py); one modality may have it; default none",
  "corrupt": "corrupt(map, rng) -> a wrong map that looks like one; default"
  " none: training shows the map of another image",
}


class Scale(NamedTuple):
  """A colour bar: what its colours stand for, from `low` to `high`."""

  name: str  # one of `scales`
  colours: np.ndarray  # u8 [n, 3]
  low: float
  high: float
  unit: str
  ticks: list[tuple[str, float]]  # text, share of the bar


def found() -> dict[str, types.ModuleType]:
  """All modalities that there are, in the order of their MODALITY_ID."""
  return _found(tuple(__path__))


@functools.cache
def _found(folders) -> dict[str, types.ModuleType]:
  del folders  # part of the key
  every = [
    (n, plugins.find("modalities", n)) for n in plugins.names("modalities")
  ]
  return dict(sorted(every, key=lambda each: each[1].MODALITY_ID))


def names() -> tuple[str, ...]:
  """The names of all modalities, in the order of their MODALITY_ID."""
  return tuple(found())


@dataclasses.dataclass(frozen=True)
class SetUp:
  """A modality with settings of its own: its functions know them.

  Equal where name and settings are, so that jit may take it as static.
  """

  name: str
  config: Any

  def __getattr__(self, part: str):
    if part.startswith("__"):  # of pickle and copy: not the module's
      raise AttributeError(part)
    module = plugins.find("modalities", self.name)
    if part in ("CHANNELS", "OUTPUTS"):
      return module.sizes(self.config)[part == "OUTPUTS"]
    found = getattr(module, part)
    return _knowing(found, self.config) if callable(found) else found


def _knowing(function, config):
  """A function that is given the settings, where it asks for them."""
  try:
    asks = "config" in inspect.signature(function).parameters
  except ValueError:  # of C
    return function
  return functools.partial(function, config=config) if asks else function


def set_up(name: str, given: Any = None):
  """A modality with settings: its module itself where none differ.

  given: its `Config`, or a mapping of some of its fields.
  Raises UserError that names the setting that is wrong.
  """
  module = plugins.find("modalities", name)
  if module.Config is None or not given:
    return module
  if isinstance(given, Mapping) or hasattr(given, "to_dict"):
    fields = {
      k: tuple(v) if isinstance(v, list) else v for k, v in dict(given).items()
    }
    try:
      given = module.Config(**fields)
      if module.noted:  # now, for what a file holds may change
        settings = dataclasses.asdict(given)
        given = dataclasses.replace(given, **module.noted(settings))
      if hasattr(module, "check"):
        module.check(given)
    except (TypeError, UserError) as error:
      raise UserError(f"config.maps.{name}: {error}") from error
  return module if given == module.Config() else SetUp(name, given)


def of(config) -> dict[str, Any]:
  """Every modality there is as a run's config sets it up, by MODALITY_ID."""
  given = config.get("maps", {})
  return {name: set_up(name, given.get(name)) for name in names()}


def note(config) -> None:
  """Notes in a run's config what the files that its maps name hold."""
  for name, module in found().items():
    if module.noted and name in config.get("maps", {}):
      try:
        new = module.noted(config.maps[name], begins=True)
      except UserError as error:
        raise UserError(f"config.maps.{name}: {error}") from error
      config.maps[name].update(new)


def default_settings() -> dict[str, Any]:
  """Modality -> its Config as it stands, of those that have one."""
  return {
    name: module.Config() for name, module in found().items() if module.Config
  }


def settings_in(module) -> dict[str, Any]:
  """The settings of a modality as `set_up` gave it, {} where none differ."""
  if not isinstance(module, SetUp):
    return {}
  return dataclasses.asdict(module.config)


def having(part: str) -> str:
  """The first modality whose optional `part` is set, "" without one."""
  every = found().items()
  return next((name for name, module in every if getattr(module, part)), "")


def complete(module) -> None:
  """Gives a modality the default of each optional name that it leaves out."""
  name = module.__name__.rpartition(".")[2]
  missing = [part for part in REQUIRED if not hasattr(module, part)]
  if missing:
    raise UserError(
      f"modality {name} has no {', '.join(missing)}; the contract is in"
      " cooper_jax/modalities/__init__.py"
    )
  defaults = {
    "REQUEST": module.TITLE,
    "NOUN": module.TITLE.lower(),
    "SCALED": False,
    "sizes": lambda config: (module.CHANNELS, module.OUTPUTS),
    "facts": lambda: {},
    "fill": lambda: 0,
    "absent": lambda: 0,
    "renumber": lambda names: None,
    "MARKS": 0.0,
    "read": lambda sample: sample.maps.get(name),
    "panels": functools.partial(_panels, module),
    "legend": lambda maps: [],
    "scale": lambda maps: None,
    "scales": list,
    "check_files": lambda files, strict: None,
    "describe": lambda target: (name, None),
    "summarize": lambda target: None,
    "overview": lambda found: (name, {}, ""),
  }
  for part in OPTIONAL:
    if not hasattr(module, part):
      setattr(module, part, defaults.get(part))


def _panels(module, true, drawn):
  """The true and the drawn map."""
  return [
    (f"{kind} {module.NOUN}", None if m is None else module.picture(m))
    for kind, m in (("true", true), ("drawn", drawn))
  ]


def only(target, instances, instance: int, absent=0):
  """The map [H, W, ...] of one instance alone, all else `absent`.

  absent: the modality's value of what is not there (its `absent()`).
  """
  chosen = instances == instance
  chosen = chosen.reshape(chosen.shape + (1,) * (target.ndim - chosen.ndim))
  return np.where(chosen, target, np.asarray(absent, target.dtype))
