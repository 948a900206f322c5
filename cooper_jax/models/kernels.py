"""Fused attention of each platform: no [L, S] scores in the chip's memory.

Splash attention (Pallas, in JAX) on a TPU, cuDNN's flash attention on an
NVIDIA GPU; XLA's own products, in `attention.py`, are what both must equal.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from cooper_jax import errors
from cooper_jax.parallel import shard

AUTO, XLA = "auto", "xla"
TILE = 128  # of a TPU: rows of queries and of keys, and a head's width
SAVED = "attention"  # name of what the backward pass may keep


def choose(
  name: str, platform: str, *, head_dim: int, dtype: str, sequences: int = 1
) -> str:
  """Which kernel computes attention, "xla" where a platform's does not fit.

  Args:
    name: config.model.attention, "auto" or a kernel's name.
    platform: as JAX names it: "tpu", "gpu", "cpu".
    head_dim: the decoder's.
    dtype: the compute dtype.
    sequences: into how many pieces the mesh shards a sequence.

  Raises UserError for a name that is none, or that can't do this.
  """
  known = (AUTO, XLA, *KERNELS)
  if name not in known:
    raise errors.UserError(
      f"config.model.attention is {name!r}; allowed: {', '.join(known)}"
    )
  if name == "cudnn" and sequences > 1:
    raise errors.UserError(
      f"config.model.attention=cudnn has no part of a sequence, and"
      f" config.mesh.sequence is {sequences}; take auto or xla"
    )
  if name != AUTO:
    return name
  if platform == "tpu" and head_dim % TILE == 0:
    return "splash"
  fits = head_dim in (64, 128) and dtype == "bfloat16" and sequences == 1
  if platform == "gpu" and fits:
    return "cudnn"
  return XLA


def unrolled(name: str, platform: str) -> bool:
  """Whether the layers are called one by one (`ModelConfig.unroll`).

  A loop over them is fused on an accelerator; on a CPU it copies: in sampling
  each layer's weights, keys and values for every token, in training what a
  layer keeps for the backward pass.
  """
  if name not in (AUTO, "on", "off"):
    raise errors.UserError(
      f"config.model.unroll is {name!r}; allowed: {AUTO}, on, off"
    )
  return platform == "cpu" if name == AUTO else name == "on"


def splash(q_BNLH, k_BKSH, v_BKSH, mask_BLS, *, interpret=False):
  """Splash attention, for every shape: what is no whole tile is padded.

  Pallas calls are not divided by the compiler, so each device is given its
  part: rows of the batch, heads, and queries where the mesh shards sequences.
  `interpret` runs it on any platform, slowly.
  """
  length, shards = q_BNLH.shape[2], shard.pieces("length")
  q = _pad(_pad(q_BNLH, 3), 2, shards=shards)
  k, v = (_pad(x, 2, 3) for x in (k_BKSH, v_BKSH))
  mask = _pad(_pad(mask_BLS, 2), 1, shards=shards)
  # The kernel divides by the sum of a row's weights: a query without any key,
  # padding, is given one.
  mask = mask.at[..., 0].set(mask[..., 0] | ~jnp.any(mask, axis=-1))
  q = q * q_BNLH.shape[-1] ** -0.5
  queries = shard.spec_for(q.shape, "batch", "heads", "length", None)
  keys = shard.spec_for(k.shape, "batch", "kv_heads", None, None)
  masked = shard.spec_for(mask.shape, "batch", "length", None)
  out = jax.shard_map(
    jax.vmap(functools.partial(_splash_one, interpret)),
    in_specs=(queries, keys, keys, masked),
    out_specs=queries,
    check_vma=False,
  )(q, k, v, mask)
  return out[:, :, :length, : q_BNLH.shape[-1]].astype(v_BKSH.dtype)


def _splash_one(interpret, q_NLH, k_KSH, v_KSH, mask_LS):
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as splash_kernel,
  )

  rows, keys = (_tile(size) for size in mask_LS.shape)
  made = splash_kernel.make_splash_mha(
    mask_LS[None],
    block_sizes=splash_kernel.BlockSizes(
      block_q=rows,
      block_kv=keys,
      block_q_dkv=rows,
      block_kv_dkv=keys,
      block_kv_dkv_compute=keys,
      block_q_dq=rows,
      block_kv_dq=keys,
    ),
    head_shards=1,
    q_seq_shards=1,
    residual_checkpoint_name=SAVED,
    interpret=interpret,
  )
  # Made while tracing, the flag is an array that can't be asked (JAX 0.10.2).
  infos = (made.fwd_mask_info, made.dq_mask_info, made.dkv_mask_info)
  infos = (info._replace(is_dynamic_mask=True) for info in infos)
  return splash_kernel.SplashAttentionKernel(*infos, **made.kwargs)(
    q_NLH, k_KSH, v_KSH
  )


def _tile(size: int) -> int:
  """The largest of a few tiles that a length is whole ones of."""
  return next(tile for tile in (512, 256, TILE) if size % tile == 0)


def _pad(x, *axes: int, shards: int = 1, tile: int = TILE):
  """With zeros, to whole tiles in each of `shards` pieces of some axes."""
  widths = [(0, 0)] * x.ndim
  for axis in axes:
    widths[axis] = (0, -x.shape[axis] % (tile * shards))
  return jnp.pad(x, widths)


def cudnn(q_BNLH, k_BKSH, v_BKSH, mask_BLS):
  """cuDNN's flash attention; the compiler divides it itself.

  Its gradient takes even lengths alone: others get one that nobody sees.
  """
  length = q_BNLH.shape[2]
  q, k, v = (
    jnp.swapaxes(_pad(x, 2, tile=2), 1, 2) for x in (q_BNLH, k_BKSH, v_BKSH)
  )
  out = jax.nn.dot_product_attention(
    q, k, v, mask=_pad(mask_BLS, 1, 2, tile=2)[:, None], implementation="cudnn"
  )
  return jnp.swapaxes(out, 1, 2)[:, :, :length]


KERNELS = {"splash": splash, "cudnn": cudnn}


_POLICIES = {
  "full": jax.checkpoint_policies.nothing_saveable,
  "attention": jax.checkpoint_policies.save_only_these_names(SAVED),
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def recomputed(block: type, name: str, **options) -> type:
  """A block of layers that the backward pass computes again, or the same.

  name: config.model.remat, see `config.REMAT`.
  """
  if name == "none":
    return block
  return nn.remat(block, policy=_POLICIES[name], **options)
