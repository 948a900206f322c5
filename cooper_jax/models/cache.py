"""The KV cache: an explicit argument and result, never module state.

A prompt is prefilled once and shared by its group of G rollouts; each rollout
owns the positions that it generates. Of these a step reads no more than what
may hold a token. Layers lead, and then the positions are in one array, of which
a step reads the first so many. Or, where blocks are called one by one
(`ModelConfig.unroll`), layers are unstacked and the positions are in rungs,
arrays of their own, of which a step reads those that have been begun: on a CPU
a part of an array would be copied before it is read.
"""

import functools
from collections.abc import Sequence

import einops
import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.parallel.shard import constrain

LANES = 16  # positions come in so many: products of odd lengths take longer


def aligned(positions: int) -> int:
  """So many positions as an array holds for these."""
  return -(-positions // LANES) * LANES


@struct.dataclass
class Cache:
  """Keys and values, as the two products of a step read them.

  Of prompts: keys [layers, K, P, H, S] and values [layers, K, P, S, H]; a row's
  own: a tuple of rungs, each of the same, R and T for P and S; of one where
  layers lead. prompt_mask [P, S] and, for each rung, valid [R, T] say which
  positions hold a token. Where layers are unstacked, each array of keys or
  values is a tuple with an entry a layer.
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

  rungs: positions of each rung, at least; stacked layers have all in one.
  unstacked: layers are in a list of trees, not stacked along a leading axis.
  """
  prompt_k, prompt_v = (jnp.moveaxis(x, 3, 1) for x in prompt_kv)
  layers, kv_heads, _, _, head_dim = prompt_v.shape
  rungs = [aligned(each) for each in (rungs if unstacked else [sum(rungs)])]

  def arranged(stacked):
    names = ("layers", "kv_heads", "batch", None, None)
    stacked = constrain(stacked, *names)
    return tuple(stacked) if unstacked else stacked

  def empty(*shape):
    zeros = jnp.zeros((layers, kv_heads, rows, *shape), prompt_v.dtype)
    return arranged(zeros)

  return Cache(
    prompt_k=arranged(jnp.swapaxes(prompt_k, -1, -2)),
    prompt_v=arranged(prompt_v),
    prompt_mask=prompt_mask_PS,
    k=tuple(empty(head_dim, positions) for positions in rungs),
    v=tuple(empty(positions, head_dim) for positions in rungs),
    valid=tuple(jnp.zeros((rows, positions), bool) for positions in rungs),
  )


def turned(k_RLKH, v_RLKH):
  """New keys [K, R, H, L] and values [K, R, L, H], as the cache holds them."""
  return (
    einops.rearrange(k_RLKH, "r l k h -> k r h l"),
    einops.rearrange(v_RLKH, "r l k h -> k r l h"),
  )


def put(rung, new, position):
  """Keys and values of a rung with new ones, `turned`, from a position on.

  rung: [K, R, H, T] and [K, R, T, H], or with layers before it; new as well.
  """
  (k, v), none = new, (0,) * (rung[0].ndim - 2)
  write = functools.partial(
    jax.lax.dynamic_update_slice, allow_negative_indices=False
  )
  return (
    write(rung[0], k, (*none, 0, position)),
    write(rung[1], v, (*none, position, 0)),
  )


def begin(held, layer, positions: int):
  """Of one of stacked layers the first positions, [K, R, H, T], [K, R, T, H].

  In one slice: a slice of a slice would be two copies on a TPU.
  """

  def of(x, axis):
    sizes = [1, *x.shape[1:]]
    sizes[axis] = positions
    at = (layer, 0, 0, 0, 0)
    return jax.lax.dynamic_slice(x, at, sizes, allow_negative_indices=False)[0]

  return of(held[0], 4), of(held[1], 3)
