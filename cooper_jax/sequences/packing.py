"""Packing: documents -> rows of token arrays that are read and scored.

Two layouts follow the one rule of attention. Free: documents follow one
another, whole, as many as fit. In bins: a row holds one document, its trunk
first and its branches, none split, in bins of equal size; then a branch
attends to the trunk and to its own bin alone, which costs a fraction of a
full mask and gives the same numbers.
"""

import numpy as np

from cooper_jax import errors
from cooper_jax.models import masks, patches, unified
from cooper_jax.models.config import RGB
from cooper_jax.sequences.row import (
  CODE_COLUMNS,
  TEXT_COLUMNS,
  TOKEN_COLUMNS,
  Row,
  Shape,
)
from cooper_jax.sequences.segments import Document, Format, measure, shape_of


def inputs(batch) -> tuple[unified.Tokens, masks.RowLayout]:
  """Returns what the model reads of a packed batch, a dict of arrays [B, L]."""
  tokens = unified.Tokens(
    **{
      name: batch[name]
      for name in unified.Tokens.__dataclass_fields__
      if name != "place"
    },
    place=batch.get("place"),
  )
  layout = masks.RowLayout(
    document=batch["document"],
    branch=batch["branch"],
    order=batch["order"],
    view=batch.get("view"),
  )
  return tokens, layout


def pictures(batch):
  """The images of a packed batch, as `unified.see` takes them."""
  if "image_shape" in batch:
    return patches.PackedPictures(batch["images"], batch["image_shape"])
  return batch["images"]


def pack(
  documents, *, form: Format, shape: Shape, rows: int | None = None
) -> dict[str, np.ndarray]:
  """Lays documents out in rows, first fit; returns the arrays of B rows.

  What the model reads, see `unified.Tokens`: ids, kind, row, column, time,
  cell, query, opening, previous [B, L] and read [B, L, M, 2], for M maps that
  are read at once. Who sees whom, see `masks.RowLayout`: document, branch,
  order [B, L], and view where shape.hides. images u8 [B, images, side, side, 3]
  and image_at [B, J], where each image cell is in its row, -1 none. Where
  pictures have several shapes, images and image_shape are those of
  `patches.PackedPictures`, [B, images, ...], and place is there, [B, L].

  What is scored, X = shape.texts positions: text_at (position that predicts),
  text_target (id), text_weight, text_cell (first cell of its image),
  text_allowed_maps (bit set) and text_source [B, X]; X = shape.codes: code_at,
  code_target (0..C-1), code_weight, code_modality and code_source [B, X].
  A target of weight 0 is padding, and so is a source of -1.

  Args:
    documents: whole documents; none is split.
    form: vocabulary, model and modalities.
    shape: capacities of a row.
    rows: B; None takes as many as needed.

  Raises:
    UserError: a document is too large for a row, or the rows don't suffice.
  """
  filled: list[tuple[Row, np.ndarray]] = []
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
      if not shape.bin_size and (used + size <= limit).all():
        used += size
        row.add(document)
        break
    else:
      filled.append((Row(form, shape), size.copy()))
      filled[-1][0].add(document)
  if rows is not None and len(filled) > rows:
    raise errors.UserError(
      f"the documents fill {len(filled)} rows, the batch has {rows}"
    )
  made = [row for row, _ in filled]
  made += [Row(form, shape) for _ in range((rows or 0) - len(made))]
  return _stack(made, form, shape)


def _stack(rows: list[Row], form: Format, shape: Shape):
  """The arrays of filled rows, see `pack`."""
  asked = {"view": shape.hides, "place": bool(form.model.vision.shapes)}
  out = {
    name: np.stack([row.tokens[name] for row in rows])
    for name in TOKEN_COLUMNS
    if asked.get(name, True)
  }
  out |= _images(rows, form, shape.images)
  out["image_at"] = np.stack([row.image_at for row in rows])
  texts = _columns([row.texts for row in rows], shape.texts, len(TEXT_COLUMNS))
  codes = _columns([row.codes for row in rows], shape.codes, len(CODE_COLUMNS))
  for name, column in [*zip(TEXT_COLUMNS, texts), *zip(CODE_COLUMNS, codes)]:
    dtype = np.float32 if name.endswith("weight") else np.int32
    out[name] = column.astype(dtype)
  return out


def _images(rows: list[Row], form: Format, count: int):
  """Their images u8 [B, count, ...], with the shape of each if they differ."""
  vision = form.model.vision
  sides = (vision.image_size,) * 2 + (RGB,)
  if vision.shapes:
    sides = (vision.cells * max(vision.merge, 1) ** 2, vision.patch**2 * RGB)
  images = np.zeros((len(rows), count, *sides), np.uint8)
  shapes = np.zeros((len(rows), count), np.int32)
  for b, row in enumerate(rows):
    for i, image in enumerate(row.images):
      shapes[b, i] = shape_of(form.model, image)
      images[b, i] = patches.packed(image, vision) if vision.shapes else image
  return {"images": images} | ({"image_shape": shapes} if vision.shapes else {})


def _columns(lists, capacity, width):
  """Pads each row's columns to X = capacity; returns them [width, B, X]."""
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
  if shape.bin_size:
    room = [shape.bin_size] * shape.bins.bins_in(shape.length)
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
