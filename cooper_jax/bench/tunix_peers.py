"""Tunix, another library on JAX, timed on the work of the benchmarks.

It is no dependency: it is imported here, and only where `--beside=tunix` asks
for it. Of the same shape, its head tied to the embedding as ours is; in bf16
its parameters are that, too, for its cache takes their dtype.
"""

import functools
import importlib
import time

from cooper_jax.bench.subjects import DECODERS, Work, summary
from cooper_jax.errors import UserError

_INSTALL = "pip install google-tunix"


def _imported(name: str):
  """The module, or one line that says how to install it."""
  try:
    return importlib.import_module(name)
  except ImportError as error:
    missing = error.name.partition(".")[0]
    raise UserError(f"--beside=tunix needs {missing}: {_INSTALL}") from error


def _mesh():
  """One device, with the axes that Tunix's models name."""
  import jax

  kinds = (jax.sharding.AxisType.Auto,) * 2
  devices = jax.devices()[:1]
  return jax.make_mesh((1, 1), ("fsdp", "tp"), kinds, devices=devices)


def _model(shape: str, precision: str):
  """A Qwen2 of a shape, its weights random."""
  import jax.numpy as jnp
  from flax import nnx

  qwen2 = _imported("tunix.models.qwen2.model")
  layers, width, heads, kv_heads, ffn, vocabulary, _ = DECODERS[shape]
  dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
  config = qwen2.ModelConfig(
    num_layers=layers,
    vocab_size=vocabulary,
    embed_dim=width,
    hidden_dim=ffn,
    num_heads=heads,
    head_dim=64,
    num_kv_heads=kv_heads,
    rope_theta=10_000,
    norm_eps=1e-6,
    use_tied_embedding=True,
    dtype=dtype,
    param_dtype=dtype,
  )
  return qwen2.Qwen2(config, rngs=nnx.Rngs(0)), config


class _Words:
  """A tokenizer of numbers; its end of text is never sampled."""

  def __init__(self, vocabulary: int):
    self.vocabulary = vocabulary

  def encode(self, text, **_):
    return [int(word) for word in text.split()]

  def decode(self, ids, **_):
    return " ".join(map(str, ids))

  def bos_id(self):
    return 0  # none

  def eos_id(self):
    return self.vocabulary

  def pad_id(self):
    return 0


def _prompts(asked) -> list[str]:
  """As many prompts of random words as are asked for."""
  import numpy as np

  drawn = np.random.default_rng(0).integers(
    8, 4096, (asked.prompts, asked.prompt_len)
  )
  return [" ".join(map(str, ids)) for ids in drawn]


def _name() -> str:
  from importlib import metadata

  names = ("jax", "google-tunix")
  return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def generate(asked, threads: int) -> Work:
  """Its own `Sampler`, at temperature 1, a prompt for every rollout."""
  import jax

  del threads  # JAX has been started with them
  samplers = _imported("tunix.generate.sampler")
  with jax.set_mesh(_mesh()):
    model, config = _model(asked.shape, asked.precision)
    sampler = samplers.Sampler(
      model,
      _Words(config.vocab_size),
      samplers.CacheConfig(
        cache_size=asked.prompt_len + asked.new,
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
      ),
    )
    prompts = [text for text in _prompts(asked) for _ in range(asked.group)]

  def call(number):
    with jax.set_mesh(_mesh()):
      made = sampler(
        prompts,
        max_generation_steps=asked.new,
        max_prompt_length=asked.prompt_len,
        temperature=1.0,
        top_p=1.0,
        seed=number,
      )
    _all_sampled(asked, [len(ids) for ids in made.tokens])

  return Work(call, lambda _: {"by": _name()})


def _all_sampled(asked, lengths: list[int]):
  if set(lengths) != {asked.new}:
    raise UserError(
      f"Tunix sampled {min(lengths)} tokens of the {asked.new} asked for; give"
      f" --new={min(lengths)}"
    )


def grpo(asked, threads: int):
  """Times steps of its GRPO: rollouts, random rewards, an AdamW update.

  From one call of the reward to the next: an update and the next step's
  rollouts.
  """
  del threads  # JAX has been started with them
  _imported("tunix.rl.grpo.grpo_learner")  # or says so now
  return functools.partial(_grpo, asked)


def _grpo(asked) -> dict:
  import jax
  import numpy as np
  import optax

  clusters = _imported("tunix.rl.rl_cluster")
  learners = _imported("tunix.rl.grpo.grpo_learner")
  rollouts = _imported("tunix.rl.rollout.base_rollout")
  marks = []

  def reward(prompts, completions, **_):
    del prompts
    marks.append((time.perf_counter(), time.process_time()))
    _all_sampled(asked, [len(each.split()) for each in completions])
    return np.random.default_rng(len(marks)).random(len(completions)).tolist()

  mesh, steps = _mesh(), asked.repeats + 2
  with jax.set_mesh(mesh):
    model, config = _model(asked.shape, asked.precision)
    roles = (
      clusters.Role.ACTOR, clusters.Role.REFERENCE, clusters.Role.ROLLOUT
    )  # fmt: skip
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5))
    cluster = clusters.RLCluster(
      actor=model,
      tokenizer=_Words(config.vocab_size),
      cluster_config=clusters.ClusterConfig(
        role_to_mesh=dict.fromkeys(roles, mesh),
        training_config=clusters.RLTrainingConfig(
          actor_optimizer=optimizer, eval_every_n_steps=steps, max_steps=steps
        ),
        rollout_config=rollouts.RolloutConfig(
          max_tokens_to_generate=asked.new,
          max_prompt_length=asked.prompt_len,
          kv_cache_size=asked.prompt_len + asked.new,
          temperature=1.0,
          top_p=1.0,
          eos_tokens=[config.vocab_size],
        ),
      ),
    )
    learners.GRPOLearner(
      rl_cluster=cluster,
      reward_fns=reward,
      algo_config=learners.GRPOConfig(num_generations=asked.group, beta=0.0),
    ).train([{"prompts": np.array(_prompts(asked))}] * steps)
  spans = [tuple(b) for b in np.diff(np.array(marks), axis=0).tolist()]
  return {"by": _name()} | summary(spans[0][0], spans[1:])
