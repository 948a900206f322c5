"""A GRPO step made from a config: its four functions and their wrappers.

Here alone it is decided what a run adds to the six lines of `step.py`: dynamic
or pipelined sampling, shuffled rewards, questions by difficulty, scoring by
several processes, a log.
"""

import functools

import jax
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.parallel import mesh, processes
from cooper_jax.rl import (
  advantages,
  exchanged_maps,
  losses,
  measured_flags,
  process_shares,
  scoring,
)
from cooper_jax.rl.dynamic_sampling import Resample
from cooper_jax.rl.one_step_ahead import SampleAhead
from cooper_jax.rl.pack import to_rows
from cooper_jax.rl.question_order import observed
from cooper_jax.rl.rollout_log import logged
from cooper_jax.rl.sample import (
  begin_rollouts,
  modality_names,
  read_rollouts,
  responses_of,
  sample_rollouts,
)
from cooper_jax.rl.score import call_rewards, score_rollouts
from cooper_jax.rl.shuffle_rewards import shuffled
from cooper_jax.rl.step import grpo_step
from cooper_jax.rl.targets import make_targets, token_advantages
from cooper_jax.rl.update import Update, make_update
from cooper_jax.rollouts import generate
from cooper_jax.sequences.truncation import NONE, Truncation


def build_step(
  config, policy, optimizer, codecs, *, reference=None, stream=None, log=None,
  scorer=None, adaptation=None, frozen=None,
):  # fmt: skip
  """The step of a run: (state, questions) -> (state, metrics).

  It is `grpo_step` with its functions as keywords. codecs: map tokenizers by
  modality. reference: parameters of the KL penalty, None without one. stream:
  a QuestionStream, of which dynamic and pipelined sampling draw more. log: a
  `RolloutLog`. scorer: (Responses, columns) -> RewardScores; None = the rewards
  of config.grpo.rl. adaptation, frozen: what LoRA trains, and beside what; None
  = all is trained.
  """
  rl = config.grpo.rl
  begin, read = build_sampler(config, policy, codecs, frozen)
  sample = functools.partial(sample_rollouts, begin=begin, read=read)
  sample = build_more_rollouts(config, policy, codecs, sample, frozen)
  score = build_score(config, policy, scorer)
  advantages_of = build_advantages(config, policy)
  if hasattr(stream, "observe"):
    column = list(scoring.weights_of(rl)).index("answer")
    score = observed(score, stream, column)
  if rl.resample:
    resample = Resample(
      sample,
      score,
      again=sample,
      stream=stream,
      rounds=rl.resample,
      each=_weights_E(rl) != 0 if rl.advantage == "gdpo" else None,
      maps=bool(rl.map_weight) and not rl.text_only,
      overlong=not rl.overlong_filter,
    )
    sample, score = resample.sample, resample.score
  if rl.pipeline:
    sample = SampleAhead(
      begin=begin, read=read, stream=stream, steps=config.grpo.steps
    )
  if log is not None:
    advantages_of = logged(advantages_of, log)
  return functools.partial(
    grpo_step,
    sample=sample,
    score=score,
    advantages=advantages_of,
    update=build_update(
      config, policy, optimizer, reference, adaptation, frozen
    ),
  )


def build_sampler(config, policy, codecs, frozen=None):
  """(begin, read): the halves of sampling, see `sample.sample_rollouts`."""
  sampling = config.sampling
  begin = functools.partial(
    begin_rollouts,
    policy=policy,
    key=jax.random.key(config.seed + 17),
    group_size=config.grpo.rl.group_size,
    temperatures=(sampling.temperature, sampling.code_temperature),
    truncations=truncations_of(sampling),
    buckets=sampling.prompt_buckets,
    turns=config.grpo.rl.resample + 1,
    frozen=frozen,
  )
  respond = functools.partial(
    responses_of, policy=policy, decode=generate.decoder(codecs)
  )
  if processes.several():
    respond = process_shares.respond_to_own(respond)
  return begin, functools.partial(read_rollouts, respond=respond)


def build_more_rollouts(config, policy, codecs, sample, frozen=None):
  """`sample`, around which more is sampled, where a setting asks for that."""
  settings = config.grpo
  exchanges = settings.rl.rewards.map_effect is not None
  if not settings.flag_rollouts and not exchanges:
    return sample
  check_processes(config)
  options = dict(
    policy=policy,
    temperatures=(
      config.sampling.temperature,
      config.sampling.code_temperature,
    ),
    truncations=truncations_of(config.sampling),
    frozen=frozen,
  )
  # Apart from those of the rollouts themselves.
  flags, answers = jax.random.split(jax.random.key(config.seed + 18))
  if exchanges:
    respond = functools.partial(
      exchanged_maps.respond, codecs=codecs, key=answers, **options
    )
    sample = exchanged_maps.exchanged(sample, respond=respond, policy=policy)
  if settings.flag_rollouts:
    roll = functools.partial(
      measured_flags.right_answers,
      decode=generate.decoder(codecs),
      key=flags,
      group_size=settings.flag_rollouts,
      buckets=config.sampling.prompt_buckets,
      turns=settings.rl.resample + 1,
      tolerance=settings.rl.settings.answer.tolerance,
      **options,
    )
    sample = measured_flags.measured(
      sample, roll=roll, policy=policy, margin=settings.flag_margin
    )
  return sample


def check_processes(config) -> None:
  """UserError for what one process alone can do, where there are several."""
  settings = config.grpo
  more = settings.flag_rollouts or settings.rl.rewards.map_effect is not None
  if more and processes.several():
    raise UserError(
      "config.grpo.flag_rollouts and the reward map_effect sample more on one"
      " process alone; run without them, or on one host"
    )


def optimiser_steps(settings) -> int:
  """Optimiser steps of a run by `config.grpo`; the schedule is over them."""
  return settings.steps * settings.rl.updates * settings.rl.minibatches


def truncations_of(sampling) -> tuple[Truncation, Truncation]:
  """How text and codes are truncated; raises UserError where they can't be."""
  return (
    Truncation(sampling.top_k, sampling.top_p, sampling.min_p),
    Truncation(sampling.code_top_k, sampling.code_top_p, sampling.code_min_p),
  )


def truncated_kinds(sampling) -> tuple[bool, bool]:
  """Whether text and codes are drawn from a part of their distributions."""
  text, codes = (how != NONE for how in truncations_of(sampling))
  return text, codes


def build_score(config, policy, scorer=None):
  """RolloutBatch -> RolloutBatch with scores, by the rewards of the config."""
  rl = config.grpo.rl
  if scorer is None:
    scorer = scoring.make_scorer(rl)
  rewards = functools.partial(
    call_rewards,
    scorer=scorer,
    modalities={name: policy.modalities[name] for name in config.modalities},
  )
  if processes.several():
    rewards = process_shares.score_own(rewards)
  score = functools.partial(
    score_rollouts, rewards=rewards, names=modality_names(policy)
  )
  return shuffled(score, seed=config.seed) if rl.shuffle_rewards else score


def build_advantages(config, policy):
  """RolloutBatch with scores -> Targets."""
  rl = config.grpo.rl
  compare = functools.partial(
    token_advantages,
    rule=advantages.find(rl.advantage),
    eps=rl.advantage_eps,
    map_weight=rl.map_weight,
    codes=policy.form.model.map_codes,
    modality_ids=policy.form.modality_ids,
  )
  return functools.partial(
    make_targets,
    compare=jax.jit(compare),
    weights_E=_weights_E(rl),
    overlong_filter=rl.overlong_filter,
  )


def build_update(
  config, policy, optimizer, reference=None, adaptation=None, frozen=None
) -> Update:
  """(state, RolloutBatch, Targets) -> (state, metrics), and its parts.

  reference, adaptation, frozen: as in `build_step`.
  """
  rl, sampling = config.grpo.rl, config.sampling
  configs = losses.configs_of(rl)
  # As many rows are taken at once on every device.
  shards = mesh.batch_shards(jax.sharding.get_mesh())
  pack = functools.partial(
    to_rows,
    policy=policy,
    buckets=sampling.prompt_buckets,
    bins=config.grpo.bins,
    rows=-(-config.grpo.rows // shards) * shards,
    # The quantile of entropies is of all rollouts: they come in one piece.
    whole=any(each.top_entropy < 1 for each in configs.values()),
  )
  return make_update(
    policy,
    optimizer,
    configs,
    ema_decay=config.grpo.optim.ema_decay,
    truncated=truncated_kinds(sampling),
    pack=pack,
    reference=reference,
    adaptation=adaptation,
    frozen=frozen,
    temperatures=(sampling.temperature, sampling.code_temperature),
    updates=rl.updates,
    minibatches=rl.minibatches,
    stale=rl.pipeline,
  )


def _weights_E(rl) -> np.ndarray:
  return np.array(list(scoring.weights_of(rl).values()), np.float32)
