"""One row of a packed batch while it is filled, segment by segment."""

import dataclasses

import numpy as np

from cooper_jax import errors
from cooper_jax.models import masks
from cooper_jax.models.config import BinLayout
from cooper_jax.models.token_kinds import CODE, IMAGE, TEXT
from cooper_jax.sequences.segments import (
  ContextMap,
  Document,
  Format,
  Image,
  Map,
  Text,
  cells_under,
  image_layout,
  map_layout,
  measure,
  remembered,
  shape_of,
  squares_under,
)

# What the model reads at each of L positions, see `unified.Tokens` and
# `masks.RowLayout`; where a column is not written it is 0, or of EMPTY.
TOKEN_COLUMNS = (
  "ids", "kind", "row", "column", "time", "cell", "query", "opening",
  "previous", "read", "document", "branch", "order", "view", "place",
)  # fmt: skip
EMPTY = {"cell": -1, "query": -1, "previous": -1, "read": -1}
# What is scored, a column an array of the batch; see `packing.pack`.
TEXT_COLUMNS = (
  "text_at", "text_target", "text_weight", "text_cell", "text_allowed_maps",
  "text_source",
)  # fmt: skip
CODE_COLUMNS = (
  "code_at", "code_target", "code_weight", "code_modality", "code_source",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shape:
  """Capacities of a row of a packed batch, all static.

  With trunk and bin_size set a row holds one document in bins, and
  length = trunk + n * bin_size; else documents follow one another.
  """

  length: int  # L, positions
  texts: int  # scored text positions
  codes: int  # scored code positions
  images: int = 1
  trunk: int = 0  # positions of the trunk; 0 = free layout
  bin_size: int = 0  # positions of a bin of branches; 0 = free layout
  hides: bool = False  # whether a map may hide the image from what follows

  def __post_init__(self):
    rest = self.length - self.trunk
    if bool(self.trunk) != bool(self.bin_size) or (
      self.bin_size and (rest < 0 or rest % self.bin_size)
    ):
      raise errors.UserError(
        f"a row of {self.length} is no trunk of {self.trunk} and whole bins"
        f" of {self.bin_size}; set length = trunk + n * bin"
      )

  @property
  def bins(self) -> BinLayout | None:
    """Where the trunk ends and the bins begin; None for the free layout."""
    return BinLayout(self.trunk, self.bin_size) if self.bin_size else None


@dataclasses.dataclass
class Cursor:
  """The place that a chain of segments, trunk and branch, has come to."""

  position: int = 0  # RoPE position of the next token
  order: int = 0  # `RowLayout.order` of the last token
  image: int = -1  # index of the row's image that locations point at, -1 none
  shape: int = 0  # of that image, see `segments.shape_of`
  predictor: int = -1  # index in the row of what predicts the next text id
  previous: int = -1  # id of the last text token, -1 after an image or a map
  drawn: int = 0  # bit set of the modalities whose map is on this chain
  maps: int = 0  # maps on this chain
  blind: bool = False  # whether it sees no image from here on
  # (id of the opening, ids [Q] of the codes) of the maps that places read.
  seen: tuple = ()


class Row:
  """One row of L positions being filled; `packing.pack` stacks them.

  tokens: name -> i32 [L] of TOKEN_COLUMNS, "read" [L, M, 2] for M maps that
  are read at once. images: u8 pictures, in order; image_at: i32 [J], index of
  each of their cells in the row, -1 where no cell is. texts, codes: arrays
  [columns, n] of TEXT_COLUMNS and CODE_COLUMNS, one for each segment that has
  n scored tokens. regions: [next free index, end] of the trunk and each bin,
  or of the whole row.
  """

  def __init__(self, form: Format, shape: Shape):
    self.form, self.shape, self.documents = form, shape, 0
    self.regions = [[0, shape.length]]
    if shape.bin_size:
      starts = range(shape.trunk, shape.length, shape.bin_size)
      self.regions = [[0, shape.trunk]]
      self.regions += [[start, start + shape.bin_size] for start in starts]
    self.region = self.regions[0]
    self.tokens = {
      name: np.full(shape.length, EMPTY.get(name, 0), np.int32)
      for name in TOKEN_COLUMNS
    }
    self.tokens["read"] = np.full(
      (shape.length, form.model.max_maps, 2), EMPTY["read"], np.int32
    )
    shapes = range(len(form.model.vision.grids))
    self.under = [cells_under(form.model, each) for each in shapes]
    self.squares = [squares_under(form.model, each) for each in shapes]
    self.images: list[np.ndarray] = []
    cells = shape.images * form.model.locations
    self.image_at = np.full(cells, -1, np.int32)
    self.texts: list[np.ndarray] = []
    self.codes: list[np.ndarray] = []

  def add(self, document: Document):
    """Writes a document: its trunk, then each branch where it has room."""
    self.documents += 1
    cursor = Cursor()
    for segment in document.trunk:
      self._segment(segment, cursor, 0)
    for i, branch in enumerate(document.branches):
      own = dataclasses.replace(cursor)
      if self.shape.bin_size:
        self._choose(measure(Document(branch), self.form)[0])
      for segment in branch:
        self._segment(segment, own, i + 1)

  def _segment(self, segment, cursor, branch):
    if isinstance(segment, Text):
      self._text(segment, cursor, branch)
    elif isinstance(segment, Map):
      self._map(segment, cursor, branch)
    elif isinstance(segment, ContextMap):
      cursor.seen = remembered(cursor.seen, segment, self.form)
    else:
      self._image(segment, cursor, branch)

  def _choose(self, length: int):
    """Goes to the first bin that has room for a branch."""
    for region in self.regions[1:]:
      if region[0] + length <= region[1]:
        self.region = region
        return
    raise errors.UserError(
      f"no bin of {self.shape.bin_size} has room for a branch of {length};"
      " raise the stage's bin or length, or ask less per image"
    )

  def _write(self, count, branch, room=0, **values) -> int:
    """Writes `count` tokens to the region; returns the index of the first.

    room: positions that are taken, if more: the rest stays padding.
    """
    start, limit = self.region
    end, taken = start + count, start + max(count, room)
    if taken > limit:
      raise errors.UserError(
        f"a document needs {taken} positions where {limit} are left; raise the"
        " stage's length or ask less per image"
      )
    for name, value in values.items():
      self.tokens[name][start:end] = value
    self.tokens["document"][start:end] = self.documents
    self.tokens["branch"][start:end] = branch
    self.region[0] = taken
    return start

  def _text(self, text: Text, cursor: Cursor, branch: int):
    ids = np.asarray(text.ids, np.int32)
    count = len(ids)
    if not count:
      return
    steps = np.arange(count)
    first_cell = cursor.image * self.form.model.locations
    location = ids - self.form.vocabulary.locations_start
    points = (location >= 0) & (location < self.form.model.locations)
    if points.any() and cursor.image < 0:
      raise errors.UserError("a location token comes before any image")
    start = self._write(
      count,
      branch,
      ids=ids,
      kind=TEXT,
      row=cursor.position + steps,
      column=cursor.position + steps,
      time=cursor.position + steps,
      cell=np.where(points & (not cursor.blind), first_cell + location, -1),
      view=masks.BLIND * cursor.blind,
      previous=np.concatenate([[cursor.previous], ids[:-1]]),
      order=cursor.order + 1 + steps,
    )
    at, named = start + np.flatnonzero(points), location[points]
    self.tokens["place"][at] = self.squares[cursor.shape][named]
    for i, (opening, held) in enumerate(cursor.seen):
      self.tokens["read"][at, i, 0] = held[self.under[cursor.shape][named]]
      self.tokens["read"][at, i, 1] = opening
    if np.any(text.learn):
      at = np.concatenate([[cursor.predictor], start + steps[:-1]])
      learn = np.broadcast_to(text.learn, count)
      if learn[0] and cursor.predictor < 0:
        raise errors.UserError("the first token of a document can't be learned")
      allowed_maps = text.allowed_maps
      if allowed_maps is None:
        allowed_maps = self._allowed(cursor)
      source = -1 if text.source is None else text.source
      columns = np.empty((len(TEXT_COLUMNS), count))
      for column, value in zip(
        columns,
        (at, ids, text.weight, max(first_cell, 0), allowed_maps, source),
        strict=True,
      ):
        column[:] = value
      self.texts.append(columns if text.learn is True else columns[:, learn])
    cursor.predictor = start + count - 1
    cursor.previous = int(ids[-1])
    cursor.position += count
    cursor.order += count

  def _allowed(self, cursor: Cursor) -> int:
    """Bit set of the maps that may be opened here: each once, max_maps."""
    full = cursor.maps >= self.form.max_maps
    return 0 if full else self.form.allowed_maps & ~cursor.drawn

  def _image(self, image: Image, cursor: Cursor, branch: int):
    model = self.form.model
    if len(self.images) >= self.shape.images:
      raise errors.UserError(
        f"a row holds {self.shape.images} images, a document brings more"
      )
    cursor.image = len(self.images)
    self.images.append(image.image)
    cursor.shape = shape_of(model, image.image)
    layout = image_layout(model, *model.vision.grids[cursor.shape])
    cell = np.arange(len(layout.row))
    start = self._write(
      len(cell),
      branch,
      room=model.locations,
      kind=IMAGE,
      row=cursor.position + layout.row,
      column=cursor.position + layout.column,
      time=cursor.position,
      cell=cursor.image * model.locations + cell,
      view=masks.PICTURE,
      order=cursor.order + 1 + layout.order,
    )
    first = cursor.image * model.locations
    self.image_at[first : first + len(cell)] = start + cell
    cursor.position += layout.advance
    cursor.order += 1 + int(layout.order[-1])
    cursor.predictor, cursor.previous = start + len(cell) - 1, -1

  def _map(self, segment: Map, cursor: Cursor, branch: int):
    model, vocabulary = self.form.model, self.form.vocabulary
    opening = vocabulary.opening(segment.modality_id)
    self._text(
      Text(
        np.array([opening]),
        segment.learn_opening,
        source=np.array([segment.opening_source]),
        allowed_maps=None
        if segment.allowed_maps is None
        else np.array([segment.allowed_maps]),
      ),
      cursor,
      branch,
    )
    layout = map_layout(model, cursor.shape)
    codes = segment.codes if segment.seen is None else segment.seen
    held = np.zeros(model.map_positions, np.int32)
    held[model.step_codes :] = vocabulary.codes_start + np.asarray(codes)
    first_cell = max(cursor.image, 0) * model.locations
    aligned = layout["cell"] if cursor.image >= 0 else -1
    start = self._write(
      model.map_positions,
      branch,
      ids=held,
      kind=CODE,
      row=cursor.position + layout["row"],
      column=cursor.position + layout["column"],
      time=cursor.position,
      cell=np.where(layout["cell"] >= 0, first_cell + aligned, -1)
      if cursor.image >= 0
      else -1,
      query=layout["query"],
      opening=opening,
      order=cursor.order + 1 + layout["order"],
    )
    source = segment.source
    if segment.learn:
      at = start + np.arange(model.map_codes)
      same = np.ones(model.map_codes)
      columns = (
        at,
        segment.codes,
        segment.weight * same,
        segment.modality_id * same,
        -same if source is None else source,
      )
      self.codes.append(np.array(columns, np.float64))
    cursor.position += model.map_advance
    cursor.order += model.map_positions // model.step_codes
    cursor.drawn |= 1 << segment.modality_id
    cursor.seen = remembered(cursor.seen, segment, self.form)
    cursor.maps += 1
    cursor.previous = -1
    if segment.hides and not self.shape.hides:
      raise errors.UserError("a map hides the image in rows that show it")
    cursor.blind |= segment.hides
    self._text(
      Text(np.array([vocabulary.closing(segment.modality_id)]), False),
      cursor,
      branch,
    )
