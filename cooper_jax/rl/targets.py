"""Targets of a GRPO update: an advantage and a mask for every token."""

import dataclasses

import jax
from flax import struct

from cooper_jax.models import token_kinds
from cooper_jax.rl import advantages
from cooper_jax.rl.rollout_batch import RolloutBatch


@struct.dataclass
class TokenTargets:
  """Arrays [R, T] by position of a rollout, for the jitted update."""

  log_prob_RT: jax.Array  # f32, of the sampler
  advantage_RT: jax.Array  # f32
  text_RT: jax.Array  # bool, text tokens in the loss
  code_RT: jax.Array  # bool, codes in the loss
  # i32, of how many of the likeliest each was drawn; None = of all.
  kept_RT: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Targets:
  """The targets of a batch's tokens, with what is logged of them."""

  tokens: TokenTargets
  answer_R: jax.Array  # f32, advantage of each answer
  metrics: dict  # to log


def make_targets(
  scored: RolloutBatch, *, compare, weights_E, overlong_filter: bool
) -> Targets:
  """Advantages and masks of scored rollouts.

  compare: `token_advantages` with its settings. weights_E: of the rewards.
  overlong_filter: whether truncated rollouts are left out of the loss.
  """
  rollout = scored.rollout
  rewards = advantages.Rewards(
    scored.total_R,
    scored.rewards_RE,
    weights_E,
    rollout.trainable.sum(axis=1),
  )
  answer_R, advantage_RT = compare(
    rewards,
    scored.quality_RM,
    rollout.map_modality,
    rollout.state,
    scored.group_R,
  )
  mask_RT = loss_mask(rollout.trainable, scored.truncated_R, overlong_filter)
  tokens = TokenTargets(
    log_prob_RT=rollout.log_prob,
    advantage_RT=advantage_RT,
    text_RT=mask_RT & (rollout.state == token_kinds.TEXT),
    code_RT=mask_RT & (rollout.state == token_kinds.CODE),
    kept_RT=rollout.kept,
  )
  metrics = advantages.summary(
    scored.total_R,
    scored.group_R,
    answer_R,
    scored.truncated_R & overlong_filter,
  )
  metrics["tokens"] = float((rollout.state > token_kinds.PAD).sum())
  return Targets(tokens, answer_R, metrics)


def loss_mask(trainable_RT, truncated_R, overlong_filter: bool):
  """Which tokens are in the loss; the filter leaves out truncated rollouts.

  They stay in their group's baseline (DAPO, arXiv 2503.14476).
  """
  return (
    trainable_RT & ~truncated_R[:, None] if overlong_filter else trainable_RT
  )


def token_advantages(
  rewards, quality_RM, modality_RM, state_RT, group_R,
  *, rule, eps, map_weight, codes, modality_ids,
):  # fmt: skip
  """Returns the answer's advantage [R] and that of every token [R, T].

  rewards: `advantages.Rewards`. rule: one of `advantages.ADVANTAGES`, with its
  eps. map_weight: of a map's own advantage on its codes. codes: of a map, Q.
  """
  answer_R = rule(rewards, group_R, eps)
  map_RM = advantages.map_advantages(
    quality_RM, modality_RM, group_R, eps, rule=rule, modality_ids=modality_ids
  )
  index_RT = advantages.map_index(state_RT == token_kinds.CODE, codes)
  return answer_R, advantages.per_segment(
    answer_R, map_RM, index_RT, map_weight
  )
