"""A policy that is trained in seconds: 16 pixels, maps of four codes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from cooper_jax.policy import init_state, make_policy
from cooper_jax.rl import scoring
from cooper_jax.rl.build import build_step
from cooper_jax.rl.questions import Questions
from cooper_jax.rollouts import prompts
from cooper_jax.sample import Question, Sample
from cooper_jax.stages import tokenizer
from cooper_jax.training import optim
from tests import tiny  # noqa: F401  sets the mesh


def make_config():
  config = base.get_base("smoke", ("grpo",))
  with config.unlocked():
    config.data.image_size = 16
    config.model.update(
      d_model=32, layers=1, heads=2, kv_heads=1, head_dim=16, ffn=64,
      map_grid=2, max_maps=1,
    )  # fmt: skip
    config.model.vision.update(width=16, heads=2, ffn=32)
    config.tokenizer.network.update(width=8, fine_width=8, levels=(2, 3, 2))
    config.sampling.update(text=12, maps=1, prompt_buckets=(24,))
    config.grpo.rl.group_size, config.grpo.batch = 8, 4
    config.grpo.optim.update(
      name="adamw", learning_rate=5e-3, schedule="constant", warmup_steps=1
    )
  return config


CONFIG = make_config()
POLICY = make_policy(CONFIG)
MODALITY_ID = POLICY.markup.modality_ids["depth"]
ASKED = ("Is it near ?", "Is it far ?")  # a map helps the first, not the other


def make_items():
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
  sample = Sample(
    "one",
    "test",
    image,
    maps={"depth": rng.uniform(1, 9, (16, 16)).astype(np.float32)},
  )
  questions = [
    Question("x", text, "yes", "yes_no", ("yes", "no"), flag=flag)
    for text, flag in zip(ASKED, ("positive", "negative"), strict=True)
  ]
  return [prompts.Item(sample, question) for question in (*questions,) * 2]


ITEMS = make_items()


@functools.cache
def codecs():
  """Untrained tokenizers; made by the first who asks, not by all who import."""
  modules = tokenizer.find_modules(CONFIG)
  configs = tokenizer.make_configs(CONFIG, modules)
  init = jax.jit(functools.partial(tokenizer.init_params, configs))
  # On no device, for tests have meshes of their own.
  params = jax.device_get(init(jax.random.key(3)))
  return tokenizer.codecs(configs, modules, params)


OPTIMIZER = optim.make_optimizer(
  optim.OptimConfig(**CONFIG.grpo.optim), steps=1000
)


def fresh(seed=0, optimizer=OPTIMIZER, **parts):
  """The state before the first step; a copy, for a step takes its memory."""
  return jax.tree.map(jnp.copy, _fresh(seed, optimizer, **parts))


@functools.cache
def _fresh(seed, optimizer, **parts):
  return init_state(POLICY, optimizer, seed=seed, **parts)


def make_step(config=CONFIG, policy=POLICY, optimizer=OPTIMIZER, **parts):
  """A GRPO step of the toy policy; parts: options of `build_step`."""
  made = parts.pop("codecs", None) or codecs()
  return build_step(config, policy, optimizer, made, **parts)


def asked(number=0, items=None, turn=0):
  """The questions of a step: the same four at each."""
  return Questions(number, ITEMS if items is None else items, turn)


def letter_e(view, columns):
  """Scores that differ from the first step on: how many e a response has."""
  del columns
  return scored([text.count("e") for text in view.text])


def scored(total, quality=None):
  total = np.asarray(total, np.float32)
  quality = np.zeros((len(total), 0)) if quality is None else quality
  return scoring.RewardScores({"all": total}, total, quality, {}, {})
