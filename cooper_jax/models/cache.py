"""The KV cache: an explicit argument and result, never module state.

A prompt is prefilled once and shared by its group of G rollouts; each rollout
owns the positions that it generates. Layers lead, so that blocks can be
scanned, or are unstacked, where blocks are called one by one
(`ModelConfig.unroll`).
"""

import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.parallel.shard import constrain

LANES = 16  # positions come in so many: products of odd lengths take longer


@struct.dataclass
class Cache:
  """Keys and values, as the two products of a step read them.

  Of prompts: keys [layers, P, K, H, S] and values [layers, P, K, S, H]; a row's
  own: the same, R and T for P and S. prompt_mask [P, S] and valid [R, T] say
  which positions hold a token. Where layers are unstacked, each of the four is
  a tuple with an entry a layer.
  """

  prompt_k: jax.Array | tuple[jax.Array, ...]
  prompt_v: jax.Array | tuple[jax.Array, ...]
  prompt_mask: jax.Array
  k: jax.Array | tuple[jax.Array, ...]
  v: jax.Array | tuple[jax.Array, ...]
  valid: jax.Array


def start(
  prompt_kv, prompt_mask_PS, *, rows: int, positions: int, unstacked: bool
) -> Cache:
  """Returns a cache with prompts that are prefilled, [layers, P, S, K, H] of
  keys and of values, and empty own positions, at least as many as asked for.

  unstacked: layers are in a list of trees, not stacked along a leading axis.
  """
  prompt_k, prompt_v = (jnp.moveaxis(x, 2, 3) for x in prompt_kv)
  layers, _, kv_heads, _, head_dim = prompt_v.shape
  positions = -(-positions // LANES) * LANES
  empty = jnp.zeros(
    (layers, rows, kv_heads, positions, head_dim), prompt_v.dtype
  )

  def arranged(stacked):
    names = ("layers", "batch", "kv_heads", None, None)
    stacked = constrain(stacked, *names)
    return tuple(stacked) if unstacked else stacked

  return Cache(
    prompt_k=arranged(jnp.swapaxes(prompt_k, -1, -2)),
    prompt_v=arranged(prompt_v),
    prompt_mask=prompt_mask_PS,
    k=arranged(jnp.swapaxes(empty, -1, -2)),
    v=arranged(empty),
    valid=jnp.zeros((rows, positions), bool),
  )


def put(own, new, position):
  """Own keys and values with new ones [.., R, L, K, H] from a position on."""
  (k, v), (new_k, new_v) = own, new
  write = jax.lax.dynamic_update_slice_in_dim
  return (
    write(k, jnp.moveaxis(new_k, -3, -1), position, axis=k.ndim - 1),
    write(v, jnp.moveaxis(new_v, -3, -2), position, axis=v.ndim - 2),
  )
