"""Masks of attention: the one rule of who may see whom in a row.

A row holds documents, each a trunk and branches that continue it.
"""

import einops
import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.models.config import BinLayout

# Of `RowLayout.view`; 0 is neither.
PICTURE, BLIND = 1, 2


@struct.dataclass
class RowLayout:
  """Who may attend to whom, each [B, L] int32 (see `attention_mask`)."""

  document: jax.Array  # 0 is padding
  branch: jax.Array  # 0 is the trunk
  order: jax.Array
  # PICTURE: a cell of an image, BLIND: it may see none. None where all may.
  view: jax.Array | None = None


def attention_mask(layout: RowLayout):
  """Returns the mask [B, L, L]: the one rule of attention.

  A query attends to a key iff both are of the same document, the key is on
  the trunk or on the query's branch, and order[query] >= order[key]. What is
  blind attends to no cell of an image (view dropout).
  """
  query, key = (
    jax.tree.map(lambda x: x[:, :, None], layout),
    jax.tree.map(lambda x: x[:, None, :], layout),
  )
  mask = (
    (query.document == key.document)
    & (key.document > 0)
    & ((key.branch == 0) | (key.branch == query.branch))
    & (query.order >= key.order)
  )
  return mask & _seen(query, key)


def _seen(query: RowLayout, key: RowLayout):
  """Whether a query may see a key, image cell or not, for its view alone."""
  if query.view is None:
    return True
  return (query.view != BLIND) | (key.view != PICTURE)


def bin_masks(layout: RowLayout, bins: BinLayout):
  """The same rule for rows of a trunk and n bins, as `attend_bins` takes it.

  Returns {"trunk": [B, trunk, trunk], "own": [B * n, bin_size, bin_size],
  "of_trunk": [B * n, bin_size, trunk]}, the last what of the trunk is seen.
  """
  count = bins.bins_in(layout.order.shape[1])
  trunk = jax.tree.map(lambda x: x[:, : bins.trunk], layout)
  own = jax.tree.map(
    lambda x: einops.rearrange(
      x[:, bins.trunk :], "b (n l) -> (b n) l", l=bins.bin_size
    ),
    layout,
  )
  on_trunk = attention_mask(trunk)
  # A trunk's padding is the only part of it that a branch that is not blind
  # may not see.
  exists = _spread(jnp.any(on_trunk, axis=1), count)[:, None]
  of_trunk = jnp.broadcast_to(exists, (*own.order.shape, bins.trunk))
  query = jax.tree.map(lambda x: x[:, :, None], own)
  key = jax.tree.map(lambda x: _spread(x, count)[:, None, :], trunk)
  return {
    "trunk": on_trunk,
    "own": attention_mask(own),
    "of_trunk": of_trunk & _seen(query, key),
  }


def _spread(rows, count: int):
  """Each of B rows `count` times, one after the other: [B * count, ...]."""
  return jnp.repeat(rows, count, axis=0)
