"""Heads of the unified transformer: hidden states -> logits.

Text and specials have rows of a table, codes too, and locations point at image
cells.
"""

import jax.numpy as jnp
from flax import linen as nn

from cooper_jax.models import attention, products, tables
from cooper_jax.models.config import ModelConfig
from cooper_jax.parallel.shard import constrain
from cooper_jax.tokenizers import quantize


class Heads(nn.Module):
  """What `unified.Unified` predicts with, whose parameters it makes: embedding,
  head, their digits, point_from and point_to.
  """

  config: ModelConfig
  text_rows: int  # V, of text, specials and locations

  def cell_keys(self, hidden_BLD, image_at_BJ):
    """Returns what locations point at [B, J, D], from image hiddens."""
    at = jnp.take_along_axis(
      hidden_BLD, jnp.maximum(image_at_BJ, 0)[..., None], axis=1
    )
    return self.point_to(at) if self.config.pointer else at

  def laid_out(self):
    """The head as `text_logits` and `code_logits` can be given it, made once
    for many calls: of V rows those of text and specials, and those of codes,
    each as `products.of_few` asks for it.
    """
    table = self.embedding if self.config.tied_head else self.head
    (words,) = tables.rows(table, 0, self.text_rows - self.config.locations)
    operands = self.config.operands
    return tuple(
      products.laid_out(rows.astype(operands).T, operands=operands)
      for rows in (words, self._code_rows())
    )

  def text_logits(
    self, hidden_BLD, keys_BJD, cell_start_BL, exists_BJ, laid_out=None
  ):
    """Logits f32 [B, L, V] over text, specials and locations.

    As `text_parts`, put together: for the sampler, whose tables are whole.
    """
    parts = self.text_parts(
      hidden_BLD, keys_BJD, cell_start_BL, exists_BJ, laid_out, sharded=False
    )
    return jnp.concatenate(parts, axis=-1)

  def text_parts(
    self,
    hidden_BLD,
    keys_BJD,
    cell_start_BL,
    exists_BJ,
    laid_out=None,
    *,
    sharded,
  ):
    """Logits f32 of text and specials, and of the locations of one image.

    Side by side they are [B, L, V].

    Args:
      hidden_BLD: float32.
      keys_BJD: of `cell_keys`, the cells of all images of the row.
      cell_start_BL: first cell of the image that a location would point at.
      exists_BJ: which cells there are; no location is named where none is.
      laid_out: the first of `laid_out`, or None.
      sharded: whether every device has some of the words for all rows of the
        batch, so that no device ever holds the table, nor sends it.
    """
    c = self.config
    table = self.embedding if c.tied_head else self.head
    words = self.text_rows - c.locations
    asked_BLD, named = hidden_BLD.astype(c.dtype), tables.rows(table, 0, words)
    if sharded:
      asked_BLD = constrain(asked_BLD, "copies", None, None)
      named = [constrain(part, "logits", None) for part in named]
    logits = self._logits(asked_BLD, named, laid_out)
    if sharded:
      logits = constrain(logits, "copies", None, "logits")
    # Rows without room for an image have no cells at all.
    short = ((0, 0), (0, max(0, c.locations - exists_BJ.shape[1])))
    exists, index = jnp.pad(exists_BJ, short)[:, None], None
    if exists_BJ.shape[1] > c.locations:
      index = cell_start_BL[..., None] + jnp.arange(c.locations)
      exists = jnp.take_along_axis(exists, index, axis=-1)
    if not c.pointer:
      named = tables.rows(table, words, self.text_rows)
      cells = self._logits(hidden_BLD, named)
      return logits, jnp.where(exists, cells, attention.NEGATIVE)
    cells = jnp.einsum(
      "bld,bjd->blj", self.point_from(hidden_BLD), keys_BJD
    ) * (c.d_model**-0.5)
    cells = jnp.pad(cells, ((0, 0), *short))
    if index is not None:
      cells = jnp.take_along_axis(cells, index, axis=-1)
    return logits, jnp.where(exists, cells, attention.NEGATIVE)

  def code_logits(self, hidden_BLD, laid_out=None):
    """Logits f32 [B, L, C] over the codes of a map.

    laid_out: the second of `laid_out`, or None.
    """
    return self._logits(hidden_BLD, [self._code_rows()], laid_out)

  def _logits(self, hidden_BLD, parts, laid_out=None):
    # Hidden states are a norm's, of that dtype, and widened: nothing is lost.
    hidden_BLD = hidden_BLD.astype(self.config.dtype)
    dtypes = {"operands": self.config.operands, "result": "float32"}
    if laid_out is not None:
      return products.of_few(hidden_BLD, laid_out, **dtypes)
    found = [products.against_rows(hidden_BLD, x, **dtypes) for x in parts]
    return found[0] if len(found) == 1 else jnp.concatenate(found, axis=-1)

  def _code_rows(self):
    """The head's rows of codes, with those of their digits."""
    c = self.config
    table = self.embedding if c.tied_head else self.head
    (rows,) = tables.rows(table, self.text_rows)
    if not c.digits:
      return rows
    digits = self.embedding_digits if c.tied_head else self.head_digits
    # Rounded before and after, as where the sampler has the table rounded.
    return rows.astype(c.operands) + quantize.fsq_digits(c.digits) @ digits
