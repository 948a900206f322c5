"""The KV cache: an explicit argument and result, never module state.

A prompt is prefilled once and shared by its group of G rollouts; each rollout
owns the slots that it generates. Layers lead, so that blocks can be scanned.
"""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Cache:
  """Keys and values: prompt [layers, P, S, K, H], own [layers, R, T, K, H].

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
  empty = jnp.zeros((layers, rows, slots, kv_heads, head_dim), prompt_k.dtype)
  return Cache(
    prompt_k=prompt_k,
    prompt_v=prompt_v,
    prompt_mask=prompt_mask_PS,
    k=empty,
    v=jnp.zeros_like(empty),
    valid=jnp.zeros((rows, slots), bool),
  )
