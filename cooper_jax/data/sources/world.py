"""The embedded world: rendered rooms with exact maps, cached on disk."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cooper_jax import modalities
from cooper_jax.data.sources import DataConfig, Source
from cooper_jax.errors import UserError, nearest
from cooper_jax.sample import Question, Sample
from cooper_jax.world import cache
from cooper_jax.world.config import SPLITS
from cooper_jax.world.questions import families


def source(config: DataConfig, split: str) -> Source:
  """Rendered scenes of a split; renders them on the first call."""
  if split not in SPLITS:
    raise UserError(
      f"the world has no split {split!r}; there are {', '.join(SPLITS)}"
      f"{nearest(split, SPLITS)}"
    )
  if config.world is None:
    raise UserError("source 'world' needs a config.world section")
  if config.world.image_size != config.image_size:
    raise UserError(
      f"config.world.image_size is {config.world.image_size}, "
      f"config.data.image_size is {config.image_size}; make them equal"
    )
  path = cache.build(
    config.world,
    split=split,
    count=getattr(config, f"{split}_scenes"),
    root=config.cache,
    workers=config.workers or None,
  )
  found = _in_memory(path) if config.in_memory else cache.CachedSource(path)
  tables = {
    name: table
    for name, names in cache.CLASS_NAMES.items()
    if (table := config.modalities[name].renumber(names)) is not None
  }
  return Renumbered(found, tables) if tables else found


@dataclasses.dataclass(frozen=True)
class Renumbered:
  """Rendered scenes with the class ids of a run's own list.

  tables: by modality, the new id of each [n].
  """

  scenes: Any
  tables: Mapping[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.scenes)

  def __getitem__(self, index: int) -> Sample:
    sample = self.scenes[index]
    maps = {name: t[sample.maps[name]] for name, t in self.tables.items()}
    return dataclasses.replace(sample, maps={**sample.maps, **maps})

  def kind(self, index: int):
    """As the scenes have it."""
    return self.scenes.kind(index)

  def questions(self, index: int) -> tuple[Question, ...]:
    """A scene's questions alone."""
    return self.scenes.questions(index)

  def __repr__(self) -> str:
    ids = {name: table.tolist() for name, table in self.tables.items()}
    return f"Renumbered({self.scenes!r}, {ids})"


def _drawable() -> tuple[str, ...]:
  """The maps of a rendered scene that there is a modality for."""
  return tuple(name for name in modalities.names() if name in cache.MAPS)


def asked(config: DataConfig, split: str):
  """Yields the longest questions that the world has, as of any split.

  No question and no trace takes more tokens than those that the families name,
  so nothing has to be rendered to know it.
  """
  derive = config.world.derive if config and config.world else ()
  maps = _drawable()
  for name in families.where(lambda family: hasattr(family, "LONGEST")):
    family = families.find(name)
    longest = family.LONGEST
    if name in derive:
      longest = getattr(family, "LONGEST_DERIVED", longest)
    text, reasoning, answer = longest
    question = Question(
      name, text, answer, family.ANSWER_TYPE, needs=maps, reasoning=reasoning
    )
    yield question, f"the world's {split} split", maps


@functools.lru_cache(maxsize=4)
def _in_memory(path: pathlib.Path) -> cache.MemorySource:
  """Decoded once for all stages of a run."""
  cached = cache.CachedSource(path)
  return cache.MemorySource(
    cache.load_arrays(cached, maps=_drawable()), repr(cached)
  )
