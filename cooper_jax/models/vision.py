"""The image encoder: a ViT of SigLIP2's or Qwen-VL's shape, and its connector.

What connects it with the decoder are two layers, or a merger of n x n patches.
"""

import functools
import math

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cooper_jax.models import attention, kernels, layers, patches
from cooper_jax.models.config import VisionConfig
from cooper_jax.models.stem import ConvStem
from cooper_jax.parallel.shard import constrain


class VisionBlock(nn.Module):
  """Pre-norm self-attention and MLP of a tower, biases everywhere.

  Called as a scan body: carry x [B, J, D], J patches of one picture; per layer
  whether it attends everywhere, where there are windows; broadcast `shared`, a
  dict with some of exists [B, J], turn, of rotary positions, and windows
  [B, J, J]. Gives the states, too, where they are kept.
  """

  config: VisionConfig
  dtype: str
  operands: str
  keep: bool = False

  @nn.compact
  def __call__(self, x_BJD, everywhere=None, shared=None):
    c, shared = self.config, shared or {}
    linear = functools.partial(
      layers.Linear, bias=True, dtype=self.dtype, operands=self.operands
    )
    h = norm(c, self.dtype, "norm1")(x_BJD)
    q, k, v = (
      einops.rearrange(
        linear(c.width, ("embed", "heads"), name=name)(h),
        "b j (n h) -> b j n h",
        n=c.heads,
      )
      for name in ("q", "k", "v")
    )
    if "turn" in shared:
      q, k = (layers.apply_rope(each, shared["turn"]) for each in (q, k))
    seen = jnp.ones((1, 1, 1), bool)
    if "exists" in shared:
      seen = shared["exists"][:, None]
    if "windows" in shared:
      seen &= shared["windows"] | everywhere
    mixed = einops.rearrange(
      attention.attend(q, k, v, seen), "b j n h -> b j (n h)"
    )
    x_BJD = x_BJD + linear(c.width, ("heads", "embed"), name="out")(mixed)
    h = norm(c, self.dtype, "norm2")(x_BJD)
    wide, narrow = ("embed", "ffn"), ("ffn", "embed")
    if c.gated:
      gate, up = (linear(c.ffn, wide, name=name)(h) for name in ("gate", "up"))
      x_BJD = x_BJD + linear(c.width, narrow, name="down")(nn.silu(gate) * up)
    else:
      h = linear(c.ffn, wide, name="fc1")(h)
      h = nn.gelu(h, approximate=True)
      x_BJD = x_BJD + linear(c.width, narrow, name="fc2")(h)
    x_BJD = constrain(x_BJD, "batch", None, "embed_out")
    return x_BJD, x_BJD if self.keep else None


def norm(config: VisionConfig, dtype: str, name: str) -> nn.Module:
  """The norm of a tower's kind."""
  if config.norm == "rms":
    return layers.RMSNorm(config.norm_eps, name=name)
  # Of states whose mean is large the variance would lose digits.
  fast = not config.merge
  return nn.LayerNorm(
    config.norm_eps, dtype=dtype, use_fast_variance=fast, name=name
  )


class Merger(nn.Module):
  """n x n patches [B, J, D] become a cell [B, J / n^2, D'] (Qwen-VL).

  The norm is of a patch or, behind the fold, of a cell's patches together.
  """

  config: VisionConfig
  features: int
  dtype: str
  operands: str
  fold_first: bool

  @nn.compact
  def __call__(self, x_BJD):
    c, dtypes = self.config, (self.dtype, self.operands)
    count = c.merge**2

    def fold(x):
      return einops.rearrange(x, "b (j n) d -> b j (n d)", n=count)

    x = fold(x_BJD) if self.fold_first else x_BJD
    x = norm(c, self.dtype, "norm")(x)
    x = x if self.fold_first else fold(x)
    for name, out, axes in (
      ("fc1", count * c.width, ("embed", "ffn")),
      ("fc2", self.features, ("ffn", "embed")),
    ):
      x = layers.Linear(out, axes, True, *dtypes, name=name)(x)
      x = nn.gelu(x, approximate=False) if name == "fc1" else x
    return constrain(x, "batch", None, "embed_out")


class Vision(nn.Module):
  """Images u8 [B, side, side, 3], pictures of a few shapes (`PackedPictures`)
  or patches of any (`Patches`) -> features [B, J, D], D the decoder's, and of
  DeepStack's k layers [k, B, J, D], None where there are none.

  To who asks for "intermediates", states [layers + 1, B, patches, width] are
  what the stem and then each layer gives.
  """

  config: VisionConfig
  d_model: int
  dtype: str
  operands: str
  remat: str = "none"

  @nn.compact
  def __call__(self, pictures):
    c, dtypes = self.config, (self.dtype, self.operands)
    x, pictures = self._stem(pictures)
    if c.position != "none":
      x = x + self._positions(pictures).astype(self.dtype)
    x = constrain(x, "batch", None, "embed_out")
    asked = self.is_mutable_collection("intermediates")
    states = x[None]
    if c.layers:
      scanned = nn.scan(
        kernels.recomputed(VisionBlock, self.remat, prevent_cse=False),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        length=c.layers,
        metadata_params={nn.PARTITION_NAME: "layers"},
      )
      keep = asked or bool(c.deepstack)
      everywhere = None
      if c.window:
        everywhere = np.isin(np.arange(c.layers), c.full_layers)
      x, kept = scanned(c, *dtypes, keep, name="blocks")(
        x, everywhere, self._shared(pictures)
      )
      states = jnp.concatenate([states, kept]) if keep else states
    if asked:
      self.sow("intermediates", "states", states)
    if c.merge:
      merger = functools.partial(Merger, c, self.d_model, *dtypes)
      return merger(False, name="merger")(x), self._deep(states)
    if c.layers:
      x = norm(c, self.dtype, "norm")(x)
    x = layers.Linear(
      self.d_model, ("embed", "ffn"), True, *dtypes, name="connector1"
    )(x)
    x = nn.gelu(x, approximate=True)
    x = layers.Linear(
      self.d_model, ("ffn", "embed"), True, *dtypes, name="connector2"
    )(x)
    if c.cell_table:
      table = self.param(
        "cell_table",
        nn.with_logical_partitioning(
          lambda _, shape: jnp.asarray(sines(*shape)), ("cells", "embed")
        ),
        (c.cells, self.d_model),
      )
      x = x + _at(jax.lax.stop_gradient(table), pictures).astype(self.dtype)
    return constrain(x, "batch", None, "embed_out"), None

  def _stem(self, pictures):
    """(states [B, J, width], patches); these None where no place is asked."""
    c, dtypes = self.config, (self.dtype, self.operands)
    if isinstance(pictures, patches.PackedPictures):
      pictures = patches.of_pictures(pictures, c, self.dtype)
    if not isinstance(pictures, patches.Patches):
      x = patches.normalised(pictures, c, self.dtype)
      # Squares row by row need no places where nothing but a table has any.
      placed = c.merge or c.rope_theta or c.window or c.position == "resized"
      if c.stem == "conv":
        x = ConvStem(c, *dtypes, name="stem")(x)
        return patches.of_states(x, c) if placed else (x, None)
      whole = patches.from_pixels(x, c)
      x, pictures = whole.values, whole if placed else None
    else:
      x = pictures.values
    axes = ("pixels", "embed")
    stem = layers.Linear(c.width, axes, c.stem_bias, *dtypes, name="stem")
    return stem(x), pictures

  def _positions(self, pictures):
    """What the table has of each patch, [J, width] or [B, J, width]."""
    c = self.config
    init = nn.with_logical_partitioning(
      nn.initializers.normal(0.02), ("cells", "embed")
    )
    shape = (c.table_side**2, c.width)
    table = layers.parameter(self, "position", init, shape)
    if pictures is None:
      return table
    return patches.positions(table, pictures, c.position)

  def _shared(self, pictures) -> dict:
    """What all layers read of the patches, see `VisionBlock`."""
    c, found = self.config, {}
    if pictures is None:
      return found
    if pictures.exists is not None:
      found["exists"] = pictures.exists
    if c.rope_theta:
      found["turn"] = patches.turn(pictures, c)
    if c.window:
      found["windows"] = patches.same_window(pictures, c)
    return found

  def _deep(self, states):
    """The merged states of DeepStack's layers, None where there are none."""
    c = self.config
    if not c.deepstack:
      return None
    mergers = nn.vmap(
      Merger,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    merged = mergers(
      c, self.d_model, self.dtype, self.operands, True, name="deepstack"
    )
    return merged(states[np.array(c.deepstack) + 1])


def _at(table_JD, pictures):
  """Rows of a table by the places of patches; all where these are in order."""
  if pictures is None:
    return table_JD
  return patches.positions(table_JD, pictures, "grid")


def sines(cells: int, width: int) -> np.ndarray:
  """A table of sines [cells, width] of the cells of a square, row by row.

  Half of the channels are of the column, then half of the row, each sines and
  then cosines; wavelengths go from 2 pi to 10,000 times that (BAGEL, and MAE's
  `get_2d_sincos_pos_embed`).
  """
  side = math.isqrt(cells)
  frequency = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
  row, column = np.divmod(np.arange(cells), side)
  angles = [np.outer(place, frequency) for place in (column, row)]
  parts = [part(each) for each in angles for part in (np.sin, np.cos)]
  return np.concatenate(parts, axis=-1).astype(np.float32)
