"""Segments (text, image, map) <-> token arrays: THE format of the project.

A document is a trunk of segments and branches that continue it, each seeing
the trunk and itself alone: many questions about one image, or the G rollouts
of one prompt, in one sequence whose prefix is computed once. `packing.pack`
lays documents out in rows; training, scoring and the sampler's prompts all
come from here, so there is one place that knows how a map becomes slots.

A map of N codes drawn g at a time takes N + g slots: slot s holds code s - g
(the first g hold nothing) and predicts code s; the last g slots only let later
text see the end of the map. g = 1 is plain autoregression, g = W draws a row
at once, g = N the whole map.
"""

import dataclasses
import itertools

import numpy as np

from cooper_jax.models import config as model_config
from cooper_jax.tokenizers.vocab import Vocabulary


@dataclasses.dataclass(frozen=True)
class Text:
  """Text, special and location ids; `learn` those that are predicted.

  weight scales their loss. source, where given, is an index per id that
  comes back beside its target (a rollout's slot, say). openings, where given,
  replaces the bit set of the map openings that were allowed at each id.
  """

  ids: np.ndarray
  learn: np.ndarray | bool = True
  weight: np.ndarray | float = 1.0
  source: np.ndarray | None = None
  openings: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Image:
  """The image cells of `image`, u8 [H, W, 3]."""

  image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Map:
  """A map: its opening, its codes and its (forced) closing.

  seen, where given, are the codes that the model reads, while `codes` are
  those that it learns to draw (noise against teacher forcing).
  """

  slot: int  # the modality's SLOT
  codes: np.ndarray  # [N] in 0..K-1, row-major
  learn: bool = True
  learn_opening: bool = True
  weight: float = 1.0
  seen: np.ndarray | None = None
  source: np.ndarray | None = None  # [N]
  opening_source: int = -1
  openings: int | None = None


@dataclasses.dataclass(frozen=True)
class Given:
  """Codes that places named later read, as if this map had been drawn.

  Takes no slots: what is learned is to read a code, at the cost of nothing.
  """

  slot: int
  codes: np.ndarray  # [N]


@dataclasses.dataclass(frozen=True)
class Document:
  """A trunk and the branches that continue it."""

  trunk: tuple
  branches: tuple[tuple, ...] = ()


@dataclasses.dataclass(frozen=True)
class Format:
  """What turns segments into arrays: vocabulary, model sizes, modalities."""

  vocabulary: Vocabulary
  model: model_config.ModelConfig
  slots: tuple[int, ...]  # SLOTs of the modalities in use
  max_maps: int = 2  # maps in one answer
  # (SLOT, id) of the first word of the thought that calls for a map.
  calls: tuple[tuple[int, int], ...] = ()

  @property
  def openings(self) -> int:
    """Bit set of every opening."""
    return sum(1 << slot for slot in self.slots)


def map_slots(model: model_config.ModelConfig) -> dict[str, np.ndarray]:
  """Returns, for each of a map's N + g slots, its place.

  row, column: position relative to the map's start; query: the map cell that
  the slot predicts, -1 for the last g; cell: the image cell under that map
  cell, -1 likewise; group: how many groups come before.
  """
  slot = np.arange(model.map_slots)
  row, column = slot // model.map_grid, slot % model.map_grid
  grid = model.vision.grid
  under = (
    row * grid // model.map_grid
  ) * grid + column * grid // model.map_grid
  predicts = slot < model.map_codes
  return {
    "row": row,
    "column": column,
    "query": np.where(predicts, slot, -1),
    "cell": np.where(predicts, under, -1),
    "group": slot // model.group_size,
  }


def cells_under(model: model_config.ModelConfig) -> np.ndarray:
  """The map cell [M] that lies under each image cell."""
  cell, grid = np.arange(model.locations), model.vision.grid
  row = cell // grid * model.map_grid // grid
  column = cell % grid * model.map_grid // grid
  return row * model.map_grid + column


def remembered(seen: tuple, segment, form: Format) -> tuple:
  """The maps that places named after a segment read: `seen` and its own.

  Each is (id of its opening, ids [N] of the codes that are read), the oldest
  first; of more than the model reads at once the oldest are forgotten. Prompts
  and training rows count them here, and the sampler does likewise.
  """
  if not isinstance(segment, Map | Given):
    return seen
  codes = segment.codes
  if isinstance(segment, Map) and segment.seen is not None:
    codes = segment.seen
  held = form.vocabulary.codes_start + np.asarray(codes)
  seen = (*seen, (form.vocabulary.opening(segment.slot), held))
  return seen[-form.model.max_maps :]


def unlearned(trunks):
  """Yields trunks that are read and not learned: prompts."""
  for trunk in trunks:
    yield tuple(
      segment
      if isinstance(segment, Image | Given)
      else dataclasses.replace(segment, learn=False)
      if isinstance(segment, Text)
      else dataclasses.replace(segment, learn=False, learn_opening=False)
      for segment in trunk
    )


def measure(document: Document, form: Format) -> tuple[int, int, int, int]:
  """Returns the (length, scored texts, scored codes, images) of a document."""
  length = texts = codes = images = 0
  for segment in itertools.chain(document.trunk, *document.branches):
    if isinstance(segment, Text):
      count = len(segment.ids)
      length += count
      learn = segment.learn
      texts += count * learn if isinstance(learn, bool) else int(np.sum(learn))
    elif isinstance(segment, Map):
      length += form.model.map_slots + 2
      texts += int(segment.learn_opening)
      codes += form.model.map_codes if segment.learn else 0
    elif isinstance(segment, Image):
      length += form.model.locations
      images += 1
  return length, texts, codes, images
