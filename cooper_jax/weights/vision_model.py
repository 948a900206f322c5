"""The tower of an import on pictures, and the whole of a model that draws.

What a folder's own class gave is of patches, of pictures of any shape. A run
has square pictures; the tower is the model's own, here of the patches and the
places that are said.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cooper_jax.errors import UserError
from cooper_jax.models import masks, patches, vision
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.models.token_kinds import CODE, IMAGE, TEXT
from cooper_jax.models.unified import Tokens, Unified
from cooper_jax.sequences import segments
from cooper_jax.weights import text_model

KINDS = (TEXT, IMAGE, CODE)  # of a token, as `kind` of an io.npz counts them
FLOATS, INTEGERS = "f", "iub"


class Expected:
  """Arrays of an io.npz, each by its name and with a shape that fits."""

  def __init__(self, arrays: dict[str, np.ndarray]):
    self.arrays, self.used = arrays, set()

  def __contains__(self, name: str) -> bool:
    return name in self.arrays

  def take(self, name: str, kinds: str, *shape, below: int = 0) -> np.ndarray:
    """An array [...]; None in the shape stands for any size.

    Raises UserError where it is absent, of another shape or dtype, or where a
    whole number is not in 0 .. below - 1.
    """
    if name not in self.arrays:
      raise UserError(
        f"io.npz has no {name}, only {', '.join(sorted(self.arrays))}"
      )
    array = self.arrays[name]
    fits = array.ndim == len(shape) and all(
      size in (None, there) for size, there in zip(shape, array.shape)
    )
    if array.dtype.kind not in kinds:
      named = {FLOATS: "floats", INTEGERS: "whole numbers"}
      raise UserError(
        f"io.npz: {name} is of {array.dtype}; allowed: {named.get(kinds, 'u8')}"
      )
    if not fits or not array.size:
      wanted = ["any" if size is None else size for size in shape]
      raise UserError(
        f"io.npz: {name} is {list(array.shape)} of {array.dtype}, the model"
        f" takes {wanted}; one of them is of another model"
      )
    if below and not 0 <= array.min() <= array.max() < below:
      raise UserError(
        f"io.npz: {name} is from {array.min()} to {array.max()}; allowed: 0 to"
        f" {below - 1}"
      )
    self.used.add(name)
    return array.astype(np.uint8) if array.dtype == bool else array

  def left(self) -> list[str]:
    """A note of what nothing was compared with, [] where all was."""
    rest = sorted(self.arrays.keys() - self.used)
    return [f"not compared: {', '.join(rest)}"] if rest else []


def tower(config: VisionConfig, params, pictures):
  """(states [layers + 1, B, J, width], those behind the norm, features).

  pictures: as `vision.Vision` takes them. params: `vision` of a model; where
  they have no connector, the features mean nothing.
  """
  if "connector1" not in params:
    square = jnp.zeros((config.width, config.width))
    own = {"kernel": square, "bias": square[0]}
    params = dict(params, connector1=own, connector2=own)
  d_model = params["connector2"]["bias"].shape[0]
  whole = vision.Vision(config, d_model, "float32", "float32")
  (features, _), kept = whole.apply(
    {"params": params},
    pictures,
    capture_intermediates=lambda module, _: module.name == "norm",
    mutable=["intermediates"],
  )
  found = kept["intermediates"]
  (last,) = found["norm"]["__call__"] if "norm" in found else (None,)
  return found["states"][0], last, features


def compare_tower(sizes: dict, leaves: dict, arrays: Expected):
  """Pairs of arrays (ours, theirs) by name, of a tower alone.

  sizes, leaves: of an import. arrays: pixels [B, 3, side, side] and
  last_hidden_state; image_u8 [B, side, side, 3] and last_hidden_state_u8; or,
  of pictures of any shape, patches [B, J, values], mask [B, J], spatial_shapes
  [B, 2] in patches and last_hidden_state. With either there may be hidden
  [layers, B, J, D], what each layer is given.
  """
  config = VisionConfig(**sizes["vision"])
  params = traverse_util.unflatten_dict(
    {path: np.asarray(leaf, np.float32) for path, leaf in leaves.items()},
    sep="/",
  )["params"]["vision"]
  with jax.default_matmul_precision("highest"):
    return _compare_tower(config, params, arrays)


def _compare_tower(config: VisionConfig, params, arrays: Expected):
  found, side = {}, config.image_size
  shape = (None, config.cells, config.width)
  if "pixels" in arrays:
    pixels = arrays.take("pixels", FLOATS, None, 3, None, None)
    _square(pixels.shape[2:], side, config.patch)
    pixels = np.moveaxis(pixels, 1, -1)[:, :side, :side]
    ours = tower(config, params, patches.from_pixels(pixels, config))
    found |= _by_layer(*ours[:2], arrays, np.ones(ours[1].shape[:2], bool))
  if "image_u8" in arrays:
    images = arrays.take("image_u8", "u", None, None, None, 3)
    _square(images.shape[1:3], side, config.patch)
    wanted = arrays.take("last_hidden_state_u8", FLOATS, *shape)
    last = tower(config, params, images[:, :side, :side])[1]
    found["last_hidden_state_u8"] = (last, wanted)
  if "spatial_shapes" in arrays:
    values = arrays.take("patches", FLOATS, None, None, config.values)
    exists = arrays.take("mask", INTEGERS, *values.shape[:2], below=2) > 0
    grids = arrays.take("spatial_shapes", INTEGERS, len(values), 2)
    if grids.min() < 1 or (grids.prod(axis=1) != exists.sum(axis=1)).any():
      raise UserError("io.npz: mask and spatial_shapes are of other pictures")
    config = dataclasses.replace(config, position="averaged")
    place = np.zeros((2, *exists.shape), np.int32)
    for i, grid in enumerate(grids):
      place[:, i, : grid.prod()] = patches.places(*map(int, grid), merge=1)
    given = patches.Patches(values, *place, exists)
    found |= _by_layer(*tower(config, params, given)[:2], arrays, exists)
  if not found:
    raise UserError(
      "io.npz has nothing to compare the tower with: no pixels, image_u8 or"
      " patches with spatial_shapes"
    )
  return found


def _by_layer(states, last_BJD, arrays: Expected, exists_BJ) -> dict:
  """Pairs of arrays by name of what is expected of the states of `tower`."""
  shape, pairs = last_BJD.shape, {}
  if "hidden" in arrays:
    given = states[:-1]
    hidden = arrays.take("hidden", FLOATS, len(given), *shape)
    pairs = {f"hidden {i}": pair for i, pair in enumerate(zip(given, hidden))}
  last = arrays.take("last_hidden_state", FLOATS, *shape)
  pairs["last_hidden_state"] = (last_BJD, last)
  return {
    name: (np.asarray(ours)[exists_BJ], theirs[exists_BJ])
    for name, (ours, theirs) in pairs.items()
  }


def _square(shape, side: int, patch: int) -> None:
  if shape[0] != shape[1] or shape[0] // patch * patch != side:
    raise UserError(
      f"io.npz has pictures of {list(shape)} pixels, the tower takes {side}"
    )


def compare_whole(model: Unified, params, arrays: Expected):
  """Pairs of arrays (ours, theirs) by name, of a model that sees and draws.

  arrays, of one row of L tokens: ids [L], kind [L] (0 text, 1 picture, 2
  drawn), position [L], group [L] (a token attends to those of its own group and
  of those before), patches [J, values] and patch_position [J] (row * side +
  column) of the picture, gen_inputs [drawn, D] where something is drawn ->
  image_features [J, D], hidden [L, D], logits [L, V]. Positions and groups are
  computed by the rule of our rows, and compared, too.
  """
  with jax.default_matmul_precision("highest"):
    return _compare_whole(model, params, arrays)


def _compare_whole(model: Unified, params, arrays: Expected):
  config, own = model.config, params["params"]["vision"]
  tables = config.vision
  values = arrays.take("patches", FLOATS, None, tables.values)
  count = len(values)
  place = arrays.take("patch_position", INTEGERS, count, below=tables.cells)
  row, column = np.divmod(place[None], tables.grid)
  given = patches.Patches(values[None], row, column)
  features = tower(tables, own, given)[2]
  found = {
    "image_features": (
      features[0],
      arrays.take("image_features", FLOATS, count, config.d_model),
    )
  }
  kind = arrays.take("kind", INTEGERS, None, below=len(KINDS))
  length, drawn = len(kind), int(np.sum(kind == 2))
  if np.sum(kind == 1) != count:
    raise UserError(
      f"io.npz: kind has {np.sum(kind == 1)} cells of a picture, patches"
      f" {count}"
    )
  ids = arrays.take("ids", INTEGERS, length, below=config.text)
  position = arrays.take("position", INTEGERS, length)
  row, column, order = places(kind, config)
  found["position"] = (np.stack([row, column]), np.stack([position] * 2))
  found["group"] = (order, arrays.take("group", INTEGERS, length))
  tokens, layout, _ = text_model.inputs(ids[None], config)
  tokens = tokens.replace(
    kind=jnp.asarray(KINDS, jnp.int32)[kind][None],
    row=row[None],
    column=column[None],
  )
  x = params["params"]["embedding"][ids]
  x = x.at[np.flatnonzero(kind == 1)].set(features[0])
  if drawn:
    given = arrays.take("gen_inputs", FLOATS, drawn, config.d_model)
    x = x.at[np.flatnonzero(kind == 2)].set(given)
  mask = masks.attention_mask(layout.replace(order=order[None]))
  hidden = model.apply(params, x[None], tokens, mask, method=_decoded)
  logits = model.apply(params, hidden, method=text_model.logits)
  found["hidden"] = (
    hidden[0],
    arrays.take("hidden", FLOATS, length, config.d_model),
  )
  found["logits"] = (
    logits[0],
    arrays.take("logits", FLOATS, length, config.text),
  )
  return found


def places(kind_L, config: ModelConfig):
  """(row, column, order), each i32 [L], by the rule of `sequences/row.py`.

  Text moves on by one. The cells of a picture share one place, and what is
  drawn shares one. kind_L: as in `compare_whole`.
  """
  at, order = 0, 0
  found = []
  for kind, run in itertools.groupby(kind_L.tolist()):
    count = len([*run])
    own = np.zeros((3, count), np.int32)
    ahead = (1, 1)  # of the position, and of the order
    if kind == KINDS.index(TEXT):
      own, ahead = np.tile(np.arange(count), (3, 1)), (count, count)
    elif kind == KINDS.index(IMAGE):
      layout = segments.image_layout(config, 1, count)
      own += np.stack([layout.row, layout.column, layout.order])
      ahead = (layout.advance, 1 + int(layout.order[-1]))
    found.append(own + np.array([[at], [at], [order]]))
    at, order = at + ahead[0], order + ahead[1]
  return np.concatenate(found, axis=1).astype(np.int32)


def _decoded(model: Unified, x_BLD, tokens: Tokens, mask):
  return model.decoder(x_BLD, model.shared(tokens) | {"mask": mask})[0]
