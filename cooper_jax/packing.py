"""Documents -> rows of token arrays, which the model reads and is scored on.

Two layouts follow the one rule of attention. Free: documents lie one after
the other, whole, as many as fit. Blocks: a row holds one document, its trunk
first and its branches, none cut, in blocks of equal size; then a branch
attends to the trunk and to its own block alone, which costs a fraction of a
full mask and gives the same numbers.
"""

import dataclasses

import numpy as np

from cooper_jax import errors
from cooper_jax.models.unified import CODE, IMAGE, TEXT
from cooper_jax.sequence import (
  Document,
  Format,
  Given,
  Image,
  Map,
  Text,
  cells_under,
  map_slots,
  measure,
  remembered,
)


@dataclasses.dataclass(frozen=True)
class Shape:
  """Capacities of a row of a packed batch, all static.

  With trunk and block set, the layout is in blocks: L = trunk + n * block.
  """

  length: int  # L
  texts: int  # scored text positions
  codes: int  # scored code positions
  images: int = 1
  trunk: int = 0
  block: int = 0

  def __post_init__(self):
    rest = self.length - self.trunk
    if bool(self.trunk) != bool(self.block) or (
      self.block and (rest < 0 or rest % self.block)
    ):
      raise errors.UserError(
        f"a row of {self.length} is no trunk of {self.trunk} and whole blocks"
        f" of {self.block}; set length = trunk + n * block"
      )

  @property
  def blocks(self) -> tuple[int, int] | None:
    """(trunk, block), or None for the free layout."""
    return (self.trunk, self.block) if self.block else None


_TOKEN = ("ids", "kind", "row", "column", "cell", "query", "opening")
_TOKEN += ("previous", "read", "document", "branch", "group")
_TEXT = ("text_at", "text_target", "text_weight", "text_cell")
_TEXT += ("text_openings", "text_source")
_CODE = ("code_at", "code_target", "code_weight", "code_slot", "code_source")
_NONE = {"cell": -1, "query": -1, "previous": -1, "read": -1}


@dataclasses.dataclass
class _Cursor:
  """Where a chain of segments has come to."""

  position: int = 0
  group: int = 0
  image: int = -1  # of the row's images, the one that locations point at
  predictor: int = -1  # slot whose output predicts the next text id
  previous: int = -1  # id before, for text
  drawn: int = 0  # bit set of maps drawn on this chain
  maps: int = 0
  seen: tuple = ()  # (opening, ids [N]) of the maps on this chain


class _Row:
  """One row being filled."""

  def __init__(self, form: Format, shape: Shape):
    self.form, self.shape, self.documents = form, shape, 0
    # Next free place and end of each region: the whole row, or the blocks.
    self.regions = [[0, shape.length]]
    if shape.block:
      starts = range(shape.trunk, shape.length, shape.block)
      self.regions = [[0, shape.trunk]]
      self.regions += [[start, start + shape.block] for start in starts]
    self.region = self.regions[0]
    self.tokens = {
      name: np.full(shape.length, _NONE.get(name, 0), np.int32)
      for name in _TOKEN
    }
    self.tokens["read"] = np.full(
      (shape.length, form.model.max_maps, 2), _NONE["read"], np.int32
    )
    self.under = cells_under(form.model)
    self.images: list[np.ndarray] = []
    cells = shape.images * form.model.locations
    self.image_at = np.full(cells, -1, np.int32)
    self.texts: list[np.ndarray] = []
    self.codes: list[np.ndarray] = []

  def add(self, document: Document):
    self.documents += 1
    cursor = _Cursor()
    for segment in document.trunk:
      self._segment(segment, cursor, 0)
    for i, branch in enumerate(document.branches):
      own = dataclasses.replace(cursor)
      if self.shape.block:
        self._choose(measure(Document(branch), self.form)[0])
      for segment in branch:
        self._segment(segment, own, i + 1)

  def _segment(self, segment, cursor, branch):
    if isinstance(segment, Text):
      self._text(segment, cursor, branch)
    elif isinstance(segment, Map):
      self._map(segment, cursor, branch)
    elif isinstance(segment, Given):
      cursor.seen = remembered(cursor.seen, segment, self.form)
    else:
      self._image(segment, cursor, branch)

  def _choose(self, length: int):
    """Goes to the first block that has room for a branch."""
    for region in self.regions[1:]:
      if region[0] + length <= region[1]:
        self.region = region
        return
    raise errors.UserError(
      f"no block of {self.shape.block} has room for a branch of {length};"
      " raise the stage's block or length, or ask less per image"
    )

  def _write(self, count, branch, **values) -> int:
    start, limit = self.region
    end = start + count
    if end > limit:
      raise errors.UserError(
        f"a document needs {end} positions where {limit} are left; raise the"
        " stage's length or ask less per image"
      )
    for name, value in values.items():
      self.tokens[name][start:end] = value
    self.tokens["document"][start:end] = self.documents
    self.tokens["branch"][start:end] = branch
    self.region[0] = end
    return start

  def _text(self, text: Text, cursor: _Cursor, branch: int):
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
      cell=np.where(points, first_cell + location, -1),
      previous=np.concatenate([[cursor.previous], ids[:-1]]),
      group=cursor.group + 1 + steps,
    )
    for i, (opening, held) in enumerate(cursor.seen):
      at = start + np.flatnonzero(points)
      self.tokens["read"][at, i, 0] = held[self.under[location[points]]]
      self.tokens["read"][at, i, 1] = opening
    if np.any(text.learn):
      at = np.concatenate([[cursor.predictor], start + steps[:-1]])
      learn = np.broadcast_to(text.learn, count)
      if learn[0] and cursor.predictor < 0:
        raise errors.UserError("the first token of a document can't be learned")
      openings = text.openings
      columns = np.empty((len(_TEXT), count))
      columns[0], columns[1] = at, ids
      columns[2] = text.weight
      columns[3] = max(first_cell, 0)
      columns[4] = self._allowed(cursor) if openings is None else openings
      columns[5] = -1 if text.source is None else text.source
      self.texts.append(columns if text.learn is True else columns[:, learn])
    cursor.predictor = start + count - 1
    cursor.previous = int(ids[-1])
    cursor.position += count
    cursor.group += count

  def _allowed(self, cursor: _Cursor) -> int:
    full = cursor.maps >= self.form.max_maps
    return 0 if full else self.form.openings & ~cursor.drawn

  def _image(self, image: Image, cursor: _Cursor, branch: int):
    model = self.form.model
    if len(self.images) >= self.shape.images:
      raise errors.UserError(
        f"a row holds {self.shape.images} images, a document brings more"
      )
    cursor.image = len(self.images)
    self.images.append(image.image)
    cell = np.arange(model.locations)
    start = self._write(
      model.locations,
      branch,
      kind=IMAGE,
      row=cursor.position + cell // model.vision.grid,
      column=cursor.position + cell % model.vision.grid,
      cell=cursor.image * model.locations + cell,
      group=cursor.group + 1,
    )
    first = cursor.image * model.locations
    self.image_at[first : first + model.locations] = start + cell
    cursor.position += model.vision.grid
    cursor.group += 1
    cursor.predictor, cursor.previous = start + model.locations - 1, -1

  def _map(self, segment: Map, cursor: _Cursor, branch: int):
    model, vocabulary = self.form.model, self.form.vocabulary
    opening = vocabulary.opening(segment.slot)
    self._text(
      Text(
        np.array([opening]),
        segment.learn_opening,
        source=np.array([segment.opening_source]),
        openings=None
        if segment.openings is None
        else np.array([segment.openings]),
      ),
      cursor,
      branch,
    )
    layout = map_slots(model)
    codes = segment.codes if segment.seen is None else segment.seen
    held = np.zeros(model.map_slots, np.int32)
    held[model.group_size :] = vocabulary.codes_start + np.asarray(codes)
    first_cell = max(cursor.image, 0) * model.locations
    aligned = layout["cell"] if cursor.image >= 0 else -1
    start = self._write(
      model.map_slots,
      branch,
      ids=held,
      kind=CODE,
      row=cursor.position + layout["row"],
      column=cursor.position + layout["column"],
      cell=np.where(layout["cell"] >= 0, first_cell + aligned, -1)
      if cursor.image >= 0
      else -1,
      query=layout["query"],
      opening=opening,
      group=cursor.group + 1 + layout["group"],
    )
    source = segment.source
    if segment.learn:
      at = start + np.arange(model.map_codes)
      same = np.ones(model.map_codes)
      columns = (
        at,
        segment.codes,
        segment.weight * same,
        segment.slot * same,
        -same if source is None else source,
      )
      self.codes.append(np.array(columns, np.float64))
    cursor.position += model.map_advance
    cursor.group += model.map_slots // model.group_size
    cursor.drawn |= 1 << segment.slot
    cursor.seen = remembered(cursor.seen, segment, self.form)
    cursor.maps += 1
    cursor.previous = -1
    self._text(
      Text(np.array([vocabulary.closing(segment.slot)]), False), cursor, branch
    )


def pack(
  documents, *, form: Format, shape: Shape, rows: int | None = None
) -> dict[str, np.ndarray]:
  """Lays documents out in rows, first fit; returns the arrays of B rows.

  [B, L]: ids kind row column cell query opening previous and read (what the
  model reads, see `unified.Tokens`), document branch group (who sees whom).
  [B, I, H, W, 3] images; [B, I * M] image_at, where each cell lies, -1 none.
  [B, Nt]: text_at (position that predicts), text_target, text_weight,
  text_cell (first cell of its image), text_openings, text_source.
  [B, Nc]: code_at, code_target (0..K-1), code_weight, code_slot, code_source.
  A target of weight 0 is padding.

  Args:
    documents: whole documents; none is split.
    form: vocabulary, model and modalities.
    shape: capacities of a row.
    rows: B; None takes as many as needed.

  Raises:
    UserError: a document is too large for a row, or the rows don't suffice.
  """
  filled: list[tuple[_Row, np.ndarray]] = []
  limit = np.array([shape.length, shape.texts, shape.codes, shape.images])
  for document in documents:
    size = np.array(measure(document, form))
    if (size > limit).any():
      raise errors.UserError(
        "a document needs (length, texts, codes, images) ="
        f" {tuple(size.tolist())}, a row has {tuple(limit.tolist())}; raise"
        " the stage's sizes or ask less per image"
      )
    for row, used in filled:
      if not shape.block and (used + size <= limit).all():
        used += size
        row.add(document)
        break
    else:
      filled.append((_Row(form, shape), size.copy()))
      filled[-1][0].add(document)
  if rows is not None and len(filled) > rows:
    raise errors.UserError(
      f"the documents fill {len(filled)} rows, the batch has {rows}"
    )
  made = [row for row, _ in filled]
  made += [_Row(form, shape) for _ in range((rows or 0) - len(made))]
  return _stack(made, form, shape)


def _stack(rows: list[_Row], form: Format, shape: Shape):
  side = form.model.vision.image_size
  images = np.zeros((len(rows), shape.images, side, side, 3), np.uint8)
  for b, row in enumerate(rows):
    for i, image in enumerate(row.images):
      images[b, i] = image
  out = {name: np.stack([row.tokens[name] for row in rows]) for name in _TOKEN}
  out["images"] = images
  out["image_at"] = np.stack([row.image_at for row in rows])
  texts = _columns([row.texts for row in rows], shape.texts, len(_TEXT))
  codes = _columns([row.codes for row in rows], shape.codes, len(_CODE))
  for name, column in [*zip(_TEXT, texts), *zip(_CODE, codes)]:
    whole = np.float32 if name.endswith("weight") else np.int32
    out[name] = column.astype(whole)
  return out


def _columns(lists, capacity, width):
  """Pads each row's columns to capacity; one array [B, capacity] a column."""
  out = np.zeros((width, len(lists), capacity))
  out[-1] = -1
  for b, entries in enumerate(lists):
    if entries:
      found = np.concatenate(entries, axis=1)
      out[:, b, : found.shape[1]] = found
  return out


def fit(document: Document, form: Format, shape: Shape) -> Document:
  """Leaves out the branches that a row has no room for, first come first.

  The trunk and what is learned of it must fit.
  """
  sizes = [measure(Document(branch), form) for branch in document.branches]
  taken = fitting(sizes, shape, measure(Document(document.trunk), form))
  branches = zip(document.branches, taken, strict=True)
  return Document(document.trunk, tuple(b for b, fits in branches if fits))


def fitting(sizes, shape: Shape, trunk) -> list[bool]:
  """Which branches of these sizes (see `measure`) a row takes, in order."""
  length, texts, codes, _ = trunk
  if shape.block:
    count = (shape.length - shape.trunk) // shape.block
    room = [shape.block] * count
  else:
    room = [shape.length - length]
  taken = []
  for need, more_texts, more_codes, _ in sizes:
    place = next((i for i, free in enumerate(room) if free >= need), None)
    fits = (
      place is not None
      and texts + more_texts <= shape.texts
      and codes + more_codes <= shape.codes
    )
    if fits:
      room[place] -= need
      texts, codes = texts + more_texts, codes + more_codes
    taken.append(fits)
  return taken
