"""Checks between settings of reinforcement, made before anything is built."""

import math

from ml_collections import ConfigDict

from cooper_jax import plugins
from cooper_jax.errors import UserError, nearest

RESULTS = ("last", "best")  # what later stages take of GRPO
FLAG_MARGIN = 0.25  # of measured flags, by default


def check(config: ConfigDict) -> None:
  """What reinforcement would refuse, said before the stages that lead to it."""
  from cooper_jax.rl import advantages, build, losses, question_order, scoring
  from cooper_jax.sampling import grammar

  rl = config.grpo.rl
  if config.grpo.optim.micro_batches != 1:
    raise UserError(
      "config.grpo.optim.micro_batches must be 1; the update takes"
      " config.grpo.rows rows at a time instead, lower that"
    )
  if rl.group_size < 2 or rl.updates < 1:
    raise UserError(
      f"config.grpo.rl.group_size and rl.updates are {rl.group_size} and"
      f" {rl.updates}; allowed: groups of 2 and more, 1 update and more"
    )
  for name in ("temperature", "code_temperature"):
    value = config.sampling[name]
    if not 0 < value < math.inf:
      raise UserError(
        f"config.sampling.{name} is {value}; GRPO learns from rollouts that"
        " differ: allowed are numbers above 0 (evaluation is greedy anyway)"
      )
  for name in ("top_k", "code_top_k", "min_p", "code_min_p"):
    if config.sampling[name] == 1:
      raise UserError(
        f"config.sampling.{name} is {config.sampling[name]:g}, which leaves the"
        " likeliest alone; GRPO learns from rollouts that differ: allowed are"
        f" {'numbers below 1' if 'min_p' in name else '0 (all), 2 and more'}"
      )
  if rl.resample < 0:
    raise UserError(
      f"config.grpo.rl.resample is {rl.resample}; allowed: 0 (off) and more"
      " rounds"
    )
  if config.grpo.batch % rl.minibatches:
    raise UserError(
      f"config.grpo.batch is {config.grpo.batch}, which"
      f" config.grpo.rl.minibatches={rl.minibatches} can't divide evenly; make"
      " it a divisor"
    )
  several = rl.updates > 1 or rl.minibatches > 1 or rl.pipeline
  if several and rl.loss.correction != "none":
    raise UserError(
      "config.grpo.rl.loss.correction needs config.grpo.rl.updates=1,"
      " grpo.rl.minibatches=1 and grpo.rl.pipeline=False: else the sampler's"
      " own log-probabilities are the old ones, and there is no gap"
    )
  if any(build.truncated_kinds(config.sampling)) and (
    several or losses.needs_reference(rl)
  ):
    raise UserError(
      "config.sampling.top_k, top_p and min_p (and those of codes) need"
      " config.grpo.rl.updates=1, minibatches=1, pipeline=False and no KL"
      " penalty: under other parameters the likeliest are other tokens than the"
      " sampler drew from"
    )
  if rl.pipeline and rl.resample:
    raise UserError(
      "config.grpo.rl.pipeline samples before rewards are known and"
      " config.grpo.rl.resample after; turn one of them off"
    )
  _check_more_rollouts(config)
  for name, allowed in (("result", RESULTS), ("order", question_order.ORDERS)):
    value = config.grpo[name]
    if value not in allowed:
      raise UserError(
        f'config.grpo.{name} is "{value}"; allowed: {", ".join(allowed)}'
        f"{nearest(value, allowed)}"
      )
  if config.grpo.order != "random" and len(config.data.weights) > 1:
    raise UserError(
      f"config.grpo.order={config.grpo.order} takes questions of any source,"
      f" and config.data.weights={tuple(config.data.weights)} gives each source"
      " a share; take order=random, or weights=()"
    )
  if config.grpo.order == "difficulty":
    if rl.rewards.answer is None:
      raise UserError(
        "config.grpo.order=difficulty goes by the answers that are right, and"
        " config.grpo.rl.rewards.answer is None; set it to 0 or more"
      )
    how = rl.settings.answer
    if how.graded and how.graded_by == "rank":
      raise UserError(
        "config.grpo.order=difficulty goes by the answers that are right, and"
        " grpo.rl.settings.answer.graded_by=rank pays half of any group; take"
        " mra or sigmoid, or another order"
      )
    if rl.pipeline:
      raise UserError(
        "config.grpo.order=difficulty goes by the step before, and"
        " config.grpo.rl.pipeline samples before it is scored; turn one off"
      )
  if config.grpo.result == "best" and not config.grpo.validate_every:
    raise UserError(
      "config.grpo.result=best is the best by validation, and"
      " config.grpo.validate_every is 0: set it to a number of steps"
    )
  try:
    grammar.Limits(text=config.sampling.text, maps=config.sampling.maps)
  except UserError as error:
    raise UserError(f"config.sampling: {error}") from error
  try:
    advantages.find(rl.advantage)
    losses.configs_of(rl)
    scoring.make_scorer(rl)
  except UserError as error:
    raise UserError(f"config.grpo.rl: {error}") from error
  _check_rewards(config)
  _check_codes(rl)


def _check_more_rollouts(config: ConfigDict) -> None:
  """Rollouts beside those that are learned from: what they need is on."""
  settings, rl = config.grpo, config.grpo.rl
  exchanges = rl.rewards.map_effect is not None
  flags = [
    f"config.grpo.{name}={settings[name]}"
    for name in ("flag_rollouts", "flag_questions")
    if settings[name]
  ]
  if len(flags) > 1:
    raise UserError(
      f"{flags[0]} measures flags question by question, and {flags[1]} by"
      " family; set one of them to 0"
    )
  asked = flags + ["config.grpo.rl.rewards.map_effect"] * exchanges
  if (settings.flag_rollouts or exchanges) and rl.pipeline:
    raise UserError(
      f"{asked[0]} samples more by a step's own parameters, and"
      " config.grpo.rl.pipeline samples a step ahead; turn one of them off"
    )
  if asked and not config.sampling.maps:
    raise UserError(
      f"{asked[0]} is about maps that are drawn, and config.sampling.maps is 0;"
      " set it to 1 or more, or leave that out"
    )
  if exchanges and settings.batch < 2:
    raise UserError(
      "config.grpo.rl.rewards.map_effect takes the maps of another image of the"
      f" same step, and config.grpo.batch is {settings.batch}; set it to 2 or"
      " more"
    )
  if flags and rl.rewards.exploration is None:
    raise UserError(
      f"{asked[0]} measures flags, and nothing reads them:"
      " config.grpo.rl.rewards.exploration is None; set it to a weight"
    )
  price, worth = rl.rewards.map_price, rl.rewards.answer
  if (
    settings.flag_questions and price and (not worth or rl.advantage == "gdpo")
  ):
    why = f"grpo.rl.rewards.answer is {worth}"
    if worth:
      why = "grpo.rl.advantage is gdpo, by which weights are no price"
    raise UserError(
      "config.grpo.flag_questions takes the price of a map"
      f" (config.grpo.rl.rewards.map_price={price}) off what it brings in right"
      f" answers, and config.{why}; set map_price to 0, or change that"
    )
  if not flags and settings.flag_margin != FLAG_MARGIN:
    raise UserError(
      f"config.grpo.flag_margin is {settings.flag_margin}, and nothing reads"
      " it: config.grpo.flag_rollouts and flag_questions are 0; set one,"
      " to 4 or to 2048, for example"
    )


def _check_codes(rl) -> None:
  """Nothing set of the loss of codes where there is none."""
  if not rl.text_only and rl.code.weight:
    return
  why = "text_only=True" if rl.text_only else "code.weight=0"
  for name, value in rl.code.items():
    if name != "weight" and value != -1:
      raise UserError(
        f"config.grpo.rl.code.{name} is {value}, and codes are not in the loss:"
        f" config.grpo.rl.{why}; leave it at -1"
      )


def _check_rewards(config: ConfigDict) -> None:
  """Nothing set of a reward that is not computed; no price that pays.

  Nor one that counts and could only abstain: of maps that nobody draws.
  """
  rl, drawn = config.grpo.rl, config.modalities
  maps = plugins.names("modalities")
  for name, weight in rl.rewards.items():
    is_drawn = name not in maps or (name in drawn and config.sampling.maps)
    if weight and not is_drawn:
      why = f"config.modalities is {', '.join(drawn)}"
      if name in drawn:
        why = f"config.sampling.maps is {config.sampling.maps}"
      raise UserError(
        f"config.grpo.rl.rewards.{name} is {weight}, and no such map is drawn:"
        f" {why}; set it to 0"
      )
  for name, given in rl.settings.items():
    usual = plugins.find("rewards", name).Config()
    for field, value in given.items():
      if rl.rewards[name] is None and value != getattr(usual, field):
        raise UserError(
          f"config.grpo.rl.settings.{name}.{field} is {value}, and nothing"
          f" reads it: config.grpo.rl.rewards.{name} is None; set it to a"
          " weight"
        )
  price = rl.rewards.map_price
  if price is not None and price < 0:
    raise UserError(
      f"config.grpo.rl.rewards.map_price is {price}, which pays for drawing;"
      " allowed: 0 and more, as 0.05 of a right answer's 1"
    )
