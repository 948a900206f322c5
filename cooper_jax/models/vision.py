"""The image encoder: a ViT of SigLIP2's shape and a two-layer connector."""

import math

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cooper_jax.models import attention, kernels, layers
from cooper_jax.models.config import VisionConfig
from cooper_jax.models.stem import ConvStem
from cooper_jax.parallel.shard import constrain


class VisionBlock(nn.Module):
  """Pre-norm self-attention and GELU MLP, biases everywhere (SigLIP).

  Called as a scan body: carry x [B, J, D], J cells of one image, and which of
  them exist, [B, J]; None = all.
  """

  config: VisionConfig
  dtype: str
  operands: str

  @nn.compact
  def __call__(self, x_BJD, exists_BJ):
    c = self.config
    kernel = {"bias": True, "dtype": self.dtype, "operands": self.operands}
    h = nn.LayerNorm(c.norm_eps, dtype=self.dtype, name="norm1")(x_BJD)
    q, k, v = (
      einops.rearrange(
        layers.Linear(c.width, ("embed", "heads"), name=name, **kernel)(h),
        "b j (n h) -> b j n h",
        n=c.heads,
      )
      for name in ("q", "k", "v")
    )
    seen = jnp.ones((1, 1, 1), bool)
    if exists_BJ is not None:
      seen = exists_BJ[:, None]
    mixed = einops.rearrange(
      attention.attend(q, k, v, seen), "b j n h -> b j (n h)"
    )
    x_BJD = x_BJD + layers.Linear(
      c.width, ("heads", "embed"), name="out", **kernel
    )(mixed)
    h = nn.LayerNorm(c.norm_eps, dtype=self.dtype, name="norm2")(x_BJD)
    h = layers.Linear(c.ffn, ("embed", "ffn"), name="fc1", **kernel)(h)
    h = nn.gelu(h, approximate=True)
    x_BJD = x_BJD + layers.Linear(
      c.width, ("ffn", "embed"), name="fc2", **kernel
    )(h)
    return constrain(x_BJD, "batch", None, "embed_out"), None


class Vision(nn.Module):
  """Images u8 [B, side, side, 3] -> features [B, J, D], D the decoder's."""

  config: VisionConfig
  d_model: int
  dtype: str
  operands: str
  remat: str = "none"

  @nn.compact
  def __call__(self, images):
    c, dtypes = self.config, (self.dtype, self.operands)
    x = images.astype(self.dtype) / 127.5 - 1.0
    if c.stem == "conv":
      x = ConvStem(c, *dtypes, name="stem")(x)
    else:
      x = einops.rearrange(
        x, "b (h p) (w q) c -> b (h w) (p q c)", p=c.patch, q=c.patch
      )
      x = layers.Linear(
        c.width, ("pixels", "embed"), True, *dtypes, name="stem"
      )(x)
    position = layers.parameter(
      self,
      "position",
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), ("cells", "embed")
      ),
      (c.cells, c.width),
    )
    x = constrain(x + position.astype(self.dtype), "batch", None, "embed_out")
    if c.layers:
      scanned = nn.scan(
        kernels.recomputed(VisionBlock, self.remat, prevent_cse=False),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=c.layers,
        metadata_params={nn.PARTITION_NAME: "layers"},
      )
      x, _ = scanned(c, *dtypes, name="blocks")(x, None)
      x = nn.LayerNorm(c.norm_eps, dtype=self.dtype, name="norm")(x)
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
      x = x + jax.lax.stop_gradient(table).astype(self.dtype)
    return constrain(x, "batch", None, "embed_out")


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
