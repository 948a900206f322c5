"""Masks of attention: the one rule of who may see whom in a row.

A row holds documents, each a trunk and branches that continue it.
"""

import einops
import jax
from flax import struct

from cooper_jax.models.config import BinLayout


@struct.dataclass
class RowLayout:
  """Who may attend to whom, each [B, L] int32 (see `attention_mask`)."""

  document: jax.Array  # 0 is padding
  branch: jax.Array  # 0 is the trunk
  order: jax.Array


def attention_mask(layout: RowLayout):
  """Returns the mask [B, L, L]: the one rule of attention.

  A query attends to a key iff both are of the same document, the key is on
  the trunk or on the query's branch, and order[query] >= order[key].
  """
  query, key = (
    jax.tree.map(lambda x: x[:, :, None], layout),
    jax.tree.map(lambda x: x[:, None, :], layout),
  )
  return (
    (query.document == key.document)
    & (key.document > 0)
    & ((key.branch == 0) | (key.branch == query.branch))
    & (query.order >= key.order)
  )


def bin_masks(layout: RowLayout, bins: BinLayout):
  """The same rule for rows of a trunk and n bins, as `attend_bins` takes it.

  Returns {"trunk": [B, trunk, trunk], "own": [B * n, bin_size, bin_size]}.
  """
  trunk = jax.tree.map(lambda x: x[:, : bins.trunk], layout)
  own = jax.tree.map(
    lambda x: einops.rearrange(
      x[:, bins.trunk :], "b (n l) -> (b n) l", l=bins.bin_size
    ),
    layout,
  )
  return {"trunk": attention_mask(trunk), "own": attention_mask(own)}
