"""Mixture of sources: one stream of samples, to which each gives its share.

A mixture is deterministic: the k-th sample is a function of the sources, the
weights and the seed alone, so a run continues anywhere.  Each source has its
own shuffle and is repeated; over any stretch its share is exact to one sample.
"""

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from cooper_jax import plugins
from cooper_jax.data.sources import DataConfig, Source
from cooper_jax.errors import UserError
from cooper_jax.sample import Question, Sample

SEEDS = 1 << 31  # grain's seeds are 32 bits
MOST_NAMED = 20  # bad samples that are named


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Sources with positive weights; `weights` need not sum to one."""

  sources: tuple[Source, ...]
  weights: tuple[float, ...] = ()  # () = equal shares

  def __post_init__(self):
    if not self.weights:
      object.__setattr__(self, "weights", (1.0,) * len(self.sources))
    if not self.sources or len(self.weights) != len(self.sources):
      raise UserError(
        f"{len(self.sources)} data sources and {len(self.weights)} weights; "
        "give one weight for each source in config.data.weights"
      )
    for weight in self.weights:
      if not (math.isfinite(weight) and weight > 0):
        raise UserError(
          f"data weight {weight} is not positive; leave a source that should "
          "not be read out of config.data.source"
        )

  def __len__(self) -> int:
    return sum(len(source) for source in self.sources)

  def __getitem__(self, index: int) -> Sample:
    """The sources one after the other: for reading all, weights aside."""
    for source in self.sources:
      if index < len(source):
        return source[index]
      index -= len(source)
    raise IndexError(index)

  def draw_index(self, rng) -> int:
    """An index at random: of a source by its weight, all of it alike likely."""
    sizes = np.array([len(source) for source in self.sources])
    share = np.where(sizes > 0, self.weights, 0.0)
    number = int(rng.choice(len(share), p=share / share.sum()))
    return int(sizes[:number].sum() + rng.integers(sizes[number]))

  def kind(self, index: int):
    """Samples of one kind have the same maps: whose they are, and their kind.

    Those of a source that does not say are a kind each.
    """
    for number, source in enumerate(self.sources):
      if index < len(source):
        own = source.kind(index) if hasattr(source, "kind") else index
        return number, own
      index -= len(source)
    raise IndexError(index)

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions alone."""
    for source in self.sources:
      if index < len(source):
        return questions_of(source, index)
      index -= len(source)
    raise IndexError(index)

  def cameras(self) -> bool:
    """Whether any sample of any source has a camera."""
    return any(map(has_cameras, self.sources))

  def __repr__(self) -> str:
    shares = ", ".join(
      f"{source!r}: {weight:g}"
      for source, weight in zip(self.sources, self.weights, strict=True)
    )
    return f"Mixture({shares})"


def draw_index(source: Source | Mixture, rng) -> int:
  """An index of a source at random, of a mixture by its weights.

  rng: numpy's Generator. A source may have a method `draw_index(rng)`.
  """
  if hasattr(source, "draw_index"):
    return source.draw_index(rng)
  return int(rng.integers(len(source)))


def questions_of(source: Source | Mixture, index: int) -> tuple[Question, ...]:
  """A sample's questions; its pictures are read only if there is no other way.

  A source may have a method `questions(index)`.
  """
  if hasattr(source, "questions"):
    return source.questions(index)
  return source[index].questions


def has_cameras(source: Source | Mixture) -> bool:
  """Whether any sample has a camera; all are read if there is no other way.

  A source may have a method `cameras()`.
  """
  if hasattr(source, "cameras"):
    return source.cameras()
  return any(sample.camera is not None for sample in readable(source))


def parts_of(source: Source | Mixture) -> tuple[Source, ...]:
  """The sources of a mixture, or the one that it is."""
  return source.sources if isinstance(source, Mixture) else (source,)


def open_split(config: DataConfig, split: str) -> Source | Mixture:
  """The configured source of a split, or the mixture of several."""
  for name in config.names:
    plugins.check("sources", name)
  opened = [
    plugins.find("sources", name).source(own, split)
    for name, own in config.parts
  ]
  if len(opened) == 1 and len(config.weights) <= 1:
    return opened[0]
  return Mixture(tuple(opened), tuple(config.weights))


def open_tolerant(config: DataConfig, split: str) -> Source | Mixture:
  """The same; a sample that can't be read is None, as far as some may be."""
  return tolerant(open_split(config, split), config.bad_samples)


def readable(source: Source | Mixture) -> Iterator[Sample]:
  """Yields the samples of what `open_tolerant` opened, but the bad ones."""
  for index in range(len(source)):
    if (sample := source[index]) is not None:
      yield sample


def survey(config: DataConfig) -> list[str]:
  """What a run's plan says of its data, of each source that has it looked at.

  Raises UserError where something is wrong with it.
  """
  lines = []
  for name, own in config.parts:
    module = plugins.find("sources", name)
    if hasattr(module, "survey"):
      lines += module.survey(own)
  return lines


def check_ids(config: DataConfig) -> None:
  """Raises UserError where a mixture has two samples of one id in training.

  Of sources that have a method `ids()`, which opens no picture; of the others
  it is seen as their maps are encoded. The world, whose ids are its own, is
  not rendered for it.
  """
  if len(config.parts) < 2:
    return
  of: dict[str, Source] = {}
  for name, own in config.parts:
    if name == "world":
      continue
    source = plugins.find("sources", name).source(own, "train")
    for one in source.ids() if hasattr(source, "ids") else ():
      if one in of:
        raise same_id(one, f"{of[one]!r} and {source!r}")
      of[one] = source


def same_id(one: str, where: str) -> UserError:
  """The error of an id that two samples have."""
  return UserError(
    f"{where}: two samples have the id {one!r}, by which maps are kept; give"
    " each its own, in all files of a mixture"
  )


def dataset(
  source: Source | Mixture, *, seed: int, shuffle: bool, epochs: int | None
) -> grain.MapDataset:
  """Samples in the order of reading; `epochs` None repeats for ever.

  A shuffled source has another order in each epoch.
  """
  if len(source) == 0:
    raise UserError(f"{source!r} has no samples")
  if not isinstance(source, Mixture):
    read = grain.MapDataset.source(source)
    if shuffle:
      read = read.shuffle(seed=seed % SEEDS)
    return read if epochs == 1 else read.repeat(epochs)
  if epochs is not None:
    raise UserError("a mixture has no epochs; read its sources one by one")
  branches = [
    dataset(branch, seed=seed + 7919 * i, shuffle=shuffle, epochs=None)
    for i, branch in enumerate(source.sources)
  ]
  return grain.MapDataset.mix(branches, weights=list(source.weights))


def too_many(
  bad: Sequence[str],
  total: int,
  share: float,
  *,
  setting: str = "config.data.bad_samples",
  of: str = "",
  what: str = "samples",
) -> UserError:
  """The error of more bad samples than are allowed; names the first ones."""
  rest = len(bad) - MOST_NAMED
  return UserError(
    f"{'; '.join(bad[:MOST_NAMED])}{f'; and {rest:,} more' * (rest > 0)}"
    f" ({len(bad):,} of {total:,} {what}{of} are bad; {setting}={share:g}"
    " allows no more)"
  )


class Tolerant:
  """A source whose unreadable samples are None, up to a share of all.

  The first ones are said on stderr, each once; past `share` of them, UserError
  names the first ones.
  """

  def __init__(self, source: Source, share: float):
    self._source, self._share = source, share
    # Those that were left out as they were listed are bad samples too.
    self._before = tuple(getattr(source, "left_out", ()))
    self._bad: dict[int, str] = {}  # the line of each, by index

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Sample | None:
    try:
      return self._source[index]
    except UserError as error:
      self._count(index, str(error))
      return None

  def _count(self, index: int, line: str) -> None:
    if index not in self._bad and len(self._bad) < MOST_NAMED:
      print(f"left out: {line}", file=sys.stderr, flush=True)
    self._bad[index] = line
    bad = [*self._before, *self._bad.values()]
    total = len(self._before) + len(self._source)
    if len(bad) > self._share * total:
      raise too_many(bad, total, self._share)

  def kind(self, index: int):
    """As the source has it."""
    return self._source.kind(index) if hasattr(self._source, "kind") else index

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions alone; none of one that is left out."""
    if hasattr(self._source, "questions"):
      return self._source.questions(index)
    sample = self[index]
    return sample.questions if sample else ()

  def cameras(self) -> bool:
    """Whether any sample has a camera."""
    if hasattr(self._source, "cameras"):
      return self._source.cameras()
    return any(sample.camera is not None for sample in readable(self))

  def __repr__(self) -> str:
    return repr(self._source)


def tolerant(source: Source | Mixture, share: float) -> Source | Mixture:
  """Leaves out bad samples of a source, or of each source of a mixture."""
  if not 0 <= share < 1:
    raise UserError(
      f"config.data.bad_samples is {share}; it should be in [0, 1)"
    )
  if share == 0 or isinstance(source, Tolerant):
    return source
  if isinstance(source, Mixture):
    wrapped: Sequence[Source] = [tolerant(s, share) for s in source.sources]
    return dataclasses.replace(source, sources=tuple(wrapped))
  return Tolerant(source, share)
