"""Sources of samples, one per file: `source(config, split) -> Source`.

To add a dataset, add a file with that function.  It gets the `DataConfig`
below and the split's name, and returns an object with `len()` and `[index]`
that yields `Sample` records; it should fail with UserError at once when
something is missing, and be picklable for reading in worker processes.  Its
`repr` names the samples and, by a fingerprint (`data/fingerprints.py`), what
their files hold: codes of maps and a checkpoint's position are kept by it.

What only one source needs is a field of a frozen dataclass `Config` in its
file, each with a default: `config.data.settings.<source>.<field>` of a run,
`config.own("<source>")` in code.  A function `check(config)` refuses at
start-up what a default can't be.  The file is imported with the settings: what
takes long to import is imported where it is used.

A function `asked(config, split)`, which yields each question with its place and
the maps that it has, saves reading pictures to know how long questions are.
Where samples differ in the maps that they have, `kind(index)`, the same for
those that have the same maps, saves reading them all to know it; and
`questions(index)` saves reading pictures where questions alone are wanted, and
`cameras()`, whether any sample has one, to know that; by `ids()`, the id of
every sample in order, a mixture refuses two alike before any stage. A function
`survey(config) -> lines` beside `source` is called once, before any stage: it
says what there is, and raises UserError for what can't be read. For commands
that show data, `everything(config)` are the samples of every split and
`suited(config)` is the config with the size and classes that there are. What
stands behind a colon, as in `tfds:NAME`, is `config.argument`.

Data sets that people download are read where they were unpacked: such a source
is a `DataSet` of `data/data_sets.py`; `MAPS` in its file says which settings
of `config.maps` suit it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from cooper_jax import modalities, plugins
from cooper_jax.errors import UserError
from cooper_jax.sample import Sample
from cooper_jax.world.config import WorldConfig


class Source(Protocol):
  """Samples by index."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Sample: ...


def own_settings() -> dict[str, Any]:
  """Source -> its Config as it stands, where it has settings of its own."""
  sources = {n: plugins.find("sources", n) for n in plugins.names("sources")}
  return {n: m.Config() for n, m in sources.items() if hasattr(m, "Config")}


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What samples are made of and where they come from (`config.data`)."""

  # File in data/sources; several: "world,jsonl". Behind a colon is what some of
  # them take: "built:hypersim,tfds:nyu_depth_v2".
  source: str = "world"
  weights: tuple[float, ...] = ()  # share of each source; () = equal
  image_size: int = 64  # pixels a side, a multiple of the patch
  # What makes pictures square: squash | crop (the middle) | pad (all of it),
  # with other shapes beside as in "crop:48x80,80x48" (height x width).
  fit: str = "squash"
  # Whether a prompt begins with the focal length of its sample's camera.
  tell_lens: bool = False
  cache: str = ""  # folder of rendered worlds; "" = ~/.cache/cooper_jax
  in_memory: bool = False  # hold rendered worlds decoded in memory
  train_scenes: int = 4000  # scenes rendered for training
  validation_scenes: int = 256  # scenes rendered for validation
  test_scenes: int = 320  # scenes rendered for the test, of about 8 questions
  heldout_scenes: int = 320  # scenes of colour-shape pairs never trained on
  workers: int = 0  # processes that render; 0 = one per core
  bad_samples: float = 0.0  # share of unreadable samples to leave out
  # The Config of every source that has settings of its own.
  settings: Mapping[str, Any] = dataclasses.field(default_factory=own_settings)
  world: WorldConfig | None = None  # the WorldConfig (`config.world`)
  # Settings of modalities that are not as they stand (`config.maps`).
  maps: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def names(self) -> tuple[str, ...]:
    """The sources' names, without what stands behind a colon."""
    return tuple(_named(each)[0] for each in self.source.split(","))

  @property
  def argument(self) -> str:
    """What stands behind the colon of a source alone, "" without one."""
    return _named(self.source)[1]

  @property
  def parts(self) -> list[tuple[str, "DataConfig"]]:
    """Each source's name, with the config that the source gets.

    One with an argument is alone in it: its `argument` is its own.
    """
    return [
      (
        _named(each)[0],
        dataclasses.replace(self, source=each.strip()) if ":" in each else self,
      )
      for each in self.source.split(",")
    ]

  def own(self, source: str) -> Any:
    """The settings of one source: its `Config`, by default as it stands."""
    module = plugins.find("sources", source)
    return self.settings.get(source) or module.Config()

  @property
  def modalities(self) -> dict[str, Any]:
    """Every modality there is, as the run sets it up."""
    return {
      n: modalities.set_up(n, self.maps.get(n)) for n in modalities.names()
    }

  @classmethod
  def from_config(cls, config: Any) -> "DataConfig":
    """From a run's whole config: its `data` and `world` sections.

    Raises UserError that names the setting that is wrong.
    """
    size = config.data.image_size
    try:
      world = WorldConfig(**{**config.world, "image_size": size})
    except (TypeError, ValueError, UserError) as error:
      raise UserError(f"config.world: {error}") from error
    settings = {
      name: _made(name, given)
      for name, given in config.data.get("settings", {}).items()
    }
    try:
      data = {**config.data, "settings": settings}
      return cls(**data, world=world, maps=dict(config.get("maps", {})))
    except TypeError as error:
      raise UserError(f"config.data: {error}") from error


def _named(written: str) -> tuple[str, str]:
  """In: "tfds:nyu_depth_v2"   Out: ("tfds", "nyu_depth_v2")."""
  name, _, argument = written.strip().partition(":")
  return name, argument


def _made(name: str, given) -> Any:
  """A source's Config; UserError names the setting that is wrong."""
  try:
    return plugins.find("sources", name).Config(**given)
  except (TypeError, ValueError, UserError) as error:
    raise UserError(f"config.data.settings.{name}: {error}") from error
