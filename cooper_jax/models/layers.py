"""Norms, projections and rotary positions of a decoder block.

Shapes follow Qwen2.5/Qwen3 (RMSNorm, grouped-query attention, SwiGLU), so that
their weights load without a transform beyond a transpose.
"""

import functools
import math

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import errors
from flax import linen as nn

from cooper_jax.models import lora, products
from cooper_jax.models.config import ModelConfig

_fan_in = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def parameter(module: nn.Module, name: str, init, shape: tuple[int, ...]):
  """The array of `module.param`, by less tracing where it is given.

  `param` traces the initialiser of every parameter at every call, to compare
  shapes. Raises flax's ScopeParamShapeError, too.
  """
  if not module.has_variable("params", name):
    return module.param(name, init, shape)
  given = nn.unbox(module.get_variable("params", name))
  if given.shape != shape:
    path = "/".join(module.path)
    raise errors.ScopeParamShapeError(name, path, given.shape, shape)
  return given


class Linear(nn.Module):
  """y = x W (+ b), x [..., in], W [in, out] with logical axis names.

  Where there are A and B of LoRA beside W, x A B is added (`models/lora.py`).
  """

  features: int
  axes: tuple[str, str]
  bias: bool = False
  dtype: str = "float32"
  operands: str = "float32"
  init: nn.initializers.Initializer = _fan_in

  @nn.compact
  def __call__(self, x):
    x = x.astype(self.dtype)
    if self.has_variable("params", "laid_out"):  # of `transformer.unstack`
      matrix = self.get_variable("params", "laid_out")
      y = products.of_few(x, matrix, operands=self.operands)
    else:
      kernel = parameter(
        self,
        "kernel",
        nn.with_logical_partitioning(self.init, self.axes),
        (x.shape[-1], self.features),
      )
      y = products.linear(x, kernel, operands=self.operands)
    if self.has_variable("params", lora.A):
      for each in (lora.A, lora.B):
        matrix = self.get_variable("params", each)
        x = products.linear(x, matrix, operands=self.operands)
      y = y + x
    if self.bias:
      bias = parameter(
        self,
        "bias",
        nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:]),
        (self.features,),
      )
      y = y + bias.astype(self.dtype)
    return y


class RMSNorm(nn.Module):
  """x / rms(x) * scale in float32, over the last axis of x [..., D]."""

  eps: float
  axis: str = "norm"

  @nn.compact
  def __call__(self, x):
    scale = parameter(
      self,
      "scale",
      nn.with_logical_partitioning(nn.initializers.ones, (self.axis,)),
      (x.shape[-1],),
    )
    x_f32 = x.astype(jnp.float32)
    variance = jnp.mean(x_f32**2, axis=-1, keepdims=True)
    return (x_f32 * jax.lax.rsqrt(variance + self.eps) * scale).astype(x.dtype)


def rope_angles(
  row_BL,
  column_BL,
  *,
  head_dim: int,
  theta: float,
  llama3: tuple[float, ...] = (),
  time_BL=None,
  sections: tuple[int, ...] = (),
  interleaved: bool = False,
):
  """Returns the rotary angles [B, L, H/2] of positions of two or three axes.

  Even frequencies turn with the row, odd ones with the column; with sections,
  each with the axis that `turning_axes` says. A text token has one position on
  all axes, and then this is ordinary RoPE.

  llama3, sections, interleaved: `ModelConfig.rope_llama3` and so on.
  """
  half = head_dim // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if llama3:
    frequency = jnp.asarray(_stretched(half, theta, *llama3))
  if sections:
    places = jnp.stack([time_BL, row_BL, column_BL], axis=-1)
    position = places[..., turning_axes(sections, interleaved)]
  else:
    by_row = jnp.arange(half) % 2 == 0
    position = jnp.where(by_row, row_BL[..., None], column_BL[..., None])
  return position.astype(jnp.float32) * frequency


def turning_axes(sections, interleaved: bool) -> np.ndarray:
  """The axis that each frequency turns with: 0 time, 1 row, 2 column.

  Gives [frequencies], half of a head.

  Chunked (Qwen2.5-VL), each axis has its share in one piece. Interleaved
  (Qwen3-VL), every third frequency is a row's and every third a column's while
  their shares last, and the rest are time's.

  In: (1, 2, 2), False   Out: 0 1 1 2 2
  In: (3, 2, 1), True    Out: 0 1 2 0 1 0
  """
  if not interleaved:
    return np.repeat(np.arange(3), sections)
  at = np.arange(sum(sections))
  axis = at % 3
  return np.where(at < 3 * np.asarray(sections)[axis], axis, 0)


def tower_angles(row_BJ, column_BJ, *, head_dim: int, theta: float):
  """Returns the rotary angles of a tower's patches, as `rope_angles` (Qwen-VL).

  The first half of the frequencies turns with the row, and the same with the
  column.
  """
  count = head_dim // 4
  frequency = theta ** (-jnp.arange(count, dtype=jnp.float32) / count)
  places = jnp.stack([row_BJ, column_BJ], axis=-1)[..., None]
  angles = places.astype(jnp.float32) * frequency
  return einops.rearrange(angles, "b j two f -> b j (two f)")


def _stretched(half, theta, factor, low, high, length) -> np.ndarray:
  """Llama 3's frequencies [half], for contexts of `factor` times `length`.

  Those that turn at least `high` times within `length` positions stay, those
  that turn at most `low` times are divided by the factor, and between the two
  it goes over evenly (`rope_type` llama3 of Hugging Face).
  """
  # In float32 and in the reference's order of operations: an error of one
  # rounding grows with the position.
  frequency = 1 / theta ** (np.arange(half, dtype=np.float32) / half)
  wavelength = 2 * math.pi / frequency
  share = (length / wavelength - low) / (high - low)
  between = (1 - share) * frequency / factor + share * frequency
  stays, slow = share >= 1, share <= 0
  return np.where(stays, frequency, np.where(slow, frequency / factor, between))


def rope_turn(angles):
  """(cos, sin) [B, L, H] of rotary angles [B, L, H/2], as `apply_rope` has it.

  Computed once for all layers, and of the width of a head: a product and a
  shifted one are then all that a layer does.
  """
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  both = functools.partial(jnp.concatenate, axis=-1)
  return both([cos, cos]), both([-sin, sin])


def apply_rope(x_BLNH, turn):
  """Rotates dimension i with i + H/2 (the convention of Hugging Face).

  turn: of `rope_turn`.
  """
  cos, sin = (part[..., None, :] for part in turn)
  x = x_BLNH.astype(jnp.float32)
  other = jnp.roll(x, x.shape[-1] // 2, axis=-1)
  return (x * cos + other * sin).astype(x_BLNH.dtype)


class Routed(nn.Module):
  """A layer, or with a mixture of transformers two: text/RGB and codes.

  Positions of map codes use the second set of weights (BAGEL's generation
  expert); attention joins them.
  """

  layer: type
  options: dict
  config: ModelConfig

  @nn.compact
  def __call__(self, x, is_code_BL):
    y = self.layer(**self.options, name="main")(x)
    if not self.config.mixture_of_transformers:
      return y
    y_code = self.layer(**self.options, name="code")(x)
    return jnp.where(is_code_BL[..., None], y_code, y)
