"""The tower of an import on pictures, and the whole of a model that draws.

What a folder's own class gave is of patches, of pictures of any shape. A run
has square pictures, for which the tower is the model's own forward pass; here
its parts are called one after the other, with the positions that are said.
"""

import itertools
import math

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cooper_jax.errors import UserError
from cooper_jax.models import layers, masks, vision
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.models.token_kinds import CODE, IMAGE, TEXT
from cooper_jax.models.unified import Tokens, Unified
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


def tower(config: VisionConfig, params, patches_BJP, position_BJD, exists_BJ):
  """(what the stem gives, each layer's states, those behind the norm).

  Each [B, J, D], D the tower's width. params: `vision` of a model.
  """
  dtypes = {"dtype": "float32", "operands": "float32"}
  axes = ("pixels", "embed")
  stem = layers.Linear(config.width, axes, bias=True, parent=None, **dtypes)
  x = stem.apply({"params": params["stem"]}, patches_BJP) + position_BJD
  states = [x]
  block = vision.VisionBlock(config, **dtypes, parent=None)
  for layer in range(config.layers):
    own = jax.tree.map(lambda leaf: leaf[layer], params["blocks"])  # noqa: B023
    x, _ = block.apply({"params": own}, x, exists_BJ)
    states.append(x)
  own, centred = params["norm"], x - x.mean(axis=-1, keepdims=True)
  variance = jnp.mean(centred**2, axis=-1, keepdims=True)
  x = centred * jax.lax.rsqrt(variance + config.norm_eps)
  return [*states, x * own["scale"] + own["bias"]]


def connected(params, x_BJD):
  """What the decoder is given [B, J, D'] of the tower's last states."""
  for i in (1, 2):
    own = params[f"connector{i}"]
    x_BJD = x_BJD @ own["kernel"] + own["bias"]
    x_BJD = jax.nn.gelu(x_BJD, approximate=True) if i == 1 else x_BJD
  return x_BJD


def patches_of(pictures_BHWC, patch: int) -> np.ndarray:
  """Patches [B, J, values] of pictures; pixels that fill none are left out."""
  height, width = (n // patch * patch for n in pictures_BHWC.shape[1:3])
  return einops.rearrange(
    pictures_BHWC[:, :height, :width],
    "b (h p) (w q) c -> b (h w) (p q c)",
    p=patch,
    q=patch,
  )


def resized(table_JD, height: int, width: int) -> np.ndarray:
  """A table of positions [height * width, D] for a picture of that grid.

  Bilinear, averaged where it shrinks, as SigLIP2 does for pictures of any
  shape.
  """
  side = math.isqrt(len(table_JD))
  square = np.reshape(table_JD, (side, side, -1))
  shape = (height, width, square.shape[-1])
  made = jax.image.resize(square, shape, "linear", antialias=True)
  return np.reshape(made, (height * width, -1))


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
  found, table, side = {}, params["position"], config.image_size
  states = (None, config.cells, config.width)
  if "pixels" in arrays:
    pixels = arrays.take("pixels", FLOATS, None, 3, None, None)
    _square(pixels.shape[2:], side, config.patch)
    x = patches_of(np.moveaxis(pixels, 1, -1), config.patch)
    ours = tower(config, params, x, table, None)
    found |= _by_layer(ours, arrays, np.ones(x.shape[:2], bool))
  if "image_u8" in arrays:
    images = arrays.take("image_u8", "u", None, None, None, 3)
    _square(images.shape[1:3], side, config.patch)
    images = images[:, :side, :side]
    wanted = arrays.take("last_hidden_state_u8", FLOATS, *states)
    found["last_hidden_state_u8"] = (_whole(config, params, images), wanted)
  if "spatial_shapes" in arrays:
    values = 3 * config.patch**2
    patches = arrays.take("patches", FLOATS, None, None, values)
    exists = arrays.take("mask", INTEGERS, *patches.shape[:2], below=2) > 0
    grids = arrays.take("spatial_shapes", INTEGERS, len(patches), 2)
    if grids.min() < 1 or (grids.prod(axis=1) != exists.sum(axis=1)).any():
      raise UserError("io.npz: mask and spatial_shapes are of other pictures")
    position = np.zeros((*patches.shape[:2], config.width), np.float32)
    for row, grid in zip(position, grids, strict=True):
      row[: grid.prod()] = resized(table, *map(int, grid))
    ours = tower(config, params, patches, position, exists)
    found |= _by_layer(ours, arrays, exists)
  if not found:
    raise UserError(
      "io.npz has nothing to compare the tower with: no pixels, image_u8 or"
      " patches with spatial_shapes"
    )
  return found


def _by_layer(states: list, arrays: Expected, exists_BJ) -> dict:
  """Pairs of arrays by name of what is expected of the states of `tower`."""
  shape, pairs = np.shape(states[0]), {}
  if "hidden" in arrays:
    *given, _, _ = states
    hidden = arrays.take("hidden", FLOATS, len(given), *shape)
    pairs = {f"hidden {i}": pair for i, pair in enumerate(zip(given, hidden))}
  last = arrays.take("last_hidden_state", FLOATS, *shape)
  pairs["last_hidden_state"] = (states[-1], last)
  return {
    name: (np.asarray(ours)[exists_BJ], theirs[exists_BJ])
    for name, (ours, theirs) in pairs.items()
  }


def _square(shape, side: int, patch: int) -> None:
  if shape[0] != shape[1] or shape[0] // patch * patch != side:
    raise UserError(
      f"io.npz has pictures of {list(shape)} pixels, the tower takes {side}"
    )


def _whole(config: VisionConfig, params, images):
  """What the model's own forward pass has behind the tower's norm."""
  square = jnp.zeros((config.width, config.width))
  own = {"kernel": square, "bias": square[0]}
  params = dict(params, connector1=own, connector2=own)
  whole = vision.Vision(config, config.width, "float32", "float32")
  _, kept = whole.apply(
    {"params": params},
    images,
    capture_intermediates=lambda module, _: module.name == "norm",
    mutable=["intermediates"],
  )
  (found,) = jax.tree.leaves(kept)
  return found


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
  tables, values = config.vision, 3 * config.vision.patch**2
  patches = arrays.take("patches", FLOATS, None, values)
  count = len(patches)
  place = arrays.take("patch_position", INTEGERS, count, below=tables.cells)
  states = tower(tables, own, patches[None], own["position"][place], None)
  features = connected(own, states[-1]) + own["cell_table"][place]
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
  row, column, order = places(kind, place, config)
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
  logits = model.apply(params, hidden, method=_logits)
  found["hidden"] = (
    hidden[0],
    arrays.take("hidden", FLOATS, length, config.d_model),
  )
  found["logits"] = (
    logits[0],
    arrays.take("logits", FLOATS, length, config.text),
  )
  return found


def places(kind_L, place_J, config: ModelConfig):
  """(row, column, order), each i32 [L], by the rule of `sequences/row.py`.

  Text moves on by one. The cells of a picture share one place, or lie on it by
  row and column; what is drawn shares one. kind_L, place_J: as in
  `compare_whole`.
  """
  at, order, seen, side = 0, 0, 0, config.vision.grid
  found = []
  for kind, run in itertools.groupby(kind_L.tolist()):
    count = len([*run])
    own = np.zeros((3, count), np.int32)
    ahead = (1, 1)  # of the position, and of the order
    if kind == KINDS.index(TEXT):
      own, ahead = np.tile(np.arange(count), (3, 1)), (count, count)
    elif kind == KINDS.index(IMAGE):
      cells, seen = place_J[seen : seen + count], seen + count
      if not config.one_position:
        own[:2] = cells // side, cells % side
      ahead = (config.image_advance, 1)
    found.append(own + np.array([[at], [at], [order]]))
    at, order = at + ahead[0], order + ahead[1]
  return np.concatenate(found, axis=1).astype(np.int32)


def _decoded(model: Unified, x_BLD, tokens: Tokens, mask):
  return model.decoder(x_BLD, model.shared(tokens) | {"mask": mask})[0]


def _logits(model: Unified, hidden_BLD):
  """Logits [B, L, V] of the folder's tokens."""
  shape = hidden_BLD.shape[:2]
  keys = jnp.zeros((shape[0], 1, model.config.d_model))
  start, exists = jnp.zeros(shape, jnp.int32), jnp.ones((shape[0], 1), bool)
  logits = model.text_logits(hidden_BLD, keys, start, exists)
  return logits[..., : model.config.text]
