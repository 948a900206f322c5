"""Sizes of a config, checked by building tokenizers and policy as shapes only.

Which sizes go together only the modules know. Built at the stage that needs
them, a policy that can't be is found after the tokenizers have been trained.
"""

import jax

from cooper_jax import plugins
from cooper_jax.data import modes
from cooper_jax.errors import UserError
from cooper_jax.policy import abstract_params, adaptation_of, make_policy
from cooper_jax.rollouts import documents
from cooper_jax.stages import tokenizer

_SETTINGS = {
  "tokenizer": "config.tokenizer.network, model.map_grid and data.image_size",
  "policy": "config.model, its vision and config.tokenizer.network.levels",
  "rows": "config.pretrain.bin, sft.bin, sampling and grpo.bins",
}


def check(config, stages) -> None:
  """Raises UserError, in one line, where a part of these stages can't be built.

  Call it under the mesh of the run: `jax.set_mesh`.
  """
  if not {"tokenizer", "pretrain", "sft", "grpo", "evaluate"} & {*stages}:
    return
  _try("tokenizer", lambda: _tokenizers(config))
  if set(stages) <= {"tokenizer"}:
    return
  policy = _try("policy", lambda: _policy(config))
  for stage in stages:
    adaptation_of(policy, config, stage)
  _try("rows", lambda: _rows(config, policy, stages))


def _tokenizers(config) -> None:
  modules = tokenizer.find_modules(config)
  configs = tokenizer.make_configs(config, modules)
  jax.eval_shape(lambda: tokenizer.init_params(configs, jax.random.key(0)))


def _policy(config):
  policy = make_policy(config)
  abstract_params(policy)
  return policy


def _rows(config, policy, stages) -> None:
  for stage in ("pretrain", "sft"):
    if stage in stages:
      plugins.find("stages", stage).row_shape(config, policy)
      _check_bin(config, policy, stage)
  if "grpo" in stages:
    documents.row_shape(
      policy.form,
      policy.limits,
      trunk=max(config.sampling.prompt_buckets),
      bins=config.grpo.bins,
    )


def _check_bin(config, policy, stage: str) -> None:
  """A map and its two marks have to fit into a bin, where any is drawn."""
  shares = config[stage].get("shares", {"map": 1.0})
  least = policy.form.model.map_positions + 2
  drawn = any(w for name, w in shares.items() if name not in modes.WITHOUT_MAPS)
  if drawn and config[stage].bin <= least:
    raise UserError(
      f"config.{stage}.bin is {config[stage].bin} tokens and a map takes"
      f" {least} of them, with config.model.map_grid={config.model.map_grid};"
      " make it longer"
    )


def _try(what: str, make):
  try:
    return make()
  except UserError:
    raise
  except Exception as error:  # whatever flax and JAX make of a size
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise UserError(
      f"the {what} can't be built with these sizes: {lines[0][:160]}; look at"
      f" {_SETTINGS[what]}"
    ) from error
