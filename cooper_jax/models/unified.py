"""The unified transformer: tokens and images in, hidden states and logits out.

The parameters are a plain pytree; several trees (policy, reference, average)
pass through the same functions.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from cooper_jax.models import (
  attention,
  layers,
  masks,
  products,
  tables,
  transformer,
  vision,
)
from cooper_jax.models.cache import Cache
from cooper_jax.models.config import BinLayout, ModelConfig
from cooper_jax.models.token_kinds import CODE, IMAGE, TEXT
from cooper_jax.parallel.shard import constrain
from cooper_jax.tokenizers import quantize


@struct.dataclass
class Tokens:
  """What the model reads, each [B, L] int32 but for `read`.

  ids: unified vocabulary; an image cell's id is not looked at.
  kind: PAD, TEXT (location tokens too), IMAGE or CODE.
  row, column: positions of the two-axis RoPE.
  cell: index into the row's J image cells, of the cell that this token is,
    points at or is aligned with; -1 none.
  query: index of the map cell that this position predicts; -1 none.
  opening: id of the map's opening special, for CODE.
  previous: id of the preceding text token; -1 none.
  read: [B, L, M, 2], for a location token the ids of the code under it and of
    the opening, of each of M = max_maps maps before it in its answer; -1 none.
  """

  ids: jax.Array
  kind: jax.Array
  row: jax.Array
  column: jax.Array
  cell: jax.Array
  query: jax.Array
  opening: jax.Array
  previous: jax.Array
  read: jax.Array


class Unified(nn.Module):
  """Embedding, vision, decoder and heads.

  One table holds the rows `text | specials | locations | codes`; `code_start`
  is the first code row, `text_rows` = code_start the rows that a text position
  may choose from.

  An FSQ code is made of digits (`config.digits`), and so is its row: its own
  vector plus one for each digit. What is learned of a code holds in part for
  all that share a digit with it; still a softmax over all C codes.
  """

  config: ModelConfig
  text_rows: int  # V, of text, specials and locations

  def setup(self):
    c = self.config
    rows = self.text_rows + c.codes

    def table(scale):
      init = nn.initializers.normal(scale)
      return nn.with_logical_partitioning(init, ("vocabulary", "table"))

    # A tied table must start small for its logits; a table of inputs alone
    # starts at the scale of the image features beside it.
    scale = 0.02 if c.tied_head else 0.5
    shape = (rows, c.d_model)
    self.embedding = tables.table(self, "embedding", table(scale), shape)
    if not c.tied_head:
      self.head = tables.table(self, "head", table(0.02), shape)
    if c.digits:
      each = scale * len(c.digits) ** -0.5
      self.embedding_digits = self._digits("embedding_digits", each)
      if not c.tied_head:
        self.head_digits = self._digits("head_digits", 0.02)
    self.map_query = layers.parameter(
      self,
      "map_query",
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), ("cells", "embed")
      ),
      (c.map_codes, c.d_model),
    )
    self.vision = vision.Vision(
      c.vision, c.d_model, c.dtype, c.operands, c.remat
    )
    self.decoder = transformer.Transformer(c)
    square = {"features": c.d_model, "axes": ("embed", "ffn")}
    rounded = square | {"dtype": c.dtype, "operands": c.operands}
    if c.aligned_queries:
      self.align = layers.Linear(**rounded)
    if c.smear:
      self.smear = layers.Linear(**rounded)
    if c.map_lookup:
      self.read = layers.Linear(**rounded)
    if c.pointer:
      # A place that was named is read by row and column, too: what is learned
      # of one cell holds for its neighbours.
      place = nn.with_logical_partitioning(
        nn.initializers.normal(scale), ("cells", "embed")
      )
      self.place = layers.parameter(
        self, "place", place, (2 * c.vision.grid, c.d_model)
      )
      self.look = layers.Linear(**rounded)
      self.point_from = layers.Linear(**square)
      self.point_to = layers.Linear(**square)

  def _digits(self, name, scale):
    init = nn.with_logical_partitioning(
      nn.initializers.normal(scale), ("digits", "embed")
    )
    shape = (sum(self.config.digits), self.config.d_model)
    return layers.parameter(self, name, init, shape)

  def see(self, images):
    """Image features [B, J, D] of images u8 [B, images, side, side, 3]."""
    batch, count = images.shape[:2]
    flat = self.vision(images.reshape(-1, *images.shape[2:]))
    return flat.reshape(batch, count * flat.shape[1], flat.shape[2])

  def embed(self, tokens: Tokens, features_BJD, *, sharded: bool):
    """Returns the decoder's input [B, L, D].

    sharded: whether the parameters are sharded as in training.
    """
    c = self.config
    x = self._rows(tokens.ids, sharded)
    is_code = (tokens.kind == CODE)[..., None]
    seen = jnp.take_along_axis(
      features_BJD, jnp.maximum(tokens.cell, 0)[..., None], axis=1
    )
    has_cell = (tokens.cell >= 0)[..., None]
    if c.smear:
      smeared = self.smear(self._table(tokens.previous, sharded))
      x = x + jnp.where((tokens.previous >= 0)[..., None], smeared, 0)
    if c.map_lookup:
      code, opening = tokens.read[..., 0], tokens.read[..., 1]
      drawn = self._rows(code, sharded) + self._table(opening, sharded)
      there = code >= 0
      drawn = jnp.where(there[..., None], drawn, 0).sum(axis=-2)
      any_there = jnp.any(there, axis=-1)[..., None]
      x = x + jnp.where(any_there, self.read(drawn), 0)
    if c.pointer:
      looks = has_cell & (tokens.kind == TEXT)[..., None]
      grid = c.vision.grid
      cell = jnp.maximum(tokens.cell, 0) % c.locations
      place = self.place[cell // grid] + self.place[grid + cell % grid]
      x = x + jnp.where(looks, self.look(seen) + place.astype(c.dtype), 0)
    target = self.map_query[jnp.maximum(tokens.query, 0)].astype(c.dtype)
    x = x + jnp.where(is_code & (tokens.query >= 0)[..., None], target, 0)
    x = x + jnp.where(is_code, self._table(tokens.opening, sharded), 0)
    if c.aligned_queries:
      x = x + jnp.where(has_cell & is_code, self.align(seen), 0)
    x = jnp.where((tokens.kind == IMAGE)[..., None], seen, x)
    return constrain(x, "batch", "length", "embed_out")

  def _table(self, ids, sharded: bool):
    return tables.look_up(self.embedding, ids, sharded, self.config.dtype)

  def _rows(self, ids, sharded: bool):
    """Rows [..., D] of ids, a code's with those of its digits; -1 is any."""
    x = self._table(ids, sharded)
    if not self.config.digits:
      return x
    shared = quantize.fsq_digits(self.config.digits) @ self.embedding_digits
    code = ids - self.text_rows
    some = shared[jnp.maximum(code, 0)].astype(x.dtype)
    return x + jnp.where((code >= 0)[..., None], some, 0)

  def shared(self, tokens: Tokens):
    c = self.config
    angles = layers.rope_angles(
      tokens.row,
      tokens.column,
      head_dim=c.head_dim,
      theta=c.rope_theta,
      llama3=c.rope_llama3,
    )
    return {
      "turn": layers.rope_turn(angles),
      "is_code": tokens.kind == CODE,
    }

  def __call__(
    self,
    tokens: Tokens,
    layout: masks.RowLayout,
    images,
    *,
    keep=False,
    bins: BinLayout | None = None,
  ):
    """Teacher-forced forward: hidden f32 [B, L, D], features, keys/values.

    `keep` returns keys and values, for sampling; `bins` is how the rows are
    laid out, None if free.
    """
    features = self.see(images)
    if bins:
      mask = masks.bin_masks(layout, bins)
    else:
      mask = masks.attention_mask(layout)
    hidden, kv = self.decoder(
      self.embed(tokens, features, sharded=not keep),
      self.shared(tokens) | {"mask": mask},
      mode="prefill" if keep else "train",
      bins=bins,
    )
    return hidden, features, kv

  def step(
    self,
    tokens: Tokens,
    features_RJD,
    cache: Cache,
    position,
    active_R,
    *,
    rung: int,
    read: Sequence[int],
  ):
    """Feeds L tokens of one step to every row; returns hidden and the cache.

    Their keys and values go into a rung, to the positions position ..
    position + L - 1 of it, which count from then on where the row is active.
    Of each rung the first `read` positions are read, all L by every row; there
    may be more rungs, which are not.
    """
    length = tokens.ids.shape[1]
    at = jnp.arange(cache.valid[rung].shape[1])
    fed = (at >= position) & (at < position + length)
    valid = list(cache.valid)
    seen = [each[:, :count] for each, count in zip(valid, read, strict=False)]
    seen[rung] |= fed[: read[rung]]
    shared = self.shared(tokens) | {
      "valid": seen,
      "prompt_mask": cache.prompt_mask,
      "rung": rung,
      "position": position,
    }
    rungs = list(zip(cache.k, cache.v, strict=True))
    hidden, rungs[rung] = self.decoder(
      self.embed(tokens, features_RJD, sharded=False),
      shared,
      mode="step",
      cached=(cache.prompt_k, cache.prompt_v, rungs[: len(read)]),
    )
    valid[rung] |= fed & active_R[:, None]
    k, v = zip(*rungs, strict=True)
    return hidden, cache.replace(k=k, v=v, valid=tuple(valid))

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

  def everything(self, tokens, layout, images, image_at_BJ):
    """Touches every parameter; used to initialise."""
    hidden, _, _ = self(tokens, layout, images)
    keys = self.cell_keys(hidden, image_at_BJ)
    logits = self.text_logits(
      hidden, keys, jnp.zeros_like(tokens.ids), image_at_BJ >= 0
    )
    return logits, self.code_logits(hidden)
