"""Patches: what the image encoder takes of pictures of any shape.

Patches of a picture may come in any order, but where n x n of them merge into a
cell those of a cell are neighbours, row by row; and so are the cells.
"""

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from cooper_jax.models import layers
from cooper_jax.models.config import RGB, VisionConfig


@struct.dataclass
class Patches:
  """J patches of each of B pictures, those of smaller pictures padded.

  values: floats [B, J, values], by frame, row, column and colour; the colours
    are less their mean, by their deviation.
  row, column: places i32 [B, J], in patches; B may be 1 where all are alike.
  exists: bool [B, J], whether a picture has this patch; None = all are there.
  """

  values: jax.Array
  row: jax.Array
  column: jax.Array
  exists: jax.Array | None = None


@struct.dataclass
class PackedPictures:
  """B pictures of a few shapes, as batches bring them; `packed` makes one.

  pixels: u8 [B, J, patch^2 * 3], J patches of which smaller pictures have the
    first, by row, column and colour.
  image_shape: i32 [B], which of `VisionConfig.grids` each has.
  """

  pixels: jax.Array
  image_shape: jax.Array


def packed(image, config: VisionConfig) -> np.ndarray:
  """The patches u8 [J, patch^2 * 3] of a picture u8 [H, W, 3], padded.

  Its sides are multiples of a cell.
  """
  n, patch = max(config.merge, 1), config.patch
  values = _folded(image[None], n, patch)[0]
  out = np.zeros((config.cells * n * n, patch * patch * RGB), np.uint8)
  out[: len(values)] = values
  return out


def of_pictures(pictures: PackedPictures, config: VisionConfig, dtype: str):
  """The `Patches`, of B pictures [B, J], of packed ones, with their places."""
  n, patch = max(config.merge, 1), config.patch
  table = np.zeros((3, len(config.grids), config.cells * n * n), np.int32)
  for shape, grid in enumerate(config.grids):
    row, column = places(*(side * n for side in grid), n)
    table[0, shape, : len(row)] = row
    table[1, shape, : len(row)] = column
    table[2, shape, : len(row)] = 1
  row, column, exists = (
    jnp.asarray(each)[pictures.image_shape] for each in table
  )
  colours = pictures.pixels.reshape(*pictures.pixels.shape[:2], -1, RGB)
  values = normalised(colours, config, dtype)
  values = values.reshape(*values.shape[:2], patch * patch * RGB)
  values = jnp.concatenate([values] * config.frames, axis=-1)
  return Patches(values, row, column, exists > 0)


def normalised(images, config: VisionConfig, dtype: str):
  """Colours of images u8 [..., 3] as the tower takes them, as floats."""
  half = (0.5, 0.5, 0.5)
  if tuple(config.mean) == tuple(config.deviation) == half:
    return images.astype(dtype) / 127.5 - 1.0
  mean, deviation = (
    np.asarray(each, np.float32) for each in (config.mean, config.deviation)
  )
  found = (images.astype(jnp.float32) / 255 - mean) / deviation
  return found.astype(dtype)


def from_pixels(pixels, config: VisionConfig) -> Patches:
  """The patches of pictures [B, H, W, 3], both sides multiples of a cell.

  A still picture is each of the frames that a patch spans.
  """
  n, patch = max(config.merge, 1), config.patch
  values = _folded(pixels, n, patch)
  row, column = places(*(side // patch for side in pixels.shape[1:3]), n)
  return Patches(
    jnp.concatenate([values] * config.frames, axis=-1), row[None], column[None]
  )


def of_states(states_BJD, config: VisionConfig):
  """(states, their `Patches`) of squares whose states come row by row.

  Those of a cell become neighbours.
  """
  side = config.image_size // config.patch
  row, column = places(side, side, max(config.merge, 1))
  states_BJD = states_BJD[:, row * side + column]
  return states_BJD, Patches(states_BJD, row[None], column[None])


def _folded(pixels, n: int, patch: int):
  """Patches [B, J, patch^2 * 3] of [B, H, W, 3], those of a cell together."""
  return einops.rearrange(
    pixels,
    "b (h n p) (w m q) c -> b (h w n m) (p q c)",
    n=n,
    m=n,
    p=patch,
    q=patch,
  )


def places(height: int, width: int, merge: int) -> np.ndarray:
  """(row, column), each i32 [height * width], of a grid of patches.

  Those that merge into a cell are neighbours. merge: 1 = row by row.
  """
  both = np.indices((height, width), np.int32)
  return einops.rearrange(
    both, "two (h n) (w m) -> two (h w n m)", n=merge, m=merge
  )


def positions(table_JD, patches: Patches, kind: str):
  """What a table of a square has of each patch [B, J, D].

  kind: "grid", "averaged" or "resized", of `VisionConfig.position`.
  """
  side = round(len(table_JD) ** 0.5)
  axes = patches.row, patches.column
  if kind == "grid":
    row, column = axes
    return table_JD[row * side + column]
  if kind == "averaged":
    row, column = (
      _averages(place, _size(place, patches.exists), side) for place in axes
    )
    square = einops.rearrange(table_JD, "(h w) d -> h w d", h=side)
    return jnp.einsum("bjh,bjw,hwd->bjd", row, column, square)
  found = 0.0
  row, column = (
    _neighbours(place, _size(place, patches.exists), side) for place in axes
  )
  for at_row, row_share in row:
    for at_column, column_share in column:
      share = (row_share * column_share)[..., None]
      found += share * table_JD[at_row * side + at_column]
  return found


def _size(place_BJ, exists_BJ):
  """Rows, or columns, of each picture [B, 1], by the last that it has."""
  if exists_BJ is not None:
    place_BJ = jnp.where(exists_BJ, place_BJ, 0)
  return jnp.max(place_BJ, axis=1, keepdims=True) + 1


def _averages(place_BJ, size_B1, side: int):
  """Share [B, J, side] of each row of a table, more where it shrinks.

  As SigLIP2 has it (antialias); cells have their places in their middles.
  """
  shrinks = side / size_B1.astype(jnp.float32)
  middle = (place_BJ + 0.5) * shrinks - 0.5
  reach = jnp.maximum(shrinks, 1.0)[..., None]
  share = jnp.maximum(
    0.0, 1.0 - jnp.abs(jnp.arange(side) - middle[..., None]) / reach
  )
  return share / share.sum(axis=-1, keepdims=True)


def _neighbours(place_BJ, size_B1, side: int):
  """Two pairs of (row of a table, its share), each [B, J].

  The first and the last place are the table's first and last (Qwen3-VL).
  """
  last = jnp.maximum(size_B1 - 1, 1).astype(jnp.float32)
  at = place_BJ * ((side - 1) / last)
  low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, side - 1)
  share = at - low
  return (low, 1.0 - share), (jnp.minimum(low + 1, side - 1), share)


def turn(patches: Patches, config: VisionConfig):
  """(cos, sin) of rotary positions, as `layers.apply_rope` has it."""
  return layers.rope_turn(
    layers.tower_angles(
      patches.row,
      patches.column,
      head_dim=config.head_dim,
      theta=config.rope_theta,
    )
  )


def same_window(patches: Patches, config: VisionConfig):
  """Which patches are in one window [B, J, J]."""
  pixels = max(config.merge, 1) * config.window
  row, column = patches.row // pixels, patches.column // pixels
  return (row[:, :, None] == row[:, None]) & (
    column[:, :, None] == column[:, None]
  )
