"""The scores of a GRPO step's rollouts: rewards and the quality of maps."""

import dataclasses

import numpy as np

from cooper_jax.rl.behaviour import behaviour
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.rl.scoring import RewardScores, check_any_scored

# Fields of a question that become columns of the same name.
FIELDS = (
  "answer", "answer_type", "options", "unit", "value", "flag", "family",
)  # fmt: skip


def score_rollouts(rollouts: RolloutBatch, *, rewards, names) -> RolloutBatch:
  """The rollouts with rewards_RE, total_R, quality_RM and metrics.

  rewards: RolloutBatch -> RewardScores (`call_rewards`). names: of modalities,
  by MODALITY_ID. Raises UserError where no reward scored any rollout.
  """
  scores = rewards(rollouts)
  check_any_scored(scores)
  modality_RM = rollouts.rollout.map_modality
  quality_RM = np.full(modality_RM.shape, np.nan, np.float32)
  quality_RM[:, : scores.map_quality.shape[1]] = scores.map_quality
  flag_R = [item.question.flag for item in rollouts.items]
  flag_R = np.repeat(flag_R, rollouts.group_size)
  did = behaviour(
    rollouts.rollout, flag_R, names=names, hits_R=scores.rewards.get("answer")
  )
  return dataclasses.replace(
    rollouts,
    rewards_RE=np.stack(list(scores.rewards.values()), axis=1),
    total_R=scores.total,
    quality_RM=quality_RM,
    metrics=rollouts.metrics | scores.metrics() | did,
  )


def call_rewards(rollouts: RolloutBatch, *, scorer, modalities) -> RewardScores:
  """The rewards of rollouts whose responses are read.

  scorer: (Responses, columns) -> RewardScores, see `scoring.Scorer`.
  modalities: name -> module of those whose true maps the rewards may see.
  """
  columns = columns_of(rollouts.items, rollouts.group_size, modalities)
  return scorer(rollouts.responses, columns | rollouts.columns)


def columns_of(items, group_size: int, modalities) -> dict[str, list]:
  """What the rewards may know, by name: a list with one entry a rollout [R].

  Fields of the question, and of each modality the true map, or None.
  """
  spread = [item for item in items for _ in range(group_size)]
  columns = {
    name: [getattr(item.question, name) for item in spread] for name in FIELDS
  }
  columns["question"] = [item.question.text for item in spread]
  for name, module in modalities.items():
    columns[name] = [module.read(item.sample) for item in spread]
  return columns
