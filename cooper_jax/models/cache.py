"""The KV cache: an explicit argument and result, never module state.

A prompt is prefilled once and shared by its group of G rollouts; each rollout
owns the slots that it generates. Layers lead, so that blocks can be scanned.
"""

import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.parallel.shard import constrain


@struct.dataclass
class Cache:
  """Keys and values: prompt [layers, P, S, K, H] of each.

  A row's own keys are [layers, R, K, H, T] and its values [layers, R, K, T, H]:
  as the two products of a step read them, without a transpose.
  prompt_mask [P, S] and valid [R, T] say which slots hold a token.
  """

  prompt_k: jax.Array
  prompt_v: jax.Array
  prompt_mask: jax.Array
  k: jax.Array
  v: jax.Array
  valid: jax.Array


def start(prompt_kv, prompt_mask_PS, *, rows: int, slots: int) -> Cache:
  """Returns a cache with a prefilled prompt and empty own slots."""
  prompt_k, prompt_v = prompt_kv
  layers, _, _, kv_heads, head_dim = prompt_k.shape
  empty = jnp.zeros((layers, rows, kv_heads, slots, head_dim), prompt_k.dtype)
  prompt = ("layers", "batch", None, "kv_heads", None)
  own = ("layers", "batch", "kv_heads", None, None)
  return Cache(
    prompt_k=constrain(prompt_k, *prompt),
    prompt_v=constrain(prompt_v, *prompt),
    prompt_mask=prompt_mask_PS,
    k=constrain(jnp.swapaxes(empty, -1, -2), *own),
    v=constrain(empty, *own),
    valid=jnp.zeros((rows, slots), bool),
  )


def write(cache: Cache, kv, slot) -> Cache:
  """Puts new keys and values [layers, R, L, K, H] at slot .. slot + L - 1."""
  k, v = kv
  put = jax.lax.dynamic_update_slice_in_dim
  return cache.replace(
    k=put(cache.k, jnp.transpose(k, (0, 1, 3, 4, 2)), slot, axis=4),
    v=put(cache.v, jnp.transpose(v, (0, 1, 3, 2, 4)), slot, axis=3),
  )
