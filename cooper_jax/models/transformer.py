"""The decoder: a scan over equal blocks, with or without a cache.

One block serves three calls: the full teacher-forced forward, the prefill
(the same, keeping keys and values) and a cached step. Scanning keeps the
compile time flat in depth; where `ModelConfig.unroll` says so, the blocks of a
model that is not too deep are called one after the other.
"""

import functools
from collections.abc import Mapping

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from cooper_jax.models import (
  attention,
  cache,
  cached_attention,
  kernels,
  layers,
  products,
)
from cooper_jax.models.config import BinLayout, ModelConfig
from cooper_jax.parallel.shard import constrain

UNROLLED = 8  # layers that are unrolled in training; more compile for too long


class Block(nn.Module):
  """One decoder block; `mode` is "train", "prefill" or "step".

  Called as a scan body: carry x [B, L, D]; per layer `own`: for a step the
  prompt's keys and values and those of the rungs that are read, with `past` or
  DeepStack the layer's number, else None; broadcast `shared`, a dict with turn,
  is_code and the masks (see `Transformer`).
  """

  config: ModelConfig
  mode: str
  bins: BinLayout | None = None  # None = one mask over the whole row

  def routed(self, layer, x, is_code, name, **options):
    return layers.Routed(layer, options, self.config, name=name)(x, is_code)

  def normalises(self, shared) -> bool:
    """Whether attention does the norms of queries and keys itself."""
    return "past" in shared and not self.config.mixture_of_transformers

  def attend(self, q, k, v, own, shared):
    """What the heads mix, and keys and values as they are kept."""
    c = self.config
    if "past" in shared:
      norm = None
      if c.qk_norm and self.normalises(shared):
        scales = (
          self.get_variable("params", name)["main"]["scale"]
          for name in ("norm_q", "norm_k")
        )
        norm = *scales, c.norm_eps
      mixed, k = cached_attention.attend_cached(
        q, k, v, shared["past"], own, norm=norm
      )
      return mixed, *cache.turned(k, v)
    q = layers.apply_rope(q, shared["turn"])
    k = layers.apply_rope(k, shared["turn"])
    if self.bins:
      mixed = attention.attend_bins(
        q, k, v, shared["mask"], self.bins, kernel=c.attention
      )
      return mixed, k, v
    if self.mode != "step":
      mixed = attention.attend(q, k, v, shared["mask"], kernel=c.attention)
      return mixed, k, v
    prompt_k, prompt_v, rungs = own
    k, v = cache.turned(k, v)
    rungs, position, fresh = list(rungs), shared["position"], None
    if c.unroll:
      # Written before it is read, or it would be copied.
      rung = shared["rung"]
      k, v = rungs[rung] = cache.put(rungs[rung], (k, v), position)
    else:
      fresh = k, v, position
    seen = zip(rungs, shared["valid"], strict=True)
    prompt = prompt_k, prompt_v, shared["prompt_mask"]
    mixed = attention.attend_shared(
      q, prompt, [(*kv, mask) for kv, mask in seen], fresh
    )
    return mixed, k, v

  @nn.compact
  def __call__(self, x_BLD, own, shared):
    c, is_code = self.config, shared["is_code"]
    norm = {"eps": c.norm_eps}
    linear = {"dtype": c.dtype, "operands": c.operands}

    with jax.named_scope("attention"):
      h = self.routed(layers.RMSNorm, x_BLD, is_code, "norm_attention", **norm)
      sizes = {"q": c.heads, "k": c.kv_heads, "v": c.kv_heads}
      flat = [
        self.routed(
          layers.Linear,
          h,
          is_code,
          name,
          features=heads * c.head_dim,
          axes=("embed", "heads" if name == "q" else "kv_heads"),
          bias=c.qkv_bias,
          **linear,
        )
        for name, heads in sizes.items()
      ]
      if "past" in shared:
        # Or the products would yield an axis of heads, and for that a TPU
        # copies the layer's matrices first.
        flat = jax.lax.optimization_barrier(flat)
      q, k, v = (
        einops.rearrange(x, "b l (n h) -> b l n h", h=c.head_dim) for x in flat
      )
      if c.qk_norm and not self.normalises(shared):
        head_code = is_code[..., None]
        q = self.routed(layers.RMSNorm, q, head_code, "norm_q", **norm)
        k = self.routed(layers.RMSNorm, k, head_code, "norm_k", **norm)
      mixed, k, v = self.attend(q, k, v, own, shared)
      if c.attention == "xla":
        mixed = checkpoint_name(mixed, kernels.SAVED)
      kept = None if self.mode == "train" else (k, v)
      x_BLD = x_BLD + self.routed(
        layers.Linear,
        einops.rearrange(mixed, "b l n h -> b l (n h)"),
        is_code,
        "out",
        features=c.d_model,
        axes=("heads", "embed"),
        **linear,
      )

    with jax.named_scope("mlp"):
      h = self.routed(layers.RMSNorm, x_BLD, is_code, "norm_mlp", **norm)
      wide = {"features": c.ffn, "axes": ("embed", "ffn"), **linear}
      gate = self.routed(layers.Linear, h, is_code, "gate", **wide)
      up = self.routed(layers.Linear, h, is_code, "up", **wide)
      x_BLD = x_BLD + self.routed(
        layers.Linear,
        nn.silu(gate) * up,
        is_code,
        "down",
        features=c.d_model,
        axes=("ffn", "embed"),
        **linear,
      )
    if "deep" in shared:
      x_BLD = x_BLD + _deep_of(shared["deep"], own)
    return constrain(x_BLD, "batch", "length", "embed_out"), kept


def _deep_of(deep_kBLD, layer):
  """What DeepStack adds behind a layer: nothing behind those after the k-th."""
  last = len(deep_kBLD) - 1
  return jnp.where(layer <= last, deep_kBLD[jnp.minimum(layer, last)], 0)


class Transformer(nn.Module):
  """Blocks and the final norm.

  `shared` holds turn, the (cos, sin) of the rotary angles, is_code [B, L] and,
  by mode, mask (see `masks.attention_mask` and `bin_masks`), or for a step
  prompt_mask [P, S] and valid, [R, T] of each rung that is read, of the cache,
  and rung and position, where the first of the new tokens goes; past, of
  `cached_attention`, where a step's attention is one kernel; with DeepStack, in
  a full forward and a prefill, deep [k, B, L, D], what is added behind each of
  the first k layers.
  Returns hidden states in float32 and, for "prefill", the new keys and values
  [layers, B, L, K, H], for "step" those of the rung with the new ones.
  """

  config: ModelConfig

  @nn.compact
  def __call__(self, x_BLD, shared, *, mode="train", cached=None, bins=None):
    c = self.config
    if mode == "step":
      step = self._step_unrolled if c.unroll else self._step
      x_BLD, kept = step(x_BLD, cached, shared)
    elif mode == "train" and self._unrolled_in_training():
      x_BLD, kept = self._one_by_one(x_BLD, shared, bins), None
    else:
      x_BLD, kept = self._in_a_loop(x_BLD, shared, mode, bins)
    x_BLD = layers.Routed(
      layers.RMSNorm, {"eps": c.norm_eps}, c, name="norm_final"
    )(x_BLD, shared["is_code"])
    return x_BLD.astype(jnp.float32), kept

  def _in_a_loop(self, x_BLD, shared, mode, bins):
    """The layers as one loop: it compiles in the time of one."""
    c = self.config
    block = kernels.recomputed(Block, c.remat, prevent_cse=False)
    scanned = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast),
      length=c.layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    number = jnp.arange(c.layers) if "deep" in shared else None
    return scanned(c, mode, bins, name="blocks")(x_BLD, number, shared)

  def _unrolled_in_training(self) -> bool:
    c = self.config
    return c.unroll and c.layers <= UNROLLED and not self.is_initializing()

  def _one_by_one(self, x_BLD, shared, bins):
    """The layers of training, one after the other.

    A loop would stack what each layer keeps for the backward pass, and on a CPU
    that is to write it all once more.
    """
    c = self.config
    # Or each layer would compute the sines anew.
    turn = jax.lax.optimization_barrier(shared["turn"])
    shared = shared | {"turn": turn}
    block = kernels.recomputed(Block, c.remat)(c, "train", bins, parent=None)
    blocks = layers_of(self.get_variable("params", "blocks"), c.layers)
    for number, params in enumerate(blocks):
      own = number if "deep" in shared else None
      x_BLD, _ = block.apply({"params": params}, x_BLD, own, shared)
    return x_BLD

  def _step(self, x_BLD, cached, shared):
    """A step through the layers as one loop.

    What is new is written after it, of all layers at once: so the positions
    keep one layout on an accelerator, whether a step writes one or many.
    """
    blocks = self.get_variable("params", "blocks")
    block = Block(self.config, "step", parent=None)
    prompt_k, prompt_v, (held,) = cached
    read = shared["valid"][0].shape[1]
    past = self._past((prompt_k, prompt_v, *held), x_BLD.shape[1], shared)
    if past:
      shared, prompts = shared | {"past": past}, ()
    else:
      # Else the compiler computes angles and masks anew in every layer.
      same = {name: shared[name] for name in ("turn", "valid", "prompt_mask")}
      shared = shared | jax.lax.optimization_barrier(same)
      prompts = prompt_k, prompt_v

    # The number is counted, for one that is sliced off is a kernel.
    def layer(x_and_number, params_and_prompt):
      x_BLD, number = x_and_number
      params, prompt = params_and_prompt
      if past:
        own = number
      else:
        own = *prompt, [cache.begin(held, number, read)]
      x_BLD, new = block.apply({"params": params}, x_BLD, own, shared)
      return (x_BLD, number + 1), new

    start = x_BLD, jnp.int32(0)
    (x_BLD, _), new = jax.lax.scan(layer, start, (blocks, prompts))
    return x_BLD, cache.put(held, new, shared["position"])

  def _past(self, cached, length: int, shared):
    """What one kernel a layer reads of the past; None where none does."""
    c, (valid,), position = self.config, shared["valid"], shared["position"]
    queries, read = length * c.heads // c.kv_heads, valid.shape[1]
    if c.attention != "splash" or not cached_attention.fits(
      cached, queries, read
    ):
      return None
    at = jnp.arange(read)
    new = (at >= position) & (at < position + length)
    masks = shared["prompt_mask"], valid & ~new
    return cached_attention.arrange(cached, masks, shared["turn"])

  def _step_unrolled(self, x_BLD, cached, shared):
    """The same without a loop, of parameters that `unstack` has parted.

    Keys and values are of tuples with an entry a layer, and so are those kept.
    """
    blocks, kept = self.get_variable("params", "blocks"), []
    block = Block(self.config, "step", parent=None)
    prompt_k, prompt_v, rungs = cached
    for layer, params in enumerate(blocks):
      held = [(k[layer], v[layer]) for k, v in rungs]
      cached = prompt_k[layer], prompt_v[layer], held
      x_BLD, kv = block.apply({"params": params}, x_BLD, cached, shared)
      kept.append(kv)
    return x_BLD, tuple(zip(*kept, strict=True))


def layers_of(blocks, layers: int) -> tuple:
  """Stacked parameters [layers, ...] as a tree a layer.

  By one split, whose gradient is put together once; that of an index is as
  large as all layers together.
  """
  leaves, tree = jax.tree.flatten(blocks)
  parts = [jax.lax.split(x, (1,) * layers) for x in leaves]
  return tuple(
    jax.tree.unflatten(tree, [jnp.squeeze(x, 0) for x in layer])
    for layer in zip(*parts, strict=True)
  )


def unstack(params, config: ModelConfig):
  """The decoder's parameters with a tree a layer, as a step asks for them,
  matrices as `products.of_few` does.

  Once a call, where `ModelConfig.unroll` has no loop over the layers: on a CPU
  that would copy each layer's weights, keys and values for every token.
  """
  if not config.unroll:
    return params
  inner = params["params"]
  decoder, blocks = inner["decoder"], inner["decoder"]["blocks"]
  each = layers_of(_laid_out(blocks, config.operands), config.layers)
  return {"params": inner | {"decoder": decoder | {"blocks": each}}}


def _laid_out(blocks, operands: str):
  """Blocks with each stacked "kernel" [layers, D, F] as one "laid_out"."""
  if not isinstance(blocks, Mapping):
    return blocks
  arrange = jax.vmap(functools.partial(products.laid_out, operands=operands))
  return {
    ("laid_out" if name == "kernel" else name): (
      arrange(x) if name == "kernel" else _laid_out(x, operands)
    )
    for name, x in blocks.items()
  }
