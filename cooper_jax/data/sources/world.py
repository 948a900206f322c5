"""The embedded world: rendered rooms with exact maps, cached on disk."""

import functools
import pathlib

from cooper_jax.data.sources import DataConfig, Source
from cooper_jax.errors import UserError, nearest
from cooper_jax.sample import Question
from cooper_jax.world import cache
from cooper_jax.world.config import SPLITS

MAPS = ("depth", "segmentation")


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
  return _in_memory(path) if config.in_memory else cache.CachedSource(path)


# No question and no trace takes more tokens than these: the grammar of the
# world ends here, and nothing has to be rendered to know it.
LONGEST = {
  "viewpoint": (
    "Standing at the red box looking at the red can , is the red ball left or"
    " right ?",
    "red box <at .5 .5> 1.0 m ; red can <at .5 .5> 1.0 m ; red ball <at .5 .5>"
    " 1.0 m",
    "left",
  ),
  "nearer_to": (
    "Which has less distance to the red box , the red can or the red ball ?",
    "red box <at .5 .5> 1.0 m ; red can <at .5 .5> 1.0 m ; red ball <at .5 .5>"
    " 1.0 m ; 1.0 m ; 1.0 m ; farther",
    "red ball",
  ),
}


def asked(config: DataConfig, split: str):
  """Yields the longest questions that the world has, as of any split."""
  del config
  for family, (text, reasoning, answer) in LONGEST.items():
    question = Question(
      family, text, answer, "choice", needs=MAPS, reasoning=reasoning
    )
    yield question, f"the world's {split} split", MAPS


@functools.lru_cache(maxsize=4)
def _in_memory(path: pathlib.Path) -> cache.MemorySource:
  """Decoded once for all stages of a run."""
  cached = cache.CachedSource(path)
  return cache.MemorySource(cache.load_arrays(cached), repr(cached))
