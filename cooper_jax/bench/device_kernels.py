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

  Four prompts with 16 rows of each, half of their own positions written, in two
  layers; the heads are those of the size 0p6b. Only a TPU has such a kernel.
  """
  if not toy and jax.default_backend() != "tpu":
    return {"said": "this platform has no kernel of its own for a step"}
  prefixes, group, prefix, held = (2, 2, 16, 16) if toy else (4, 16, 512, 1024)
  dtype = jnp.float32 if toy else jnp.bfloat16
  depth, kv_heads, heads, rows = 2, 8, 16, prefixes * group
  position = held // 2
  written = jnp.arange(held) < position
  draws = iter(jax.random.split(jax.random.key(0), 8))

  def draw(*shape):
    return jax.random.normal(next(draws), shape).astype(dtype)

  cached = (
    draw(depth, kv_heads, prefixes, 128, prefix),
    draw(depth, kv_heads, prefixes, prefix, 128),
    draw(depth, kv_heads, rows, 128, held) * written.astype(dtype),
    draw(depth, kv_heads, rows, held, 128) * written[:, None].astype(dtype),
  )
  new = draw(rows, 1, heads, 128), *(draw(rows, 1, kv_heads, 128),) * 2
  turn = layers.rope_turn(jnp.full((rows, 1, 64), 0.3) * jnp.arange(64))
  prompts = jnp.ones((prefixes, prefix), bool)
  known = jnp.broadcast_to(written, (rows, held))

  def xla(q, k, v, cached, layer):
    prompt_k, prompt_v, own_k, own_v = (x[layer] for x in cached)
    q, k = layers.apply_rope(q, turn), layers.apply_rope(k, turn)
    seen = known.at[:, position].set(True)
    own, new = [(own_k, own_v, seen)], (*cache.turned(k, v), position)
    shared = prompt_k, prompt_v, prompts
    return attention.attend_shared(q, shared, own, new), k

  def kernel(q, k, v, cached, layer):
    past = cached_attention.arrange(cached, (prompts, known), turn)
    return cached_attention.attend_cached(q, k, v, past, layer, interpret=toy)

  xla, kernel = jax.jit(xla), jax.jit(kernel)
  with jax.default_matmul_precision("highest"):
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (*new, cached))
    true = xla(*wide, 1)
  ours, plain = kernel(*new, cached, 1), xla(*new, cached, 1)
  off = _errors("the kernel of a step", ours, plain, true, toy)
  ratio = fastest(lambda: xla(*new, cached, 1)) / fastest(
    lambda: kernel(*new, cached, 1)
  )
  return {
    "error": off["kernel"][0],
    "xla_error": off["xla"][0],
    "faster": ratio,
    "said": f"a step's attention is off by {off['kernel'][0]:.1e} (XLA"
    f" {off['xla'][0]:.1e}); {rows} rows x{ratio:.2f} of XLA",
  }


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
