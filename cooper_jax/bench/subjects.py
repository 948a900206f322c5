"""Models, prompts and clocks of the benchmarks: plain decoders, random weights.

The model is the one that is trained; of a plain decoder's shape, and without
what only images need.
"""

import statistics
import time
import types

DECODERS = {  # layers, width, heads, kv heads, ffn, vocabulary, QKV bias
  "S": (4, 256, 4, 2, 704, 8192, False),
  "M": (12, 768, 12, 4, 2048, 32768, False),
  "L": (24, 896, 14, 2, 4864, 151_936, True),  # Qwen2.5-0.5B
}


def make_policy(shape: str, precision: str = "f32", *, maps: str | None = None):
  """A policy-like (model, form, limits to come) of one of the shapes."""
  from cooper_jax.models import unified
  from cooper_jax.models.config import ModelConfig, VisionConfig
  from cooper_jax.sequences import segments
  from cooper_jax.tokenizers.vocab import Vocabulary
  from cooper_jax.training.precision import dtypes

  layers, width, heads, kv_heads, ffn, vocabulary, bias = DECODERS[shape]
  side, patch = (64, 8) if maps else (4, 4)
  levels = (8, 5, 5, 5) if maps else (2, 2)
  dtype, operands = dtypes(precision)
  config = ModelConfig(
    dtype=dtype,
    operands=operands,
    text=vocabulary,
    codes=1000 if maps else 4,
    code_levels=levels,
    d_model=width,
    layers=layers,
    heads=heads,
    kv_heads=kv_heads,
    head_dim=64,
    ffn=ffn,
    map_grid=8 if maps else 2,
    max_maps=1,
    codes_per_step=maps or "row",
    qk_norm=False,
    qkv_bias=bias,
    pointer=bool(maps),
    tied_head=True,
    smear=False,
    map_lookup=False,
    aligned_queries=bool(maps),
    code_digits=bool(maps),
    attention="xla",
    unroll=True,
    vision=VisionConfig(
      image_size=side, patch=patch, width=128 if maps else 4, layers=1,
      heads=4 if maps else 1, ffn=256 if maps else 4, stem="linear",
    ),
  )  # fmt: skip
  words = Vocabulary(vocabulary, config.locations, config.codes)
  form = segments.Format(words, config, modality_ids=(0,), max_maps=1)
  return types.SimpleNamespace(
    model=unified.Unified(config, words.text_rows), form=form
  )


def make_params(policy):
  """Fresh random parameters."""
  import jax

  from cooper_jax.parallel import shard
  from cooper_jax.policy import init_params

  make = lambda key: shard.unbox(init_params(policy, key))  # noqa: E731
  return jax.jit(make)(jax.random.key(0))


def make_trunks(policy, prompts: int, length: int, *, image: bool):
  """Prompts of random words, which end before their last token."""
  import numpy as np

  from cooper_jax.sequences import segments

  rng = np.random.default_rng(0)
  cells = policy.form.model.locations if image else 0
  side = policy.form.model.vision.image_size
  trunks = []
  for _ in range(prompts):
    ids = rng.integers(8, policy.form.vocabulary.text, length - cells - 1)
    picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    words = segments.Text(ids, learn=False)
    trunks.append((segments.Image(picture), words) if image else (words,))
  return trunks


def matrices(params, policy) -> tuple[int, int]:
  """(parameters of the blocks, of the head) that a token is multiplied by."""
  import jax

  blocks = params["params"]["decoder"]["blocks"]
  inner = sum(leaf.size for leaf in jax.tree.leaves(blocks))
  model = policy.form.model
  return inner, model.d_model * policy.form.vocabulary.text_rows


def attention(policy, context: float) -> float:
  """Multiply-adds of a token with the keys and values before it."""
  model = policy.form.model
  return 2 * model.layers * model.heads * model.head_dim * context


def timed(call, repeats: int) -> dict:
  """Seconds of the first call and of those after it, wall and CPU."""
  import jax

  return timed_calls(
    lambda number: jax.block_until_ready(call(number)), repeats
  )


def timed_calls(call, repeats: int) -> dict:
  """The same of calls that come back when they are done."""

  def once(number):
    wall, cpu = time.perf_counter(), time.process_time()
    call(number)
    return time.perf_counter() - wall, time.process_time() - cpu

  first = once(0)[0]
  return summary(first, [once(i + 1) for i in range(repeats)])


def summary(first: float, runs) -> dict:
  """What is told of the first call's seconds and of the later (wall, CPU)."""
  wall, cpu = zip(*runs, strict=True)
  return {
    "first_s": first,
    "seconds": {
      "min": min(wall), "median": statistics.median(wall), "n": len(wall)
    },
    "cpu_seconds": statistics.median(cpu),
  }  # fmt: skip
