"""Several processes score one batch of rollouts: each its share of the prompts.

Decoding maps and scoring is work of the host. A process does it for its own
share, on its own devices, and then has the scores of all, so that whatever
follows is the same everywhere. Both wrappers keep the signature of what they
wrap.
"""

import dataclasses

from cooper_jax.parallel import processes
from cooper_jax.rl.rollout_batch import RolloutBatch, take_prompts
from cooper_jax.rl.scoring import RewardScores, gather
from cooper_jax.rollouts.response import Responses


def respond_to_own(respond):
  """Wraps RolloutBatch -> Responses: the responses are of the own share [R/n].

  respond: as `sample.responses_of`.
  """

  def respond_to_share(batch: RolloutBatch) -> Responses:
    own = take_prompts(batch, own_prompts(batch))
    with processes.alone():
      return respond(own)

  return respond_to_share


def score_own(rewards):
  """Wraps RolloutBatch -> RewardScores: scores [R] of all, each its share.

  rewards: as `score.call_rewards`, which is called with the own share.
  """

  def score_share(batch: RolloutBatch) -> RewardScores:
    own = take_prompts(batch, own_prompts(batch))
    own = dataclasses.replace(own, responses=batch.responses)
    with processes.alone():
      scores = rewards(own)
    return gather(scores, maps=batch.rollout.map_modality.shape[1])

  return score_share


def own_prompts(batch: RolloutBatch) -> range:
  """Places of the prompts that this process scores; UserError if unequal."""
  return processes.share(len(batch.items), "config.grpo.batch")
