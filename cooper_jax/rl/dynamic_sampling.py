"""Dynamic sampling: prompts whose rollouts are all alike are asked no more.

A group without variance has no advantage and costs as much as any other, so
its place in the batch is given to another prompt (DAPO, arXiv 2503.14476). The
number of rounds is bounded; what is still dead then stays, as without it.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from cooper_jax.rl import advantages


class Sampled(NamedTuple):
  """Rollouts of P prompts in groups of G, R = P * G, with their scores."""

  items: list  # [P] questions
  trunks: list  # [P] prompts
  out: Any  # a Rollout of numpy arrays [R, ...]
  truncated: np.ndarray  # [R]
  total: np.ndarray  # [R] reward
  columns: np.ndarray  # [R, E]
  quality: np.ndarray  # [R, M], NaN where there is none

  @property
  def groups(self) -> np.ndarray:
    """Place of the prompt of each rollout [R]."""
    return np.repeat(
      np.arange(len(self.items)), len(self.total) // len(self.items)
    )


def informative(
  sampled: Sampled, *, each=None, maps: bool = True, overlong: bool = True
) -> np.ndarray:
  """Which prompts [P] teach: rewards, or maps, that are not all alike.

  each: which of the rewards [rewards] is an advantage of its own (GDPO); None
    where their sum alone is.
  maps: whether the quality of maps is learned from at all.
  overlong: whether rollouts that were cut off teach; where they do not, they
    make no difference either.
  """
  groups = sampled.groups
  gone_R = sampled.truncated & (not overlong)
  alive = np.zeros(len(groups), bool)
  columns = () if each is None else sampled.columns[:, each].T
  for values in (sampled.total, *columns):
    counted_R = np.where(gone_R, np.nan, values)
    stats = advantages.group_statistics(counted_R, groups)
    alive |= ~np.asarray(stats.constant_R)
  if maps:
    quality = np.where(gone_R[:, None], np.nan, sampled.quality)
    modality = sampled.out.map_modality
    made = advantages.map_advantages(
      quality, modality, groups, modality_ids=np.unique(modality)
    )
    alive |= np.asarray(made).any(axis=-1)
  return alive.reshape(len(sampled.items), -1).any(axis=1)


def take(sampled: Sampled, prompts) -> Sampled:
  """The rollouts of some prompts, given by their places."""
  prompts = np.asarray(prompts, int)
  rows = np.flatnonzero(np.isin(sampled.groups, prompts))
  pick = lambda x: x[rows]  # noqa: E731
  return Sampled(
    [sampled.items[i] for i in prompts],
    [sampled.trunks[i] for i in prompts],
    jax.tree.map(pick, sampled.out),
    *(pick(x) for x in sampled[3:]),
  )


def join(parts) -> Sampled:
  """Several lots of rollouts as one."""
  stack = lambda *xs: np.concatenate(xs)  # noqa: E731
  return Sampled(
    [item for part in parts for item in part.items],
    [trunk for part in parts for trunk in part.trunks],
    jax.tree.map(stack, *(part.out for part in parts)),
    *(stack(*xs) for xs in zip(*(part[3:] for part in parts), strict=True)),
  )


def fill(first: Sampled, sample, rounds: int, **teaches):
  """Replaces dead groups by others: (Sampled of as many prompts, figures).

  Args:
    first: the rollouts of a whole batch.
    sample: sample(round) -> Sampled of another batch, round 1 and more.
    rounds: of other batches, at most.
    teaches: options of `informative`.
  """
  wanted = len(first.items)
  alive = informative(first, **teaches)
  kept, dead = [take(first, np.flatnonzero(alive))], ~alive
  found, used = int(alive.sum()), 0
  while found < wanted and used < rounds:
    used += 1
    more = sample(used)
    good = np.flatnonzero(informative(more, **teaches))
    good = good[: wanted - found]
    if len(good):
      kept.append(take(more, good))
      found += len(good)
  if found < wanted:
    kept.append(take(first, np.flatnonzero(dead)[: wanted - found]))
  figures = {
    "dynamic/dead_at_first": float(dead.mean()),
    "dynamic/dead_left": 1 - found / wanted,
    "dynamic/rounds": float(used),
  }
  return join([part for part in kept if part.items]), figures
