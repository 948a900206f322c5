"""Models, prompts and clocks of the benchmarks: plain decoders, random weights.

The model is the one that is trained; of a plain decoder's shape, and without
what only images need.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

DECODERS = {  # layers, width, heads, kv heads, ffn, vocabulary, QKV bias
  "S": (4, 256, 4, 2, 704, 8192, False),
  "M": (12, 768, 12, 4, 2048, 32768, False),
  "L": (24, 896, 14, 2, 4864, 151_936, True),  # Qwen2.5-0.5B
}


@dataclasses.dataclass(frozen=True, eq=False)
class PlainPolicy:
  """What the sampler and the trainer need of a `policy.Policy`."""

  model: Any  # unified.Unified
  form: Any  # segments.Format


def make_policy(shape: str, precision: str = "f32", *, maps: str | None = None):
  """The policy of one of the shapes; precision: as `config.precision`."""
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
  return PlainPolicy(unified.Unified(config, words.text_rows), form)


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


def width_of(asked) -> int:
  """Bytes of a number of the matrices, as the sampler may read them."""
  return 2 if asked.precision == "bf16" else 4


def attention(policy, context: float) -> float:
  """Multiply-adds of a token with the keys and values before it."""
  model = policy.form.model
  return 2 * model.layers * model.heads * model.head_dim * context


@dataclasses.dataclass(frozen=True)
class Work:
  """Something that is timed, call by call.

  call: (number of the call) -> anything; arrays in it are waited for.
  facts: (its timing, as of `in_turn`) -> what else is told of it.
  """

  call: Callable[[int], Any]
  facts: Callable[[dict], dict] = lambda timing: {}


def timed(call, repeats: int) -> dict:
  """The timing of one work's calls, as `in_turn` gives it."""
  return in_turn([Work(call)], repeats)[0]


def in_turn(works, repeats: int, limit: float = math.inf) -> list[dict]:
  """Times works call by call, one after the other, and gives each one's facts.

  The first call of each, which compiles, is told apart. In turn, so that what
  the machine does beside is shared alike; a pause before each call lets the
  threads of the work before go to sleep. repeats: timed calls of each, fewer
  where all together have taken `limit` seconds, but one at least.
  """
  begun = time.monotonic()
  first = [_once(work, 0) for work in works]
  runs = [[] for _ in works]
  for number in range(repeats):
    if number and time.monotonic() - begun > limit:
      break
    for work, spent in zip(works, runs, strict=True):
      time.sleep(0.2)
      spent.append(_once(work, number + 1))
  found = []
  for work, (wall, _), spent in zip(works, first, runs, strict=True):
    timing = summary(wall, spent)
    found.append(timing | work.facts(timing))
  return found


def _once(work: Work, number: int) -> tuple[float, float]:
  """(wall, CPU) seconds of a call."""
  import jax

  wall, cpu = time.perf_counter(), time.process_time()
  jax.block_until_ready(work.call(number))
  return time.perf_counter() - wall, time.process_time() - cpu


def summary(first: float, runs) -> dict:
  """What is told of the first call's seconds and of the later (wall, CPU).

  Medians; `cpu_s` is of the process, all its threads together.
  """
  wall, cpu = zip(*runs, strict=True)
  return {
    "cpu_s": statistics.median(cpu),
    "cpu_min_s": min(cpu),
    "wall_s": statistics.median(wall),
    "first_s": first,
    "repeats": len(runs),
  }


def work_seconds(timing: dict) -> float:
  """Seconds that speeds are told by: of the CPU, or of a device where it is."""
  import jax

  return timing["cpu_s" if jax.default_backend() == "cpu" else "wall_s"]
