"""Folders to start a run from, and the config of a run of a few steps."""

import json

import numpy as np
import tokenizers

from configs import base
from cooper_jax import package
from cooper_jax.settings import checks
from cooper_jax.tokenizers.text import ASSET
from cooper_jax.weights import starting
from tests.weights import released, released_pictures, released_seeing

ROWS = 840  # of the embedding; our own tokenizer, which it has, is smaller
END = "<|im_end|>"
STEPS = 5  # of each stage
SIZES = released.SIZES | {"vocab_size": ROWS}


def write_tokenizer(folder):
  """The package's own tokenizer, as a folder has one."""
  made = tokenizers.Tokenizer.from_str(ASSET.read_text("utf-8"))
  made.add_special_tokens([END])
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "tokenizer.json").write_text(made.to_str(), "utf-8")
  settings = json.dumps({"eos_token": END})
  (folder / "tokenizer_config.json").write_text(settings)


def write_text(folder, seed=0, **changes):
  """A folder like Qwen3's; gives (config, tensors)."""
  write_tokenizer(folder)
  config = released.text("qwen3", True, **SIZES) | changes
  tensors = released.random_tensors(config, seed=seed)
  shape = (config["vocab_size"], config["hidden_size"])
  rows = np.random.default_rng(seed).normal(0.05, 0.1, shape)
  tensors["model.embed_tokens.weight"] = rows.astype("f4")
  released.write_json(folder / "config.json", config)
  released.write_tensors(folder, tensors)
  return config, tensors


def write_vision(folder):
  """A folder like SigLIP's, of 16 patches of 16 pixels; gives its tensors."""
  patch, width = 16, released_pictures.WIDTH
  tensors = released_pictures.tower_tensors("", conv=True, seed=1)
  rng = np.random.default_rng(2)
  stem = rng.normal(0, 0.03, (width, 3, patch, patch)).astype("f4")
  tensors["embeddings.patch_embedding.weight"] = stem
  config = released_pictures.fixed(4 * patch) | {"patch_size": patch}
  folder.mkdir(parents=True)
  released.write_json(folder / "config.json", config)
  released.write_tensors(folder, tensors)
  return tensors


def write_seeing(folder):
  """A folder like Qwen3-VL's, of patches of 16 pixels; gives its tensors."""
  write_tokenizer(folder)
  config, prefix, tower, shards = released_seeing.CASES["qwen3_vl"]
  config = config | {
    "text_config": config["text_config"] | {"vocab_size": ROWS},
    "vision_config": config["vision_config"] | {"patch_size": 16},
  }
  tensors = released_seeing.random_tensors(config, prefix, tower)
  released.write_json(folder / "config.json", config)
  released.write_tensors(folder, tensors, shards)
  return tensors


def make(work, changes, pipeline=("tokenizer", "pretrain", "sft", "grpo")):
  """The config of a run of few steps.

  changes: value of each setting that is asked for, as on a command line.
  """
  config = base.get_base("smoke", pipeline).copy_and_resolve_references()
  with config.unlocked():
    config.data.update(
      cache=str(work / "cache"),
      train_scenes=16,
      validation_scenes=4,
      test_scenes=4,
      workers=1,
    )
    config.tokenizer.network.update(width=8, fine_width=8)
    config.tokenizer.steps = 1
    config.sampling.text = 12
    config.grpo.rl.group_size = 2
    config.grpo.rl.loss.kl_weight = 0.1
    for stage in ("pretrain", "sft", "grpo"):
      config[stage].update(
        steps=STEPS, batch=2, log_every=1, save_every=STEPS, image_every=0
      )
  config.update_from_flattened_dict(changes)
  starting.take(config, set(changes))
  package.take_text(config)
  checks.validate(config)
  return config
