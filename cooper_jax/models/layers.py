"""Norms, projections, rotary positions, attention and MLP of a decoder block.

Shapes follow Qwen2.5/Qwen3 (RMSNorm, grouped-query attention, SwiGLU), so that
their weights load without a transform beyond a transpose.
"""

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cooper_jax.models import config as model_config

NEGATIVE = -1e30  # a finite minus infinity: a fully masked row stays finite
_fan_in = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class Linear(nn.Module):
  """y = x W (+ b), W [in, out] with logical axis names."""

  features: int
  axes: tuple[str, str]
  bias: bool = False
  dtype: str = "float32"
  init: nn.initializers.Initializer = _fan_in

  @nn.compact
  def __call__(self, x):
    kernel = self.param(
      "kernel",
      nn.with_logical_partitioning(self.init, self.axes),
      (x.shape[-1], self.features),
    )
    # One matrix product: XLA's CPU backend takes half as long again for the
    # same contraction, and its gradients, with two leading axes.
    rows = x.astype(self.dtype).reshape(-1, x.shape[-1])
    y = jnp.einsum("rd,df->rf", rows, kernel.astype(self.dtype))
    y = y.reshape(*x.shape[:-1], self.features)
    if self.bias:
      bias = self.param(
        "bias",
        nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:]),
        (self.features,),
      )
      y = y + bias.astype(self.dtype)
    return y


class RMSNorm(nn.Module):
  """x / rms(x) * scale, in float32."""

  eps: float
  axis: str = "norm"

  @nn.compact
  def __call__(self, x):
    scale = self.param(
      "scale",
      nn.with_logical_partitioning(nn.initializers.ones, (self.axis,)),
      (x.shape[-1],),
    )
    x_f32 = x.astype(jnp.float32)
    variance = jnp.mean(x_f32**2, axis=-1, keepdims=True)
    return (x_f32 * jax.lax.rsqrt(variance + self.eps) * scale).astype(x.dtype)


def rope_angles(row_BL, column_BL, *, head_dim: int, theta: float):
  """Returns the rotary angles [B, L, H/2] of two-axis positions.

  Even frequencies turn with the row, odd ones with the column; a text token
  has row == column, and then this is ordinary RoPE.
  """
  half = head_dim // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  by_row = jnp.arange(half) % 2 == 0
  position = jnp.where(by_row, row_BL[..., None], column_BL[..., None])
  return position.astype(jnp.float32) * frequency


def apply_rope(x_BLNH, turn):
  """Rotates dimension i with i + H/2 (the convention of Hugging Face).

  turn: (cos, sin) of the angles [B, L, H/2], computed once for all layers.
  """
  cos, sin = (part[..., None, :] for part in turn)
  first, second = jnp.split(x_BLNH.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )
  return rotated.astype(x_BLNH.dtype)


def scores(q_BLNH, k_BSKH, mask_BLS):
  """Returns masked attention scores [B, K, N/K, L, S] in float32."""
  q = einops.rearrange(q_BLNH, "b l (k g) h -> b k g l h", k=k_BSKH.shape[-2])
  raw = jnp.einsum(
    "bkglh,bskh->bkgls", q, k_BSKH, preferred_element_type=jnp.float32
  )
  raw = raw * (q_BLNH.shape[-1] ** -0.5)
  return jnp.where(mask_BLS[:, None, None], raw, NEGATIVE)


def mix(weights_BKGLS, v_BSKH):
  """Returns the attention output [B, L, N, H] of softmax weights."""
  out = jnp.einsum("bkgls,bskh->blkgh", weights_BKGLS, v_BSKH)
  return einops.rearrange(out, "b l k g h -> b l (k g) h")


def attend(q_BLNH, k_BSKH, v_BSKH, mask_BLS):
  """Grouped-query attention under a boolean mask [B, L, S]."""
  weights = jax.nn.softmax(scores(q_BLNH, k_BSKH, mask_BLS), axis=-1)
  return mix(weights.astype(v_BSKH.dtype), v_BSKH)


def attend_shared(q_RLNH, shared, own, new):
  """Attention of R = P * G rows to their shared prefix and to their own keys.

  Args:
    q_RLNH: queries; the rows of one prefix are neighbours.
    shared: (k, v, mask) of the prefixes [P, S, K, H] and [P, S].
    own: (k, v, mask) of what the rows hold, as the cache has it: k
      [R, K, H, T], v [R, K, T, H], mask [R, L or 1, T].
    new: (k, v, mask) of the tokens themselves [R, L, K, H] and [R, L, L].

  A prefix's keys are read once, not once per row; the softmaxes are one, over
  the concatenated scores.
  """
  k_PSKH, v_PSKH, mask_PS = shared
  k_RKHT, v_RKTH, mask_RLT = own
  k_RLKH, v_RLKH, mask_RLL = new
  length = q_RLNH.shape[1]
  q_P = einops.rearrange(
    q_RLNH, "(p g) l n h -> p (g l) n h", p=k_PSKH.shape[0]
  )
  of_prefix = einops.rearrange(
    scores(q_P, k_PSKH, mask_PS[:, None]),
    "p k m (g l) s -> (p g) k m l s",
    l=length,
  )
  of_new = scores(q_RLNH, k_RLKH, mask_RLL)
  # The queries of a key head side by side: one product a row and head.
  q_RKQH = einops.rearrange(
    q_RLNH, "r l (k m) h -> r k (m l) h", k=k_RKHT.shape[1]
  )
  raw = jnp.einsum(
    "rkqh,rkht->rkqt", q_RKQH, k_RKHT, preferred_element_type=jnp.float32
  )
  raw = einops.rearrange(raw, "r k (m l) t -> r k m l t", l=length)
  raw = raw * (q_RLNH.shape[-1] ** -0.5)
  of_own = jnp.where(mask_RLT[:, None, None], raw, NEGATIVE)
  parts = [of_prefix, of_own, of_new]
  weights = jax.nn.softmax(jnp.concatenate(parts, axis=-1), axis=-1)
  edges = np.cumsum([part.shape[-1] for part in parts])[:-1]
  first, second, third = jnp.split(weights.astype(v_PSKH.dtype), edges, axis=-1)
  first = einops.rearrange(
    first, "(p g) k m l s -> p k m (g l) s", p=k_PSKH.shape[0]
  )
  out = einops.rearrange(
    mix(first, v_PSKH), "p (g l) n h -> (p g) l n h", l=length
  )
  held = jnp.einsum(
    "rkqt,rkth->rkqh",
    einops.rearrange(second, "r k m l t -> r k (m l) t"),
    v_RKTH,
  )
  out += einops.rearrange(held, "r k (m l) h -> r l (k m) h", l=length)
  return out + mix(third, v_RLKH)


def attend_blocks(q_BLNH, k_BLKH, v_BLKH, masks, blocks):
  """Attention of a row laid out as a trunk and blocks of branches.

  Args:
    q_BLNH, k_BLKH, v_BLKH: trunk first, then whole blocks.
    masks: {"trunk": [B, T, T], "own": [B * n, block, block]}.
    blocks: (trunk, block), static.

  Heads lead and keys are repeated to the queries' heads, which is what makes
  every product a plain batched one.
  """
  trunk, block = blocks
  batch, length, heads, _ = q_BLNH.shape
  count = (length - trunk) // block
  share = heads // k_BLKH.shape[2]
  q, k, v = (
    einops.rearrange(jnp.repeat(x, repeat, axis=2), "b l n h -> b n l h")
    for x, repeat in ((q_BLNH, 1), (k_BLKH, share), (v_BLKH, share))
  )
  (q0, k0, v0), (q1, k1, v1) = zip(
    *(jnp.split(x, [trunk], axis=2) for x in (q, k, v)), strict=True
  )
  q1, k1, v1 = (
    einops.rearrange(x, "b n (c l) h -> (b c) n l h", c=count)
    for x in (q1, k1, v1)
  )
  spread = lambda x: jnp.repeat(x, count, axis=0)  # noqa: E731
  # A trunk's padding is the only part of it that a branch may not see.
  exists = spread(jnp.any(masks["trunk"], axis=1))[:, None]
  seen = jnp.broadcast_to(exists, (batch * count, block, trunk))
  of_trunk = _attend_heads(q0, k0, v0, masks["trunk"])
  of_blocks = _attend_heads(
    q1,
    jnp.concatenate([spread(k0), k1], axis=2),
    jnp.concatenate([spread(v0), v1], axis=2),
    jnp.concatenate([seen, masks["own"]], axis=-1),
  )
  return jnp.concatenate(
    [
      einops.rearrange(of_trunk, "b n l h -> b l n h"),
      einops.rearrange(of_blocks, "(b c) n l h -> b (c l) n h", b=batch),
    ],
    axis=1,
  )


def _attend_heads(q_BNLH, k_BNSH, v_BNSH, mask_BLS):
  raw = jnp.einsum(
    "bnlh,bnsh->bnls", q_BNLH, k_BNSH, preferred_element_type=jnp.float32
  )
  raw = jnp.where(mask_BLS[:, None], raw * q_BNLH.shape[-1] ** -0.5, NEGATIVE)
  weights = jax.nn.softmax(raw, axis=-1).astype(v_BNSH.dtype)
  return jnp.einsum("bnls,bnsh->bnlh", weights, v_BNSH)


class Routed(nn.Module):
  """A layer, or with a mixture of transformers two: text/RGB and codes.

  Positions of map codes use the second set of weights (BAGEL's generation
  expert); attention joins them.
  """

  layer: type
  options: dict
  config: model_config.ModelConfig

  @nn.compact
  def __call__(self, x, is_code_BL):
    y = self.layer(**self.options, name="main")(x)
    if not self.config.mixture_of_transformers:
      return y
    y_code = self.layer(**self.options, name="code")(x)
    return jnp.where(is_code_BL[..., None], y_code, y)
