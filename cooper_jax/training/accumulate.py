"""Gradient accumulation: a batch taken in micro-batches, to the same gradient.

Losses are (sum, weight) pairs and are divided once per optimiser step, so
splitting a batch into micro-batches changes nothing but the memory it takes.
Averaging per-piece means instead would weigh a token by the piece it is in.
"""

from collections.abc import Callable, Mapping
from typing import Any

import einops
import jax
import jax.numpy as jnp

from cooper_jax.errors import UserError
from cooper_jax.parallel.shard import path_name


def _split(batch, pieces: int):
  def split(path, leaf):
    if jnp.ndim(leaf) == 0:
      return jnp.broadcast_to(leaf, (pieces,))
    if leaf.shape[0] % pieces:
      raise UserError(
        f"batch of {leaf.shape[0]} ({path_name(path)}) can't be taken in "
        f"{pieces} pieces; set optim.micro_batches to a divisor"
      )
    # Strided, so that a sharded batch axis stays where it is.
    return einops.rearrange(leaf, "(b m) ... -> m b ...", m=pieces)

  return jax.tree_util.tree_map_with_path(split, batch)


def accumulate(
  loss_fn: Callable,
  params,
  batch,
  *,
  micro_batches: int = 1,
  coefficients: Mapping[str, float] | None = None,
) -> tuple[Any, dict, dict]:
  """Differentiates sum_k c_k S_k / W_k over a batch taken in pieces.

  `loss_fn(params, batch)` returns `(losses, metrics)`, both dicts of
  (sum, weight) pairs; weights must not depend on the parameters. Losses not
  named in `coefficients` count once. Every array of `batch` leads with the
  batch axis. Returns `(grads, losses, metrics)`, the pairs summed.

  The weights of the whole batch are needed before the first gradient, so
  with several pieces they are computed first; the compiler drops the model
  from that pass, since no weight depends on it.
  """
  scale = dict(coefficients or {})

  def total(params, piece, weights):
    losses, metrics = loss_fn(params, piece)
    weights = weights or {name: pair[1] for name, pair in losses.items()}
    value = sum(
      scale.get(name, 1.0)
      * pair[0]
      / jnp.maximum(jax.lax.stop_gradient(weights[name]), 1e-8)
      for name, pair in losses.items()
    )
    return value, (losses, metrics)

  if micro_batches == 1:
    grads, (losses, metrics) = jax.grad(total, has_aux=True)(
      params, batch, None
    )
    return grads, losses, metrics

  pieces = _split(batch, micro_batches)

  def weigh(piece):
    losses, _ = loss_fn(params, piece)
    return {name: pair[1] for name, pair in losses.items()}

  weights = jax.tree.map(lambda leaf: leaf.sum(0), jax.lax.map(weigh, pieces))

  def step(carry, piece):
    grads, aux = jax.grad(total, has_aux=True)(params, piece, weights)
    return jax.tree.map(jnp.add, carry, (grads, aux)), None

  first = jax.tree.map(lambda leaf: leaf[0], pieces)
  shapes = jax.eval_shape(jax.grad(total, has_aux=True), params, first, weights)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  (grads, (losses, metrics)), _ = jax.lax.scan(step, zeros, pieces)
  return grads, losses, metrics
