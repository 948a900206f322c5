"""Norms, projections, rotary positions, attention and MLP of a decoder block.

Shapes follow Qwen2.5/Qwen3 (RMSNorm, grouped-query attention, SwiGLU), so that
their weights load without a transform beyond a transpose.
"""

import einops
from flax import linen as nn
import jax
import jax.numpy as jnp

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
    y = jnp.einsum(
      "...d,df->...f", x.astype(self.dtype), kernel.astype(self.dtype)
    )
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


def apply_rope(x_BLNH, angles_BLh):
  """Rotates dimension i with i + H/2 (the convention of Hugging Face)."""
  cos = jnp.cos(angles_BLh)[..., None, :]
  sin = jnp.sin(angles_BLh)[..., None, :]
  first, second = jnp.split(x_BLNH.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )
  return rotated.astype(x_BLNH.dtype)


def scores(q_BLNH, k_BSKH, mask_BLS):
  """Returns masked attention scores [B, K, N/K, L, S] in float32."""
  q = einops.rearrange(
    q_BLNH, "b l (k g) h -> b k g l h", k=k_BSKH.shape[-2]
  )
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


def attend_cached(q_RLNH, new, own, prompt):
  """Attention of new tokens to themselves, their row's cache and the prompt.

  Args:
    q_RLNH: queries of L new tokens, one group, for R = P * G rows; the rows of
      one prompt are neighbours.
    new: (k, v) of the new tokens [R, L, K, H]; all see each other.
    own: (k, v, valid) of the row's cache [R, T, K, H] and [R, T].
    prompt: (k, v, mask) of the prompts [P, S, K, H] and [P, S].

  The prompt's keys are read once per prompt, not once per row; the three
  softmaxes are one, over the concatenated scores.
  """
  k_PSKH, v_PSKH, mask_PS = prompt
  length = q_RLNH.shape[1]
  q_P = einops.rearrange(
    q_RLNH, "(p g) l n h -> p (g l) n h", p=k_PSKH.shape[0]
  )
  to_prompt = einops.rearrange(
    scores(q_P, k_PSKH, mask_PS[:, None]),
    "p k m (g l) s -> (p g) k m l s",
    l=length,
  )
  to_own = scores(q_RLNH, own[0], own[2][:, None])
  to_new = scores(q_RLNH, new[0], jnp.ones((1, 1, 1), bool))
  weights = jax.nn.softmax(
    jnp.concatenate([to_prompt, to_own, to_new], axis=-1), axis=-1
  ).astype(v_PSKH.dtype)
  edges = (k_PSKH.shape[1], k_PSKH.shape[1] + own[0].shape[1])
  w_prompt, w_own, w_new = jnp.split(weights, edges, axis=-1)
  w_prompt = einops.rearrange(
    w_prompt, "(p g) k m l s -> p k m (g l) s", p=k_PSKH.shape[0]
  )
  from_prompt = einops.rearrange(
    mix(w_prompt, v_PSKH), "p (g l) n h -> (p g) l n h", l=length
  )
  return from_prompt + mix(w_own, own[1]) + mix(w_new, new[1])


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
