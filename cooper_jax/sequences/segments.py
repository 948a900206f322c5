"""Segments (text, image, map) <-> token arrays: THE format of the project.

A document is a trunk of segments and branches that continue it, each seeing
the trunk and itself alone: many questions about one image, or the G rollouts
of one prompt, in one sequence whose prefix is computed once. `packing.pack`
lays documents out in rows; training, scoring and the sampler's prompts all
come from here, so there is one place that knows how a map becomes positions.

A map of Q codes drawn g at a time takes Q + g positions: the s-th holds code s
- g (the first g hold nothing) and predicts code s; the last g positions only
let later text see the end of the map. g = 1 is plain autoregression, g =
map_grid draws a row at once, g = Q the whole map.
"""

import dataclasses
import itertools

import numpy as np

from cooper_jax import errors
from cooper_jax.models import config
from cooper_jax.tokenizers.vocab import Vocabulary


@dataclasses.dataclass(frozen=True)
class Text:
  """Text, special and location ids; `learn` those that are predicted.

  weight scales their loss. source, where given, is an index per id that
  comes back beside its target (a rollout's position, say). allowed_maps, where
  given, replaces the bit set of the maps that were allowed at each id.
  """

  ids: np.ndarray
  learn: np.ndarray | bool = True
  weight: np.ndarray | float = 1.0
  source: np.ndarray | None = None
  allowed_maps: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Image:
  """The cells of `image`, u8 [H, W, 3]."""

  image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Map:
  """A map: its opening, its codes and its (forced) closing.

  seen, where given, are the codes that the model reads, while `codes` are
  those that it learns to draw (noise against teacher forcing).

  hides: text behind it, from its closing on, sees no image (view dropout): it
  attends to no cell, and a place that is named there has nothing of its cell.
  What it says of the image it has from maps, or from what was said before.
  """

  modality_id: int  # the modality's MODALITY_ID
  codes: np.ndarray  # [Q] in 0..C-1, row-major
  learn: bool = True
  learn_opening: bool = True
  weight: float = 1.0
  seen: np.ndarray | None = None
  source: np.ndarray | None = None  # [Q]
  opening_source: int = -1
  allowed_maps: int | None = None
  hides: bool = False


@dataclasses.dataclass(frozen=True)
class ContextMap:
  """Codes that places named later read, as if this map had been drawn.

  Takes no positions: what is learned is to read a code, at the cost of nothing.
  """

  modality_id: int
  codes: np.ndarray  # [Q]


@dataclasses.dataclass(frozen=True)
class Document:
  """A trunk and the branches that continue it."""

  trunk: tuple
  branches: tuple[tuple, ...] = ()


@dataclasses.dataclass(frozen=True)
class Format:
  """What turns segments into arrays: vocabulary, model sizes, modalities."""

  vocabulary: Vocabulary
  model: config.ModelConfig
  modality_ids: tuple[int, ...]  # of the modalities in use
  max_maps: int = 2  # maps in one answer
  # (MODALITY_ID, id) of the first word of the thought that calls for a map.
  calls: tuple[tuple[int, int], ...] = ()

  @property
  def allowed_maps(self) -> int:
    """Bit set of every opening."""
    return sum(1 << i for i in self.modality_ids)


def shape_of(model: config.ModelConfig, image) -> int:
  """Which of the model's shapes a picture u8 [H, W, 3] has.

  Raises UserError where it has none of them.
  """
  cell, sides = model.vision.cell, np.shape(image)[:2]
  grid = tuple(side // cell for side in sides)
  whole = not any(side % cell for side in sides)
  if whole and grid in model.vision.grids:
    return model.vision.grids.index(grid)
  allowed = (f"{cell * h}x{cell * w}" for h, w in model.vision.grids)
  raise errors.UserError(
    f"an image has {sides[0]}x{sides[1]} pixels; this model takes"
    f" {', '.join(allowed)} (config.data.image_size, config.data.fit)"
  )


def map_layout(
  model: config.ModelConfig, shape: int = 0
) -> dict[str, np.ndarray]:
  """Returns, for each of a map's Q + g positions, its place, i32 [Q + g].

  shape: of the picture that the map is of, see `shape_of`. A map has Q codes
  whatever the shape: it is stretched over the picture.

  row, column: position relative to the map's start; query: the map cell that
  the position predicts, -1 for the last g; cell: the image cell under that map
  cell, -1 likewise; order: how many steps come before.
  """
  place = np.arange(model.map_positions)
  row, column = place // model.map_grid, place % model.map_grid
  rows, columns = model.vision.grids[shape]
  under = (
    row * rows // model.map_grid
  ) * columns + column * columns // model.map_grid
  predicts = place < model.map_codes
  return {
    "row": row,
    "column": column,
    "query": np.where(predicts, place, -1),
    "cell": np.where(predicts, under, -1),
    "order": place // model.step_codes,
  }


@dataclasses.dataclass(frozen=True)
class ImageLayout:
  """The place of each cell of a picture, i32 [cells] each, from its start on.

  All cells have one time. order: how many cells come before, where a cell sees
  those alone; advance: positions that the text after it moves on by.
  """

  row: np.ndarray
  column: np.ndarray
  order: np.ndarray
  advance: int


def image_layout(
  model: config.ModelConfig, height: int, width: int
) -> ImageLayout:
  """The layout of a picture of height x width cells, row by row."""
  cell = np.arange(height * width)
  apart = 0 if model.one_position else 1
  return ImageLayout(
    row=apart * (cell // width),
    column=apart * (cell % width),
    order=cell if model.causal_cells else 0 * cell,
    advance=max(height, width) if apart else 1,
  )


def cells_under(model: config.ModelConfig, shape: int = 0) -> np.ndarray:
  """The map cell [J] under each cell of an image of a shape, 0 past them."""
  return _nearest(model, shape, model.map_grid)


def squares_under(model: config.ModelConfig, shape: int = 0) -> np.ndarray:
  """The cell of the square [J] at the place of each cell of a shape's image."""
  return _nearest(model, shape, model.vision.grid)


def _nearest(model: config.ModelConfig, shape: int, side: int) -> np.ndarray:
  """The cell [J] of a grid of side x side under each of a shape's cells."""
  rows, columns = model.vision.grids[shape]
  row, column = np.divmod(np.arange(rows * columns), columns)
  under = row * side // rows * side + column * side // columns
  return np.pad(under, (0, model.locations - len(under)))


def remembered(seen: tuple, segment, form: Format) -> tuple:
  """The maps that places named after a segment read: `seen` and its own.

  Each is (id of its opening, ids [Q] of the codes that are read), the oldest
  first; of more than the model reads at once the oldest are forgotten. Prompts
  and training rows count them here, and the sampler does likewise.
  """
  if not isinstance(segment, Map | ContextMap):
    return seen
  codes = segment.codes
  if isinstance(segment, Map) and segment.seen is not None:
    codes = segment.seen
  held = form.vocabulary.codes_start + np.asarray(codes)
  seen = (*seen, (form.vocabulary.opening(segment.modality_id), held))
  return seen[-form.model.max_maps :]


def unlearned(trunks):
  """Yields trunks that are read and not learned: prompts."""
  for trunk in trunks:
    yield tuple(
      segment
      if isinstance(segment, Image | ContextMap)
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
      length += form.model.map_positions + 2
      texts += int(segment.learn_opening)
      codes += form.model.map_codes if segment.learn else 0
    elif isinstance(segment, Image):
      length += form.model.locations
      images += 1
  return length, texts, codes, images
