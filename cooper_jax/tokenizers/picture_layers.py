"""Layers that image tokenizers of the VQGAN kind have in common, in float32.

Names are those of the released folders, dots and all, so that a leaf's path is
its tensor's key. Products are exact on every platform: rounding decides the
code.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

GROUPS = 32  # of channels, in every norm
CHANNELS_RGB = 3  # of a picture
EPS = 1e-6  # added to the variance in it
PRECISION = "highest"

Conv = functools.partial(nn.Conv, precision=PRECISION)
Dense = functools.partial(nn.Dense, precision=PRECISION)


class GroupNorm(nn.Module):
  """Norm over groups of channels; what else is seen changes nothing."""

  @nn.compact
  def __call__(self, x_BHWD, *seen):
    del seen
    groups, width = GROUPS, x_BHWD.shape[-1]
    x = x_BHWD.reshape(*x_BHWD.shape[:-1], groups, width // groups)
    axes = (1, 2, 4)
    x -= jnp.mean(x, axis=axes, keepdims=True)
    x *= jax.lax.rsqrt(jnp.mean(x**2, axis=axes, keepdims=True) + EPS)
    scale = self.param("scale", nn.initializers.ones, (width,))
    bias = self.param("bias", nn.initializers.zeros, (width,))
    return x.reshape(x_BHWD.shape) * scale + bias


class PictureBlock(nn.Module):
  """x + conv(silu(norm(conv(silu(norm(x)))))), of any width.

  norm: of x and of what else is seen.
  """

  width: int
  norm: type[nn.Module] = GroupNorm

  @nn.compact
  def __call__(self, x_BHWD, *seen):
    h_BHWD = x_BHWD
    for i in (1, 2):
      h_BHWD = nn.silu(self.norm(name=f"norm{i}")(h_BHWD, *seen))
      h_BHWD = Conv(self.width, (3, 3), name=f"conv{i}")(h_BHWD)
    if x_BHWD.shape[-1] != self.width:
      x_BHWD = Conv(self.width, (1, 1), name="nin_shortcut")(x_BHWD)
    return x_BHWD + h_BHWD


def attention(x_BHWD, layer, names, *, heads: int = 1):
  """What every cell reads of all cells of its picture [B, H, W, D].

  layer(name=...) makes the layer of each of names: queries, keys, values, out.
  """
  batch, height, width, channels = x_BHWD.shape
  parts = []
  for name in names[:3]:
    part = layer(name=name)(x_BHWD)
    parts.append(part.reshape(batch, height * width, heads, -1))
  q_BJNd, k_BJNd, v_BJNd = parts
  products = functools.partial(jnp.einsum, precision=PRECISION)
  scores = products("bqnd,bknd->bnqk", q_BJNd, k_BJNd)
  weights = jax.nn.softmax(scores * q_BJNd.shape[-1] ** -0.5)
  read = products("bnqk,bknd->bqnd", weights, v_BJNd)
  read = read.reshape(batch, height, width, channels)
  return layer(name=names[3])(read)


def downsample(x_BHWD):
  """Half the resolution; zeros stand on the right and below."""
  pad = ((0, 1), (0, 1))
  width = x_BHWD.shape[-1]
  name = "downsample.conv"
  return Conv(width, (3, 3), strides=2, padding=pad, name=name)(x_BHWD)


def upsample(x_BHWD):
  """Twice the resolution, every cell four times."""
  x_BHWD = doubled(x_BHWD, 2)
  return Conv(x_BHWD.shape[-1], (3, 3), name="upsample.conv")(x_BHWD)


def doubled(x_BHWD, times: int):
  """Every cell as a square of times x times."""
  return jnp.repeat(jnp.repeat(x_BHWD, times, axis=1), times, axis=2)


def unit(x):
  """Vectors [..., d] of length 1."""
  return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def nearest(z_BHWd, book_Cd):
  """The code i32 [B, H, W] whose vector is nearest to each of z.

  One picture after the other: a book has 32,768 vectors.
  """
  squares_C = jnp.sum(book_Cd**2, axis=-1)

  def one(z_HWd):
    products = jnp.einsum("hwd,cd->hwc", z_HWd, book_Cd, precision=PRECISION)
    squares = jnp.sum(z_HWd**2, axis=-1, keepdims=True)
    return jnp.argmin(squares + squares_C - 2 * products, axis=-1)

  return jax.lax.map(one, z_BHWd).astype(jnp.int32)
