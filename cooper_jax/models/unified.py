"""The unified transformer: tokens and images in, hidden states and logits out.

The parameters are a plain pytree; several trees (policy, reference, average)
pass through the same functions.
"""

from collections.abc import Sequence

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from cooper_jax.models import (
  heads,
  layers,
  masks,
  tables,
  transformer,
  vision,
)
from cooper_jax.models.cache import Cache
from cooper_jax.models.config import BinLayout
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
  time: the third position, which `ModelConfig.rope_sections` asks for.
  place: of a location token, the cell of the square that is nearest to its
    place, where pictures have several shapes; None = its own.
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
  time: jax.Array | None = None
  place: jax.Array | None = None


def at_cells(deep_kBJD, tokens: Tokens):
  """What DeepStack adds at each position [k, B, L, D]: 0 but at image cells."""
  cell = jnp.maximum(tokens.cell, 0)[None, ..., None]
  found = jnp.take_along_axis(deep_kBJD, cell, axis=2)
  return jnp.where((tokens.kind == IMAGE)[..., None], found, 0)


class Unified(heads.Heads):
  """Embedding, vision, decoder and heads.

  One table holds the rows `text | specials | locations | codes`; `code_start`
  is the first code row, `text_rows` = code_start the rows that a text position
  may choose from.

  An FSQ code is made of digits (`config.digits`), and so is its row: its own
  vector plus one for each digit. What is learned of a code holds in part for
  all that share a digit with it; still a softmax over all C codes.
  """

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
    """Image features [B, J, D], of `see_deep`."""
    return self.see_deep(images)[0]

  def see_deep(self, images):
    """(features [B, J, D], DeepStack's [k, B, J, D] or None) of B rows.

    images: u8 [B, images, side, side, 3], or `PackedPictures` or `Patches` with
    arrays [B, images, ...]; J are the cells of all images of a row.
    """
    batch, count = jax.tree.leaves(images)[0].shape[:2]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), images)
    features, deep = self.vision(flat)
    joined = "{} (b i) j d -> {} b (i j) d"
    sizes = {"b": batch, "i": count}
    features = einops.rearrange(features, joined.format("", ""), **sizes)
    if deep is not None:
      deep = einops.rearrange(deep, joined.format("k", "k"), **sizes)
    return features, deep

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
      cell = tokens.place
      if cell is None:
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
      time_BL=tokens.time,
      sections=tuple(c.rope_sections),
      interleaved=c.rope_interleaved,
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
    features, deep = self.see_deep(images)
    shared = self.shared(tokens)
    if deep is not None:
      shared["deep"] = at_cells(deep, tokens)
    if bins:
      mask = masks.bin_masks(layout, bins)
    else:
      mask = masks.attention_mask(layout)
    hidden, kv = self.decoder(
      self.embed(tokens, features, sharded=not keep),
      shared | {"mask": mask},
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

  def everything(self, tokens, layout, images, image_at_BJ):
    """Touches every parameter; used to initialise."""
    hidden, _, _ = self(tokens, layout, images)
    keys = self.cell_keys(hidden, image_at_BJ)
    logits = self.text_logits(
      hidden, keys, jnp.zeros_like(tokens.ids), image_at_BJ >= 0
    )
    return logits, self.code_logits(hidden)
