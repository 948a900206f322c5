"""Dynamic sampling: a prompt whose rollouts are all alike gives up its place.

A group of rollouts whose rewards are all equal has no advantage and costs as
much as any other, so its place in the batch is given to another prompt (DAPO,
arXiv 2503.14476). The number of rounds is bounded; groups that have no variance
after the last one stay, as they would without dynamic sampling.
"""

import dataclasses

import numpy as np

from cooper_jax.rl import advantages
from cooper_jax.rl.rollout_batch import (
  RolloutBatch,
  join_batches,
  take_prompts,
)


class Resample:
  """`sample` and `score` of a step, with other prompts for those that are dead.

  Both keep their signatures; `sample` notes the state, by whose parameters
  `score` then has more rollouts sampled. Metrics are those of the first batch.
  """

  def __init__(self, sample, score, *, again, stream, rounds: int, **counts):
    """sample, score: of the step.

    again: (state, questions) -> RolloutBatch of other questions, on the host.
    stream: with draw(number, turn) -> Questions. rounds: of other questions,
    at most. counts: options of `informative`.
    """
    self._sample, self._score, self._again = sample, score, again
    self._stream, self._rounds, self._counts = stream, rounds, counts
    self._state = None

  def sample(self, state, questions) -> RolloutBatch:
    """(state, questions) -> RolloutBatch."""
    self._state = state
    return self._sample(state, questions)

  def score(self, rollouts: RolloutBatch) -> RolloutBatch:
    """RolloutBatch -> RolloutBatch with scores, of as many prompts."""
    state, self._state = self._state, None  # the update takes its arrays

    def more(turn):
      questions = self._stream.draw(rollouts.questions.number, turn)
      return self._score(self._again(state, questions))

    first = self._score(rollouts)
    full, figures = fill(first, more, self._rounds, **self._counts)
    return dataclasses.replace(full, metrics=first.metrics | figures)


def informative(
  scored: RolloutBatch, *, each=None, maps: bool = True, overlong: bool = True
) -> np.ndarray:
  """Which prompts bool [P] have an advantage: rewards or maps that differ.

  each: bool [E], the rewards that are normalised by themselves (GDPO); None
    where their sum alone is.
  maps: whether the quality of maps is learned from at all.
  overlong: whether truncated rollouts are in the loss; where they are not,
    they make no difference either.
  """
  group_R = scored.group_R
  left_R = scored.truncated_R & (not overlong)
  alive_R = np.zeros(len(group_R), bool)
  columns = () if each is None else scored.rewards_RE[:, each].T
  for values_R in (scored.total_R, *columns):
    counted_R = np.where(left_R, np.nan, values_R)
    stats = advantages.group_statistics(counted_R, group_R)
    alive_R |= ~np.asarray(stats.constant_R)
  if maps:
    quality_RM = np.where(left_R[:, None], np.nan, scored.quality_RM)
    modality_RM = scored.rollout.map_modality
    made_RM = advantages.map_advantages(
      quality_RM, modality_RM, group_R, modality_ids=np.unique(modality_RM)
    )
    alive_R |= np.asarray(made_RM).any(axis=-1)
  return alive_R.reshape(len(scored.items), -1).any(axis=1)


def fill(first: RolloutBatch, sample, rounds: int, **counts):
  """Replaces groups without advantage: (RolloutBatch of P prompts, figures).

  Args:
    first: the scored rollouts of a whole batch.
    sample: sample(round) -> another scored batch, round 1 and more.
    rounds: of other batches, at most.
    counts: options of `informative`.
  """
  wanted = len(first.items)
  alive_P = informative(first, **counts)
  kept, dead_P = [take_prompts(first, np.flatnonzero(alive_P))], ~alive_P
  found, used = int(alive_P.sum()), 0
  while found < wanted and used < rounds:
    used += 1
    more = sample(used)
    good = np.flatnonzero(informative(more, **counts))
    good = good[: wanted - found]
    if len(good):
      kept.append(take_prompts(more, good))
      found += len(good)
  if found < wanted:
    still = np.flatnonzero(dead_P)[: wanted - found]
    kept.append(take_prompts(first, still))
  figures = {
    "dynamic/dead_at_first": float(dead_P.mean()),
    "dynamic/dead_left": 1 - found / wanted,
    "dynamic/rounds": float(used),
  }
  return join_batches([part for part in kept if part.items]), figures
