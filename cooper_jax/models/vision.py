"""The image encoder: a ViT of SigLIP2's shape and a two-layer connector.

From scratch at tiny size a small convolutional stem sees edges sooner than a
linear patch embedding; imported weights use the linear one.
"""

import einops
import jax.numpy as jnp
from flax import linen as nn

from cooper_jax.models import attention, kernels, layers
from cooper_jax.models.config import VisionConfig
from cooper_jax.parallel.shard import constrain


class VisionBlock(nn.Module):
  """Pre-norm self-attention and GELU MLP, biases everywhere (SigLIP).

  Called as a scan body: carry x [B, cells, width].
  """

  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, x_BND, _):
    c = self.config
    kernel = {"bias": True, "dtype": self.dtype}
    h = nn.LayerNorm(c.norm_eps, dtype=self.dtype, name="norm1")(x_BND)
    q, k, v = (
      einops.rearrange(
        layers.Linear(c.width, ("embed", "heads"), name=name, **kernel)(h),
        "b n (m h) -> b n m h",
        m=c.heads,
      )
      for name in ("q", "k", "v")
    )
    everything = jnp.ones((1, 1, 1), bool)
    mixed = einops.rearrange(
      attention.attend(q, k, v, everything), "b n m h -> b n (m h)"
    )
    x_BND = x_BND + layers.Linear(
      c.width, ("heads", "embed"), name="out", **kernel
    )(mixed)
    h = nn.LayerNorm(c.norm_eps, dtype=self.dtype, name="norm2")(x_BND)
    h = layers.Linear(c.ffn, ("embed", "ffn"), name="fc1", **kernel)(h)
    h = nn.gelu(h, approximate=True)
    x_BND = x_BND + layers.Linear(
      c.width, ("ffn", "embed"), name="fc2", **kernel
    )(h)
    return constrain(x_BND, "batch", None, "embed_out"), None


class ConvStem(nn.Module):
  """Pixels -> cells through a 3x3 convolution at a quarter of the size.

  Convolutions are written as nine shifted slices and one matrix product,
  which runs several times faster than XLA's convolution on a CPU.
  """

  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, image_BHWC):
    c = self.config
    x = einops.rearrange(
      image_BHWC, "b (h p) (w q) c -> b h w (p q c)", p=4, q=4
    )
    x = layers.Linear(64, ("pixels", "embed"), True, self.dtype, name="fold")(x)
    for i in range(2):
      h = nn.silu(x)
      h = nn.LayerNorm(c.norm_eps, dtype=self.dtype, name=f"norm{i}")(h)
      h = shifted(h)
      x = x + layers.Linear(
        64, ("pixels", "embed"), True, self.dtype, name=f"conv{i}"
      )(h)
    rest = c.patch // 4
    x = einops.rearrange(
      nn.silu(x), "b (h p) (w q) c -> b (h w) (p q c)", p=rest, q=rest
    )
    return layers.Linear(
      c.width, ("pixels", "embed"), True, self.dtype, name="cell"
    )(x)


def shifted(x_BHWC):
  """Returns the 3x3 neighbourhood of every place as channels, 9 C of them."""
  height, width = x_BHWC.shape[1:3]
  padded = jnp.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return jnp.concatenate(
    [
      padded[:, i : i + height, j : j + width]
      for i in range(3)
      for j in range(3)
    ],
    axis=-1,
  )


class Vision(nn.Module):
  """Images u8 [B, H, W, 3] -> features [B, cells, d_model]."""

  config: VisionConfig
  d_model: int
  dtype: str
  remat: str = "none"

  @nn.compact
  def __call__(self, image_BHWC):
    c = self.config
    x = image_BHWC.astype(self.dtype) / 127.5 - 1.0
    if c.stem == "conv":
      x = ConvStem(c, self.dtype, name="stem")(x)
    else:
      x = einops.rearrange(
        x, "b (h p) (w q) c -> b (h w) (p q c)", p=c.patch, q=c.patch
      )
      x = layers.Linear(
        c.width, ("pixels", "embed"), True, self.dtype, name="stem"
      )(x)
    position = self.param(
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
      x, _ = scanned(c, self.dtype, name="blocks")(x, None)
      x = nn.LayerNorm(c.norm_eps, dtype=self.dtype, name="norm")(x)
    x = layers.Linear(
      self.d_model, ("embed", "ffn"), True, self.dtype, name="connector1"
    )(x)
    x = nn.gelu(x, approximate=True)
    x = layers.Linear(
      self.d_model, ("ffn", "embed"), True, self.dtype, name="connector2"
    )(x)
    return constrain(x, "batch", None, "embed_out")
