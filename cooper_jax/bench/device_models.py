"""Models of the device check and their work: default run, and size 0p6b.

They are those that the stages build, on data that is made here: rooms rendered
for a step of GRPO, random words and codes for a step of SFT. Toy: a model of
the same code that a CPU compiles in seconds.
"""

import dataclasses
import functools
import time
import types

import jax
import numpy as np

from cooper_jax import package, policy
from cooper_jax.bench.sampling import Sampling
from cooper_jax.data.sources import DataConfig
from cooper_jax.parallel import chips, shard
from cooper_jax.plan import decode
from cooper_jax.rl.build import build_sampler, build_step
from cooper_jax.rl.pack import to_rows
from cooper_jax.rl.questions import QuestionStream
from cooper_jax.rl.sample import sample_rollouts
from cooper_jax.sampling import grammar, sampler
from cooper_jax.sequences import packing, scoring, segments
from cooper_jax.stages import sft, supervised, tokenizer
from cooper_jax.training import optim
from cooper_jax.world import scenes

ROOMS = 16  # rooms that questions are drawn from
_KINDS = (  # words of a device's name -> name in chips.py
  ("v5 lite", "v5e"),
  ("v5e", "v5e"),
  ("v5p", "v5p"),
  ("v5", "v5p"),
  ("v6", "v6e"),
  ("7x", "tpu7x"),
  ("v4", "v4"),
  ("h100", "h100"),
  ("h200", "h200"),
)


def peak_of(device) -> chips.Chip | None:
  """What the device is by `chips.py`; None where it is none of those."""
  kind = device.device_kind.lower()
  return next(
    (chips.CHIPS[name] for words, name in _KINDS if words in kind), None
  )


def released(size: str, *, toy: bool):
  """The config of a size, on one device."""
  from configs import grpo

  config = grpo.get_config(size)
  config.mesh.update(data=1, fsdp=1, tensor=1)
  config.grpo.update(batch=2, rows=4)
  if toy:
    shrink(config)
  return config


def shrink(config) -> None:
  """The same model with small sizes; all that it does stays."""
  config.text_rows = 0
  config.model.unroll = "off"  # as on an accelerator; soon compiled
  config.data.image_size = 64
  config.model.update(
    d_model=64, layers=2, heads=2, kv_heads=1, head_dim=32, ffn=64, map_grid=4
  )
  config.model.vision.update(width=32, layers=1, heads=2, ffn=32)
  config.tokenizer.network.update(width=16, fine_width=8, blocks=1)
  config.sft.update(bin=64, texts=64)
  config.sampling.update(text=12, maps=1, prompt_buckets=(112,))
  config.grpo.rl.group_size = 2


def _random(made):
  """Fresh parameters of a policy."""
  init = lambda key: shard.unbox(policy.init_params(made, key))  # noqa: E731
  return jax.jit(init)(jax.random.key(0))


def _rows_that_fit(config) -> int:
  """Rows of SFT for the memory of a device, as `configs/sizes.py` has them."""
  from configs.sizes import SIZES

  stats = jax.devices()[0].memory_stats() or {}
  size = SIZES[config.variant.partition("@")[0]]
  return max(1, int(stats.get("bytes_limit", 0) / 1e9 / (2 * size.gigabytes)))


def _documents(made, shape: packing.Shape, rows: int) -> list:
  """Documents of a stage's row: an image, and in each bin text and two maps."""
  rng, form = np.random.default_rng(0), made.form
  model, bins = form.model, shape.bins.bins_in(shape.length)
  words = min(shape.texts // bins, shape.bin_size) - 8
  maps = min(2, shape.codes // model.map_codes // bins)
  words = min(words, shape.bin_size - maps * (model.map_positions + 2) - 8)
  side = model.vision.image_size

  def branch():
    text = lambda: segments.Text(  # noqa: E731
      rng.integers(8, made.text.size, words // (maps + 1))
    )
    drawn = [
      segments.Map(i, rng.integers(0, model.codes, model.map_codes))
      for i in form.modality_ids[:maps]
    ]
    return (text(), *(x for each in drawn for x in (each, text())))

  picture = lambda: rng.integers(0, 256, (side, side, 3), dtype=np.uint8)  # noqa: E731
  return [
    segments.Document(
      (segments.Image(picture()),), tuple(branch() for _ in range(bins))
    )
    for _ in range(rows)
  ]


def training(config, *, toy: bool) -> dict:
  """Steps of the SFT stage: seconds of one, and its arithmetic by formula.

  As many rows as `configs/sizes.py` gives this memory, fewer where they do not
  fit after all.
  """
  made = policy.make_policy(config)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**config.sft.optim), steps=1000
  )
  shape = sft.row_shape(config, made)
  rows = 2 if toy else _rows_that_fit(config)
  while True:
    try:
      return _training(config, made, optimizer, shape, rows)
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error) or rows == 1:
        raise
      rows //= 2


def _training(config, made, optimizer, shape, rows: int) -> dict:
  state = policy.init_state(made, optimizer, seed=0)
  flops = supervised.flops(state.params, made, rows, shape)
  batch = packing.pack(
    _documents(made, shape, rows), form=made.form, shape=shape, rows=rows
  )
  batch = jax.device_put(batch | {"left_out": np.zeros(rows, np.int32)})
  step = supervised.jit_step(made, optimizer, config.sft, shape)
  times = []
  for _ in range(4):  # the first one compiles
    begun = time.perf_counter()
    state, metrics = step(state, batch)
    loss = float(metrics["loss"])
    times.append(time.perf_counter() - begun)
  if not np.isfinite(loss):
    raise FloatingPointError(f"the loss of SFT is {loss}")
  seconds = float(np.median(times[1:]))
  return {
    "rows": rows,
    "length": shape.length,
    "step_s": seconds,
    "tokens_per_s": rows * shape.length / seconds,
    "flops": flops,
    "loss": loss,
  }


def decoding(config, *, toy: bool) -> dict:
  """Rollouts of text: seconds of a step, and the bytes that it has to read."""
  prompts, group, length, new = (2, 2, 16, 12) if toy else (8, 8, 320, 256)
  limits = grammar.Limits(text=new + 1, maps=0, script=2)
  made = dataclasses.replace(policy.make_policy(config), limits=limits)
  params = policy.for_sampling(made, _random(made))
  asked = types.SimpleNamespace(prompts=prompts, group=group, prompt_len=length)
  sampling = Sampling(asked, made, new=new, maps=False)
  options = dict(text_temperature=1.0, code_temperature=1.0)
  keys = sampling.keys(0)
  program = sampler.sample.lower(
    params,
    sampling.prompts,
    keys,
    model=made.model,
    form=made.form,
    limits=limits,
    group=group,
    **options,
  ).compile()
  run = functools.partial(program, params, sampling.prompts, keys, **options)
  read = sampling.prefill(params)
  out, _ = jax.block_until_ready((run(), read(0)))
  times = {"all": [], "prefill": []}
  for _ in range(3):
    for name, call in (("all", run), ("prefill", lambda: read(0))):
      begun = time.perf_counter()
      jax.block_until_ready(call())
      times[name].append(time.perf_counter() - begun)
  rows = prompts * group
  whole, before = min(times["all"]), min(times["prefill"])
  reads = decode.of_text(
    made,
    params,
    batch=prompts,
    group=group,
    prompt=length,
    sizes=dict(jax.sharding.get_mesh().shape),
  )
  found = decode.kernels(program.as_text(), made.form.model.layers)
  return {
    "rows": rows,
    "tokens_per_s": int(out.trainable.sum()) / whole,
    "step_s": max(whole - before, 1e-9) / new,
    "prefill_s": before,
    "bytes_a_step": float(reads.total),
    "kernels_a_step": max(found.a_step) if found else 0,  # of any rung
  }


class Reinforcement:
  """GRPO as the stage does it, step by step, on rooms rendered here."""

  @classmethod
  def of_package(cls, name: str, *, toy: bool):
    """Of the default run, from a packaged model, computed in bf16."""
    from configs import grpo

    config = grpo.get_config(name)
    config.precision = "bf16"
    if toy:
      config.model.unroll = "off"
      config.sampling.update(text=16, maps=1, prompt_buckets=(160,))
      config.grpo.update(batch=2, bins=1)
      config.grpo.rl.group_size = 2
    made = policy.make_policy(config)
    codecs, params = package.load(config, made, package.find(name))
    return cls(config, made, codecs, params)

  @classmethod
  def of_size(cls, config):
    """Of a size, with random parameters."""
    made = policy.make_policy(config)
    modules = tokenizer.find_modules(config)
    configs = tokenizer.make_configs(config, modules)
    drawn = jax.jit(lambda key: tokenizer.init_params(configs, key))(
      jax.random.key(1)
    )
    codecs = tokenizer.codecs(configs, modules, drawn)
    return cls(config, made, codecs, None)

  def __init__(self, config, made, codecs, params):
    self._config, self._policy, self._codecs = config, made, codecs
    optimizer = optim.make_optimizer(
      optim.OptimConfig(**config.grpo.optim), steps=1000
    )
    if params:
      self._state = policy.start_from(made, optimizer, params, seed=config.seed)
    else:
      self._state = policy.init_state(made, optimizer, seed=config.seed)
    world = DataConfig.from_config(config).world
    self._questions = QuestionStream(
      scenes.generate(world, split="train", start=0, count=ROOMS),
      batch=config.grpo.batch,
      seed=config.seed,
    )
    self._step = build_step(config, made, optimizer, codecs)
    self.rows = config.grpo.batch * config.grpo.rl.group_size

  def step(self) -> dict:
    """One step; its metrics, which are waited for."""
    self._state, metrics = self._step(self._state, next(self._questions))
    return jax.device_get(metrics)

  def mismatch(self) -> dict:
    """Gaps between the log-probabilities of sampler and trainer, in nats.

    Of the rollouts of a step, by kind of token: mean and largest.
    """
    config, made = self._config, self._policy
    begin, read = build_sampler(config, made, self._codecs)
    batch = sample_rollouts(
      self._state, next(self._questions), begin=begin, read=read
    )
    pieces = to_rows(
      batch,
      policy=made,
      buckets=config.sampling.prompt_buckets,
      bins=config.grpo.bins,
      rows=config.grpo.rows,
    )

    @functools.partial(jax.jit, static_argnames="bins")
    def score(params, packed, bins):
      return scoring.score(
        made.model, params, packed, form=made.form, sampled=True, bins=bins
      )

    sampled = np.asarray(batch.rollout.log_prob).ravel()
    learned = np.asarray(batch.rollout.trainable).ravel()
    gaps = {"text": [], "code": []}
    for piece in pieces:
      scores = score(self._state.params, piece.packed, piece.bins)
      for kind, found in gaps.items():
        source = np.asarray(piece.packed[f"{kind}_source"])
        here = (source >= 0) & learned[source]
        ours = np.asarray(getattr(scores, f"{kind}_log_prob"), np.float64)
        found.append(np.abs(ours[here] - sampled[source[here]]))
    out = {"tokens": sum(part.size for each in gaps.values() for part in each)}
    for kind, found in gaps.items():
      each = np.concatenate(found)
      out[f"{kind}_mean"] = float(each.mean()) if each.size else 0.0
      out[f"{kind}_max"] = float(each.max()) if each.size else 0.0
    return out
