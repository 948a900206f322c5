"""Advantages of GRPO: how much better a rollout did than its group.

Groups are found by id, never by position, so a shuffle, a filter or another
device layout can not mix prompts. A NaN reward abstains: it is left out of the
group's statistics and its row gets advantage 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError, nearest
from cooper_jax.rl.off_policy import as_float
from cooper_jax.tokenizers.vocab import MAX_MODALITIES


class GroupStatistics(NamedTuple):
  """Statistics of each rollout's group over the rewards that are not NaN."""

  mean_R: jax.Array
  std_R: jax.Array  # ddof 1; 0 where fewer than two rewards count
  count_R: jax.Array
  constant_R: jax.Array  # bool: fewer than two rewards, or all the same


def _segments(group_R):
  """Ids as segment numbers below R: the first row that has the same id.

  Compares all pairs, which for a few thousand rollouts is cheaper to run and
  far cheaper to compile than a sort.
  """
  group_R = jnp.asarray(group_R)
  return jnp.argmax(group_R[:, None] == group_R[None, :], axis=1)


def group_statistics(reward_R, group_R) -> GroupStatistics:
  """Mean, std and size of the group [R] that each rollout belongs to.

  group_R: any 32-bit integers, under jit as well.
  """
  reward_R = as_float(reward_R)
  rows = reward_R.shape[0]
  segment_R = _segments(group_R)
  valid_R = ~jnp.isnan(reward_R)
  value_R = jnp.where(valid_R, reward_R, 0.0)

  def total(x_R):
    sums = jax.ops.segment_sum(x_R, segment_R, num_segments=rows)
    return sums[segment_R]

  count_R = total(valid_R.astype(value_R.dtype))
  mean_R = total(value_R) / jnp.maximum(count_R, 1.0)
  centred_R = jnp.where(valid_R, value_R - mean_R, 0.0)
  variance_R = total(centred_R**2) / jnp.maximum(count_R - 1.0, 1.0)
  low = jnp.where(valid_R, reward_R, jnp.inf)
  high = jnp.where(valid_R, reward_R, -jnp.inf)
  low_R = jax.ops.segment_min(low, segment_R, num_segments=rows)[segment_R]
  high_R = jax.ops.segment_max(high, segment_R, num_segments=rows)[segment_R]
  # Compared exactly: a mean of equal floats need not equal them, and dividing
  # that rounding error by a tiny std would make an advantage out of nothing.
  constant_R = (count_R < 2) | (low_R == high_R)
  std_R = jnp.where(constant_R, 0.0, jnp.sqrt(variance_R))
  return GroupStatistics(mean_R, std_R, count_R, constant_R)


def _settle(advantage_R, reward_R, stats):
  dead_R = stats.constant_R | jnp.isnan(as_float(reward_R))
  return jnp.where(dead_R, 0.0, advantage_R)


def grpo(reward_R, group_R, eps=1e-4):
  """(r - mean) / (std + eps), std with ddof 1 (DeepSeekMath, as TRL)."""
  stats = group_statistics(reward_R, group_R)
  advantage_R = (reward_R - stats.mean_R) / (stats.std_R + eps)
  return _settle(advantage_R, reward_R, stats)


def mean_only(reward_R, group_R, eps=1e-4):
  """r - mean: no difficulty bias from the group's std (Dr. GRPO)."""
  del eps
  stats = group_statistics(reward_R, group_R)
  return _settle(reward_R - stats.mean_R, reward_R, stats)


def rloo(reward_R, group_R, eps=1e-4):
  """r minus the mean of the others, n / (n - 1) (r - mean) (RLOO)."""
  del eps
  stats = group_statistics(reward_R, group_R)
  scale_R = stats.count_R / jnp.maximum(stats.count_R - 1.0, 1.0)
  advantage_R = scale_R * (reward_R - stats.mean_R)
  return _settle(advantage_R, reward_R, stats)


def batch_std(reward_R, group_R, eps=1e-4):
  """(r - group mean) / (std of the whole batch + eps) (arXiv 2508.08221)."""
  stats = group_statistics(reward_R, group_R)
  whole = group_statistics(reward_R, jnp.zeros_like(jnp.asarray(group_R)))
  advantage_R = (reward_R - stats.mean_R) / (whole.std_R + eps)
  return _settle(advantage_R, reward_R, stats)


def reinforce_pp(reward_R, group_R, tokens_R, eps=1e-4):
  """r - group mean, whitened over the tokens of the batch (REINFORCE++).

  arXiv 2501.03262, the baseline variant: a long rollout counts by its length
  in the mean and the std.
  """
  stats = group_statistics(reward_R, group_R)
  dead_R = jnp.isnan(as_float(reward_R))
  centred_R = _settle(reward_R - stats.mean_R, reward_R, stats)
  weight_R = jnp.where(dead_R, 0.0, as_float(tokens_R))
  total = jnp.maximum(weight_R.sum(), 1.0)
  mean = (weight_R * centred_R).sum() / total
  spread = (weight_R * (centred_R - mean) ** 2).sum()
  std = jnp.sqrt(spread / jnp.maximum(total - 1.0, 1.0))
  settled_R = dead_R | (std == 0)
  return jnp.where(settled_R, 0.0, (centred_R - mean) / (std + eps))


def gdpo(rewards_RE, weights_E, group_R, eps=1e-4):
  """Each reward normalised in its group, summed by weight, whitened (GDPO).

  arXiv 2601.05242; whitened over the rollouts of the batch, as TRL does. Keeps
  a reward of a small range from drowning in one of a large range.
  """
  weights_E = as_float(weights_E)
  rewards_RE = as_float(rewards_RE)
  rewards_RE = jnp.where(weights_E == 0, jnp.nan, rewards_RE)
  each_ER = jax.vmap(grpo, (1, None, None))(rewards_RE, group_R, eps)
  total_R = weights_E @ each_ER
  dead_R = jnp.isnan(rewards_RE).all(axis=1)
  batch = group_statistics(
    jnp.where(dead_R, jnp.nan, total_R), jnp.zeros_like(jnp.asarray(group_R))
  )
  whitened_R = (total_R - batch.mean_R) / (batch.std_R + eps)
  return jnp.where(dead_R | batch.constant_R, 0.0, whitened_R)


class Rewards(NamedTuple):
  """The rewards that an advantage may be made of; NaN = abstained."""

  total_R: jax.Array  # weighted sum of the parts
  parts_RE: jax.Array  # each reward
  weights_E: jax.Array
  tokens_R: jax.Array  # trainable tokens of each rollout


def _of_total(rule):
  return lambda rewards, group_R, eps: rule(rewards.total_R, group_R, eps)


# (Rewards, group, eps) -> advantage of each rollout [R].
ADVANTAGES = {
  "grpo": _of_total(grpo),
  "mean_only": _of_total(mean_only),
  "rloo": _of_total(rloo),
  "batch_std": _of_total(batch_std),
  "reinforce_pp": lambda rewards, group_R, eps: reinforce_pp(
    rewards.total_R, group_R, rewards.tokens_R, eps
  ),
  "gdpo": lambda rewards, group_R, eps: gdpo(
    rewards.parts_RE, rewards.weights_E, group_R, eps
  ),
}


def find(name: str):
  """The advantage of this name; a UserError lists what exists."""
  if name not in ADVANTAGES:
    raise UserError(
      f"advantage is {name!r}, allowed are {', '.join(sorted(ADVANTAGES))}"
      f"{nearest(name, ADVANTAGES)}; set config.grpo.rl.advantage to one"
    )
  return ADVANTAGES[name]


def map_advantages(
  quality_RM, modality_RM, group_R, eps=1e-4, *, rule=ADVANTAGES["grpo"],
  modality_ids=tuple(range(MAX_MODALITIES)),
):  # fmt: skip
  """Advantages [R, M] of drawn maps over their group's maps of the same kind.

  quality_RM is NaN where no map was drawn or none can be scored, modality_RM
  the MODALITY_ID of the k-th map or -1. The rule of grpo.rl.advantage sees the
  maps of each of `modality_ids` by themselves; 0 where fewer than two members
  of the group drew it. Two maps of one rollout do not make a comparison.
  """
  quality_RM = as_float(quality_RM)
  modality_RM = jnp.asarray(modality_RM, jnp.int32)
  if not quality_RM.shape[1]:
    return quality_RM
  group_RM = jnp.broadcast_to(_segments(group_R)[:, None], modality_RM.shape)

  def of_kind(modality_id):
    here_RM = (modality_RM == modality_id) & ~jnp.isnan(quality_RM)
    first_RM = here_RM & (jnp.cumsum(here_RM, axis=1) == 1)
    once = jnp.where(first_RM, 1.0, jnp.nan).ravel()
    members = group_statistics(once, group_RM.ravel()).count_R
    value = jnp.where(here_RM, quality_RM, jnp.nan).ravel()
    one = jnp.ones_like(value)  # maps are all of one length
    rewards = Rewards(value, value[:, None], one[:1], one)
    advantage = rule(rewards, group_RM.ravel(), eps)
    compared = here_RM & (members >= 2).reshape(here_RM.shape)
    return jnp.where(compared, advantage.reshape(here_RM.shape), 0.0)

  return jax.vmap(of_kind)(jnp.asarray(modality_ids, jnp.int32)).sum(axis=0)


def map_index(code_RT, codes: int):
  """Number i32 [R, T] of the map that a position belongs to; 0 on text.

  code_RT is True where a position holds a code; every map has `codes` of them,
  so the n-th code of a rollout belongs to map ceil(n / codes).
  """
  code_RT = jnp.asarray(code_RT, bool)
  before_RT = jnp.cumsum(code_RT, axis=1) - 1
  return jnp.where(code_RT, before_RT // codes + 1, 0).astype(jnp.int32)


def per_segment(answer_R, map_RM, map_index_RT, map_weight=1.0):
  """Advantages [R, T]: the answer's on all tokens, a map's on its own codes.

  map_index_RT is 0 on text and k on the codes of the k-th map. The decision to
  draw (the opening special, a text token) gets the answer's advantage only, so
  a good map never pays for drawing one that does not help.
  """
  advantage_RT = jnp.broadcast_to(answer_R[:, None], map_index_RT.shape)
  if not map_RM.shape[1]:
    return advantage_RT
  index_RT = jnp.maximum(jnp.asarray(map_index_RT, jnp.int32) - 1, 0)
  own_RT = jnp.take_along_axis(map_RM, index_RT, axis=1)
  return advantage_RT + jnp.where(map_index_RT > 0, map_weight * own_RT, 0.0)


def summary(
  reward_R, group_R, advantage_R, filtered_R=False
) -> dict[str, float]:
  """Figures to log of one batch of rewards and advantages, on the host.

  filtered_R: bool, rollouts that are not in the loss; a group in which only
  they differ counts as one without variance.
  """
  counted_R = np.where(filtered_R, np.nan, np.asarray(reward_R, np.float32))
  stats = jax.tree.map(np.asarray, group_statistics(counted_R, group_R))
  advantage_R = np.where(filtered_R, 0.0, np.asarray(advantage_R))
  ids, first = np.unique(np.asarray(group_R), return_index=True)
  return {
    "frac_zero_std_groups": float(stats.constant_R[first].mean()),
    "groups": float(len(ids)),
    "advantage_abs_mean": float(np.abs(advantage_R).mean()),
    "advantage_min": float(advantage_R.min()),
    "advantage_max": float(advantage_R.max()),
    "advantage_nonzero": float((advantage_R != 0).mean()),
    "abstained": float(np.isnan(np.asarray(reward_R, np.float32)).mean()),
  }
