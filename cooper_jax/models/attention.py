"""Grouped-query attention under a mask, in each of the layouts of a row.

The products run in a kernel (`kernels.py`) or, where none fits, in XLA.
"""

import functools

import einops
import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.models import kernels, products
from cooper_jax.models.config import BinLayout

NEGATIVE = -1e30  # a finite minus infinity: a fully masked row stays finite


def attend(q_BLNH, k_BSKH, v_BSKH, mask_BLS, *, kernel="xla"):
  """Grouped-query attention under a boolean mask [B, L, S]."""
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q_BLNH, k_BSKH, v_BSKH))
  attend_heads = kernels.KERNELS.get(kernel, _attend_heads)
  return jnp.swapaxes(attend_heads(q, k, v, mask_BLS), 1, 2)


def attend_shared(q_RLNH, shared, own, new):
  """Attention of R = P * G rows to their shared prefix and to their own keys.

  Args:
    q_RLNH: queries, of one group: all see the same; the rows of one prefix are
      neighbours.
    shared: (k, v, mask) of the prefixes, as the cache has it: k [P, K, H, S],
      v [P, K, S, H], mask [P, S].
    own: the same of what the rows hold, R and T for P and S.
    new: (k, v) of the tokens themselves [R, L, K, H]; None where `own` has
      them.

  A prefix's keys are read once, not once per row; the softmaxes are one, over
  the concatenated scores.
  """
  (k_PKHS, v_PKSH, mask_PS), (k_RKHT, v_RKTH, mask_RT) = shared, own
  prefixes, kv_heads = k_PKHS.shape[:2]
  # The queries of a key head side by side: one product a row and head.
  queries = einops.rearrange(q_RLNH, "r l (k a) h -> r k (a l) h", k=kv_heads)
  together = functools.partial(
    einops.rearrange, pattern="(p g) k l x -> p k (g l) x", p=prefixes
  )
  each = functools.partial(
    einops.rearrange, pattern="p k (g l) x -> (p g) k l x", l=queries.shape[2]
  )
  parts = [each(_of(together(queries), k_PKHS, mask_PS))]
  values = [lambda w: each(_mixed(together(w), v_PKSH))]
  parts.append(_of(queries, k_RKHT, mask_RT))
  values.append(lambda w: _mixed(w, v_RKTH))
  if new is not None:
    k_RKHL, v_RKLH = jnp.moveaxis(new[0], 1, 3), jnp.moveaxis(new[1], 1, 2)
    parts.append(_of(queries, k_RKHL))
    values.append(lambda w: _mixed(w, v_RKLH))
  weights = jax.nn.softmax(jnp.concatenate(parts, axis=-1), axis=-1)
  edges = np.cumsum([part.shape[-1] for part in parts])[:-1]
  split = jnp.split(weights.astype(v_PKSH.dtype), edges, axis=-1)
  out = sum(mix(w) for mix, w in zip(values, split, strict=True))
  return einops.rearrange(out, "r k (a l) h -> r l (k a) h", l=q_RLNH.shape[1])


def _of(q_BKLH, k_BKHS, mask_BS=None):
  """Scores [B, K, L, S]; along L are all queries that read a key head."""
  raw = jnp.einsum(
    "bklh,bkhs->bkls", q_BKLH, k_BKHS, preferred_element_type=jnp.float32
  )
  raw = raw * (q_BKLH.shape[-1] ** -0.5)
  if mask_BS is None:
    return raw
  return jnp.where(mask_BS[:, None, None], raw, NEGATIVE)


def _mixed(weights_BKLS, v_BKSH):
  return jnp.einsum("bkls,bksh->bklh", weights_BKLS, v_BKSH)


def attend_bins(
  q_BLNH, k_BLKH, v_BLKH, masks, bins: BinLayout, *, kernel="xla"
):
  """Attention of a row laid out as a trunk and bins of branches.

  Args:
    q_BLNH, k_BLKH, v_BLKH: trunk first, then whole bins.
    masks: of `unified.bin_masks`, {"trunk": [B, trunk, trunk], "own":
      [B * n, bin_size, bin_size]}.
    bins: where the trunk ends and the bins begin, static.
  """
  batch, length = q_BLNH.shape[:2]
  count = bins.bins_in(length)
  attend_heads = kernels.KERNELS.get(kernel, _attend_heads)
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q_BLNH, k_BLKH, v_BLKH))
  (q0, k0, v0), (q1, k1, v1) = zip(
    *(jnp.split(x, [bins.trunk], axis=2) for x in (q, k, v)), strict=True
  )
  q1, k1, v1 = (
    einops.rearrange(x, "b n (c l) h -> (b c) n l h", c=count)
    for x in (q1, k1, v1)
  )
  spread = lambda x: jnp.repeat(x, count, axis=0)  # noqa: E731
  # A trunk's padding is the only part of it that a branch may not see.
  exists = spread(jnp.any(masks["trunk"], axis=1))[:, None]
  seen = jnp.broadcast_to(exists, (batch * count, bins.bin_size, bins.trunk))
  of_trunk = attend_heads(q0, k0, v0, masks["trunk"])
  of_bins = attend_heads(
    q1,
    jnp.concatenate([spread(k0), k1], axis=2),
    jnp.concatenate([spread(v0), v1], axis=2),
    jnp.concatenate([seen, masks["own"]], axis=-1),
  )
  return jnp.concatenate(
    [
      einops.rearrange(of_trunk, "b n l h -> b l n h"),
      einops.rearrange(of_bins, "(b c) n l h -> b (c l) n h", b=batch),
    ],
    axis=1,
  )


def _attend_heads(q_BNLH, k_BKSH, v_BKSH, mask_BLS):
  """Attention [B, N, L, H] in XLA, of heads that lead.

  The values are mixed before the weights are divided by their sum: the result
  is, not the weights, which are larger, and the gradient, too, goes through the
  sum in numbers [B, K, A, L] alone.
  """
  q = einops.rearrange(q_BNLH, "b (k a) l h -> b k a l h", k=k_BKSH.shape[1])
  raw = products.scores(q, k_BKSH) * q.shape[-1] ** -0.5
  raw = jnp.where(mask_BLS[:, None, None], raw, NEGATIVE)
  best = jax.lax.stop_gradient(raw.max(axis=-1, keepdims=True))
  mass = jnp.exp(raw - best)
  out = products.mixed(mass.astype(v_BKSH.dtype), v_BKSH)
  out = out / mass.sum(axis=-1, keepdims=True)
  return einops.rearrange(out, "b k a l h -> b (k a) l h").astype(v_BKSH.dtype)
