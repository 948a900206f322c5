"""A model that sees on rows of text and pictures of any shape (Qwen-VL).

What the folder's own class gave is compared with the model's own forward pass:
tower, merger, positions, decoder, head.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.models import patches
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.models.token_kinds import IMAGE, TEXT
from cooper_jax.models.unified import Unified
from cooper_jax.sequences import segments
from cooper_jax.weights import text_model
from cooper_jax.weights.vision_model import FLOATS, INTEGERS, Expected

GRIDS = "grid_thw"  # by which such an io.npz is known
TURNING = ("time", "row", "column")


def compare(model: Unified, params, arrays: Expected) -> dict:
  """Pairs of arrays (ours, theirs) by name.

  arrays: ids [B, L]; kind [B, L], 0 text, 1 a cell of a picture; patches
  [patches, values] of all pictures, in the order of the rows, values by colour,
  frame, row and column, those that merge side by side; grid_thw [pictures, 3],
  frames, rows and columns in patches -> features [cells, D] and, where there
  are any, deepstack_0, deepstack_1 and so on of the same shape, position_thw
  [3, B, L], logits [B, L, V]. Raises UserError where they are not of one
  another.
  """
  with jax.default_matmul_precision("highest"):
    return _compare(model, params, arrays)


def _compare(model: Unified, params, arrays: Expected) -> dict:
  config = model.config
  kind = arrays.take("kind", INTEGERS, None, None, below=2)
  shape = kind.shape
  ids = arrays.take("ids", INTEGERS, *shape, below=config.text)
  grids = _grids(arrays, config.vision)
  cells = grids.prod(axis=1) // config.vision.merge**2
  stacked = len(config.vision.deepstack)
  if f"deepstack_{stacked}" in arrays:
    raise UserError(
      f"io.npz has deepstack_{stacked}, and the tower gives the states of"
      f" {stacked} layers to the decoder; one of them is of another model"
    )
  tokens, order, rows = _rows(ids, kind, grids, config)
  seen = _pictures(arrays, grids, rows, len(ids), config.vision)
  _, layout, _ = text_model.inputs(ids, config)
  layout = layout.replace(order=jnp.asarray(order))

  @jax.jit
  def run(params, *given):
    features = model.apply(params, given[-1], method=Unified.see_deep)
    hidden, _, _ = model.apply(params, *given)
    return features, model.apply(params, hidden, method=text_model.logits)

  (features, deep), logits = run(params, tokens, layout, seen)
  real = np.nonzero(kind)[0], tokens.cell[kind == 1]
  found = {}
  wide = (int(cells.sum()), config.d_model)
  for name, ours in (
    ("features", features),
    *((f"deepstack_{i}", each) for i, each in enumerate(_each(deep))),
  ):
    if name == "features" or name in arrays:
      found[name] = (np.asarray(ours)[real], arrays.take(name, FLOATS, *wide))
  position = np.stack([getattr(tokens, axis) for axis in TURNING])
  wanted = arrays.take("position_thw", INTEGERS, *position.shape)
  found["position"] = (position, wanted)
  wanted = arrays.take("logits", FLOATS, *shape, config.text)
  found["logits"] = (logits, wanted)
  return found


def _each(deep) -> list:
  return [] if deep is None else list(deep)


def _grids(arrays: Expected, vision: VisionConfig) -> np.ndarray:
  """Rows and columns [pictures, 2] of the pictures, in patches."""
  grids = arrays.take(GRIDS, INTEGERS, None, 3)
  if grids.min() < 1 or (grids[:, 0] != 1).any():
    raise UserError(
      f"io.npz: {GRIDS} has films, of more than one frame; allowed: pictures"
    )
  if (grids[:, 1:] % vision.merge).any():
    raise UserError(
      f"io.npz: {GRIDS} has grids that {vision.merge} x {vision.merge} patches"
      " don't divide; one of them is of another model"
    )
  return grids[:, 1:].astype(int)


def _rows(ids, kind, grids, config: ModelConfig):
  """(tokens, order [B, L], for each picture its row and its place in that).

  By the rule of `sequences/row.py`: text moves on by one, a picture has its
  layout.
  """
  shape, merge = ids.shape, config.vision.merge
  most = int(grids.prod(axis=1).max()) // merge**2
  place = np.zeros(
    (len(TURNING) + 1, *shape), np.int32
  )  # the last is the order
  cell = np.full(shape, -1, np.int32)
  left, rows = list(grids), []
  for row, kinds in enumerate(kind):
    at, order, index, own = 0, 0, 0, 0
    while index < len(kinds):
      count = 1
      if not kinds[index]:
        place[:, row, index] = at, at, at, order
        at, order = at + 1, order + 1
      else:
        if not left:
          raise UserError(f"io.npz: kind has more pictures than {GRIDS}")
        layout = segments.image_layout(config, *(left.pop(0) // merge))
        count = len(layout.order)
        there = slice(index, index + count)
        if kinds[there].sum() != count:
          raise UserError(
            f"io.npz: kind has {kinds[there].sum()} cells of a picture,"
            f" {GRIDS} {count}"
          )
        place[0, row, there] = at
        place[1, row, there] = at + layout.row
        place[2, row, there] = at + layout.column
        place[3, row, there] = order + layout.order
        cell[row, there] = own * most + np.arange(count)
        rows.append((row, own))
        at, order = at + layout.advance, order + 1 + int(layout.order[-1])
        own += 1
      index += count
  if left:
    raise UserError(f"io.npz: {GRIDS} has more pictures than kind")
  tokens, _, _ = text_model.inputs(ids, config)
  *axes, order = place
  tokens = tokens.replace(
    **dict(zip(TURNING, axes, strict=True)),
    kind=np.where(kind == 1, IMAGE, TEXT).astype(np.int32),
    cell=cell,
  )
  return tokens, order, rows


def _pictures(arrays, grids, rows, count, vision) -> patches.Patches:
  """Patches of `count` rows [B, pictures, J, ...], padded to the largest."""
  values = arrays.take(
    "patches", FLOATS, int(grids.prod(1).sum()), vision.values
  )
  colours = (3, vision.frames, vision.patch, vision.patch)
  values = np.moveaxis(values.reshape(-1, *colours), 1, -1)
  values = values.reshape(len(values), -1)
  shape = (count, max(own for _, own in rows) + 1, int(grids.prod(1).max()))
  found = patches.Patches(
    values=np.zeros((*shape, vision.values), np.float32),
    row=np.zeros(shape, np.int32),
    column=np.zeros(shape, np.int32),
    exists=np.zeros(shape, bool),
  )
  first = 0
  for (row, own), grid in zip(rows, grids, strict=True):
    size = int(grid.prod())
    there = row, own, slice(size)
    found.values[there] = values[first : first + size]
    found.row[there], found.column[there] = patches.places(*grid, vision.merge)
    found.exists[there] = True
    first += size
  return found
