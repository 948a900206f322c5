"""Grouped-query attention under a mask, in each of the layouts of a row.

The products run in a kernel (`kernels.py`) or, where none fits, in XLA.
"""

import functools

import einops
import jax
import jax.numpy as jnp

from cooper_jax.models import kernels, products
from cooper_jax.models.config import BinLayout

NEGATIVE = -1e30  # a finite minus infinity: a fully masked row stays finite


def attend(q_BLNH, k_BSKH, v_BSKH, mask_BLS, *, kernel="xla"):
  """Grouped-query attention under a boolean mask [B, L, S]."""
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q_BLNH, k_BSKH, v_BSKH))
  attend_heads = kernels.KERNELS.get(kernel, _attend_heads)
  return jnp.swapaxes(attend_heads(q, k, v, mask_BLS), 1, 2)


def attend_shared(q_RLNH, shared, own, new=None):
  """Attention of R = P * G rows to their shared prefix and to their own keys.

  Args:
    q_RLNH: queries, of one group: all see the same; the rows of one prefix are
      neighbours.
    shared: (k, v, mask) of the prefixes, as the cache has it: k [K, P, H, S],
      v [K, P, S, H], mask [P, S].
    own: the same of each rung of what the rows hold, R and T for P and S.
    new: (k, v, position) of L positions of the only rung, k [K, R, H, L] and v
      [K, R, L, H], that are not in it yet: there it holds zeros. None = they
      are.

  A prefix's keys are read once, not once per row. The softmax is one: parts are
  joined by their largest score and their sums, added in order. A rung that
  holds nothing adds exact zeros: it may as well be left out.
  """
  k_KPHS, v_KPSH, mask_PS = shared
  # All queries of a key head side by side: one product a row and head, and one
  # a prefix and head.
  alone = einops.rearrange(
    q_RLNH, "r l (k a) h -> k r (l a) h", k=k_KPHS.shape[0]
  )
  together = functools.partial(_regroup, count=mask_PS.shape[0])
  each = functools.partial(_regroup, count=q_RLNH.shape[0])
  raw = _of(together(alone), k_KPHS, mask_PS)
  largest = raw.max(axis=-1, keepdims=True)
  sums, mixed = _weigh(raw, largest, v_KPSH)
  # All that a row needs of its prefix: what it adds up to, and its mixture.
  mass, mixed = each(largest + jnp.log(sums)), each(mixed / sums)
  scored = [_of(alone, k, mask, new) for k, _, mask in own]
  largest = functools.reduce(
    jnp.maximum, [raw.max(axis=-1, keepdims=True) for raw in scored], mass
  )
  sums = jnp.exp(mass - largest)
  mixed = mixed * sums
  for raw, (_, v_KRTH, _) in zip(scored, own, strict=True):
    more, mix = _weigh(raw, largest, v_KRTH)
    sums, mixed = sums + more, mixed + mix
  if new is not None:
    (raw,), (_, v_KRLH, position) = scored, new
    raw = jax.lax.dynamic_slice_in_dim(raw, position, v_KRLH.shape[2], axis=3)
    mixed += _weigh(raw, largest, v_KRLH)[1]
  out = (mixed / sums).astype(q_RLNH.dtype)
  return einops.rearrange(out, "k r (l a) h -> r l (k a) h", l=q_RLNH.shape[1])


def _regroup(x, count: int):
  """K, B, X and more axes as K, count, the rest and more: rows by prefix."""
  return einops.rearrange(
    einops.rearrange(x, "k b x y -> k (b x) y"), "k (b x) y -> k b x y", b=count
  )


def _of(q_KBXH, k_KBHS, mask_BS, new=None):
  """Scores [K, B, X, S] in float32; along X are all queries of a key head."""
  product = functools.partial(
    jnp.einsum, "kbxh,kbhs->kbxs", preferred_element_type=jnp.float32
  )
  raw = product(q_KBXH, k_KBHS)
  if new is not None:
    k_KBHL, _, position = new
    at = (0, 0, 0, position)
    raw = jax.lax.dynamic_update_slice(raw, product(q_KBXH, k_KBHL), at)
  raw = raw * (q_KBXH.shape[-1] ** -0.5)
  return jnp.where(mask_BS[None, :, None], raw, NEGATIVE)


def _weigh(raw_KBXS, largest, v_KBSH):
  """(sums of the weights over S, values that they weigh [K, B, X, H])."""
  weights = jnp.exp(raw_KBXS - largest)
  mixed = jnp.einsum(
    "kbxs,kbsh->kbxh",
    weights.astype(v_KBSH.dtype),
    v_KBSH,
    preferred_element_type=jnp.float32,
  )
  return weights.sum(axis=-1, keepdims=True), mixed


def attend_bins(
  q_BLNH, k_BLKH, v_BLKH, masks, bins: BinLayout, *, kernel="xla"
):
  """Attention of a row laid out as a trunk and bins of branches.

  Args:
    q_BLNH, k_BLKH, v_BLKH: trunk first, then whole bins.
    masks: of `masks.bin_masks`, {"trunk": [B, trunk, trunk], "own":
      [B * n, bin_size, bin_size], "of_trunk": [B * n, bin_size, trunk]}.
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
  of_trunk = attend_heads(q0, k0, v0, masks["trunk"])
  of_bins = attend_heads(
    q1,
    jnp.concatenate([spread(k0), k1], axis=2),
    jnp.concatenate([spread(v0), v1], axis=2),
    jnp.concatenate([masks["of_trunk"], masks["own"]], axis=-1),
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
  sum in one number a query and head alone.
  """
  q = einops.rearrange(q_BNLH, "b (k a) l h -> b k a l h", k=k_BKSH.shape[1])
  raw = products.scores(q, k_BKSH) * q.shape[-1] ** -0.5
  raw = jnp.where(mask_BLS[:, None, None], raw, NEGATIVE)
  best = jax.lax.stop_gradient(raw.max(axis=-1, keepdims=True))
  mass = jnp.exp(raw - best)
  out = products.mixed(mass.astype(v_BKSH.dtype), v_BKSH)
  out = out / mass.sum(axis=-1, keepdims=True)
  return einops.rearrange(out, "b k a l h -> b (k a) l h").astype(v_BKSH.dtype)
