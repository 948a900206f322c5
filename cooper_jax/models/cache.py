"""The KV cache: an explicit argument and result, never module state.

A prompt is prefilled once and shared by its group of G rollouts; each rollout
owns the positions that it generates. Those are held in rungs, arrays of their
own of so many positions each: a step reads the rungs that have been begun and
nothing of the others. Layers lead, or are unstacked, where blocks are called
one by one (`ModelConfig.unroll`).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.parallel.shard import constrain

LANES = 16  # positions come in so many: products of odd lengths take longer


@struct.dataclass
class Cache:
  """Keys and values, as the two products of a step read them.

  Of prompts: keys [layers, P, K, H, S] and values [layers, P, K, S, H]; a row's
  own: a tuple of rungs, each of the same, R and T for P and S. prompt_mask
  [P, S] and, for each rung, valid [R, T] say which positions hold a token.
  Where layers are unstacked, each array of keys or values is a tuple with an
  entry a layer.
  """

  prompt_k: jax.Array | tuple[jax.Array, ...]
  prompt_v: jax.Array | tuple[jax.Array, ...]
  prompt_mask: jax.Array
  k: tuple
  v: tuple
  valid: tuple[jax.Array, ...]


def start(
  prompt_kv, prompt_mask_PS, *, rows: int, rungs: Sequence[int], unstacked: bool
) -> Cache:
  """Returns a cache with prompts that are prefilled, [layers, P, S, K, H] of
  keys and of values, and empty own positions.

  rungs: positions of each rung, at least.
  unstacked: layers are in a list of trees, not stacked along a leading axis.
  """
  prompt_k, prompt_v = (jnp.moveaxis(x, 2, 3) for x in prompt_kv)
  layers, _, kv_heads, _, head_dim = prompt_v.shape
  rungs = [-(-positions // LANES) * LANES for positions in rungs]

  def arranged(stacked):
    names = ("layers", "batch", "kv_heads", None, None)
    stacked = constrain(stacked, *names)
    return tuple(stacked) if unstacked else stacked

  def empty(*shape):
    zeros = jnp.zeros((layers, rows, kv_heads, *shape), prompt_v.dtype)
    return arranged(zeros)

  return Cache(
    prompt_k=arranged(jnp.swapaxes(prompt_k, -1, -2)),
    prompt_v=arranged(prompt_v),
    prompt_mask=prompt_mask_PS,
    k=tuple(empty(head_dim, positions) for positions in rungs),
    v=tuple(empty(positions, head_dim) for positions in rungs),
    valid=tuple(jnp.zeros((rows, positions), bool) for positions in rungs),
  )


def put(rung, new, position, layer=None):
  """Keys and values of a rung with new ones [R, L, K, H] from a position on.

  layer: which one of a rung of all layers; None = the rung is of one.
  """
  new_k = jnp.moveaxis(new[0], -3, -1)
  new_v = jnp.moveaxis(new[1], -3, -2)
  if layer is None:
    write = jax.lax.dynamic_update_slice_in_dim
    return write(rung[0], new_k, position, 3), write(
      rung[1], new_v, position, 2
    )
  write = jax.lax.dynamic_update_slice
  return (
    write(rung[0], new_k[None], (layer, 0, 0, 0, position)),
    write(rung[1], new_v[None], (layer, 0, 0, position, 0)),
  )


def of_layer(rung, layer=None):
  """Keys and values of one layer of a rung."""
  if layer is None:
    return rung
  return tuple(
    jax.lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in rung
  )
