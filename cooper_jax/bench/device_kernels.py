"""Kernels of the device check (`device_parts.py`), beside XLA's products.

Results are held against XLA in f32 on the same inputs: a kernel may be off by
twice what XLA in its dtype is.
"""

import functools
import time

import jax
import jax.numpy as jnp

from cooper_jax.errors import UserError
from cooper_jax.models import (
  attention,
  cache,
  cached_attention,
  kernels,
  layers,
)


def fastest(call, calls: int = 5) -> float:
  """Seconds of the fastest of some calls, each waited for."""
  times = []
  for _ in range(calls):
    begun = time.perf_counter()
    jax.block_until_ready(call())
    times.append(time.perf_counter() - begun)
  return min(times)


def fused_attention(toy: bool) -> dict:
  """The platform's fused attention beside XLA's: results, gradients, speed."""
  batch, length, heads, kv_heads = (1, 128, 2, 1) if toy else (4, 2048, 16, 8)
  dtype = jnp.float32 if toy else jnp.bfloat16
  name = "cudnn" if jax.default_backend() == "gpu" else "splash"
  run = kernels.KERNELS[name]
  if toy:
    run = functools.partial(kernels.splash, interpret=True)
  keys = jax.random.split(jax.random.key(0), 4)
  q, k, v, weight = (
    jax.random.normal(key, (batch, count, length, 128)).astype(dtype)
    for key, count in zip(keys, (heads, kv_heads, kv_heads, heads), strict=True)
  )
  # Causal, of two documents in a row.
  order = jnp.arange(length)
  mask = (order[:, None] >= order) & (
    (order[:, None] < length // 3) == (order < length // 3)
  )
  mask_BLS = jnp.broadcast_to(mask, (batch, length, length))

  def xla(q, k, v, mask):
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    return jnp.swapaxes(attention.attend(q, k, v, mask), 1, 2)

  def results(attend, *given):
    def total(q, k, v):
      out = attend(q, k, v, mask_BLS)
      return jnp.sum(out.astype(jnp.float32) * weight.astype(jnp.float32)), out

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))
    grads, out = gradient(*given)
    return (out, *grads), functools.partial(gradient, *given)

  with jax.default_matmul_precision("highest"):
    true, _ = results(xla, *(x.astype(jnp.float32) for x in (q, k, v)))
  plain, plain_call = results(xla, q, k, v)
  ours, call = results(run, q, k, v)
  off = _errors(name, ours, plain, true, toy)
  ratio = fastest(plain_call) / fastest(call)
  return {
    "kernel": name,
    "error": off["kernel"][0],
    "gradient_error": max(off["kernel"][1:]),
    "xla_error": off["xla"][0],
    "xla_gradient_error": max(off["xla"][1:]),
    "faster": ratio,
    "said": f"{name} is off by {off['kernel'][0]:.1e} (XLA"
    f" {off['xla'][0]:.1e}), gradients {max(off['kernel'][1:]):.1e} (XLA"
    f" {max(off['xla'][1:]):.1e}); forward and backward x{ratio:.2f} of XLA",
  }


def step_attention(toy: bool) -> dict:
  """The kernel of a decoding step beside XLA's products: results and speed.

  A token of text and a row of 16 codes, for four prompts with 16 rows of each,
  which have written up to half of their own positions, in two layers; the heads
  are those of the size 0p6b. Only a TPU has such a kernel.
  """
  if not toy and jax.default_backend() != "tpu":
    return {"said": "this platform has no kernel of its own for a step"}
  found = [_step(length, toy) for length in ((1, 2) if toy else (1, 16))]
  error, xla_error = (max(each[i] for each in found) for i in (0, 1))
  ratios = [each[2] for each in found]
  return {
    "error": error,
    "xla_error": xla_error,
    "faster": ratios[0],
    "row_faster": ratios[1],
    "said": f"a step's attention is off by {error:.1e} (XLA {xla_error:.1e});"
    f" a token x{ratios[0]:.2f} of XLA, a row of codes x{ratios[1]:.2f}",
  }


def _step(length: int, toy: bool) -> tuple[float, float, float]:
  """Errors of the kernel and of XLA, and how much faster it is."""
  prefixes, group, prefix, held = (2, 2, 16, 16) if toy else (4, 16, 512, 1024)
  dtype = jnp.float32 if toy else jnp.bfloat16
  depth, kv_heads, heads, rows = 2, 8, 16, prefixes * group
  position, draws = held // 2, iter(jax.random.split(jax.random.key(0), 10))

  def draw(*shape):
    return jax.random.normal(next(draws), shape)

  known = (draw(rows, held) < 1) & (jnp.arange(held) < position)
  prompts = draw(prefixes, prefix) < 1
  turn = layers.rope_turn(draw(rows, length, 64))
  scales = [1 + 0.3 * draw(128) for _ in "qk"]
  arrays = (
    draw(rows, length, heads, 128),
    draw(rows, length, kv_heads, 128),
    draw(rows, length, kv_heads, 128),
    draw(depth, kv_heads, prefixes, 128, prefix),
    draw(depth, kv_heads, prefixes, prefix, 128),
  )
  key_k, key_v = jax.random.split(jax.random.key(1))
  own_k = jax.random.normal(key_k, (depth, kv_heads, rows, 128, held))
  own_v = jax.random.normal(key_v, (depth, kv_heads, rows, held, 128))
  # What is not written yet is zero.
  own = own_k * known[:, None], own_v * known[..., None]
  q, k, v, *cached = (x.astype(dtype) for x in (*arrays, *own))

  def xla(q, k, v, cached, layer):
    q, k = (
      layers.apply_rope(
        layers.RMSNorm(eps=1e-6).apply({"params": {"scale": scale}}, x), turn
      )
      for x, scale in zip((q, k), scales, strict=True)
    )
    prompt_k, prompt_v, own_k, own_v = (x[layer] for x in cached)
    seen = known.at[:, position : position + length].set(True)
    own, new = [(own_k, own_v, seen)], (*cache.turned(k, v), position)
    shared = prompt_k, prompt_v, prompts
    return attention.attend_shared(q, shared, own, new), k

  def kernel(q, k, v, cached, layer):
    past = cached_attention.arrange(cached, (prompts, known), turn)
    return cached_attention.attend_cached(
      q, k, v, past, layer, norm=(*scales, 1e-6), interpret=toy
    )

  xla, kernel, given = jax.jit(xla), jax.jit(kernel), (q, k, v, cached, 1)
  with jax.default_matmul_precision("highest"):
    true = xla(*jax.tree.map(lambda x: x.astype(jnp.float32), given[:4]), 1)
  ours, plain = kernel(*given), xla(*given)
  off = _errors("the kernel of a step", ours, plain, true, toy)
  ratio = fastest(lambda: xla(*given)) / fastest(lambda: kernel(*given))
  return off["kernel"][0], off["xla"][0], ratio


def _errors(name, ours, plain, true, toy: bool) -> dict[str, list[float]]:
  """By who, of the largest true value; UserError where the kernel is at fault.

  ours, plain, true: results of the kernel, of XLA and of XLA in f32.
  """
  off = {
    who: [_error(x, y) for x, y in zip(found, true, strict=True)]
    for who, found in (("xla", plain), ("kernel", ours))
  }
  least = 1e-5 if toy else 1e-2
  for mine, theirs in zip(off["kernel"], off["xla"], strict=True):
    if not mine <= max(2 * theirs, least):  # also what is not a number
      raise UserError(
        f"{name} is off by {mine:.1e} of the largest value, XLA by"
        f" {theirs:.1e}: a fault of the kernel"
      )
  return off


def _error(found, true) -> float:
  gap = jnp.max(jnp.abs(found.astype(jnp.float32) - true))
  return float(gap / jnp.max(jnp.abs(true)))
