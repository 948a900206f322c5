"""The rollouts of a GRPO step as one container, from begun to scored.

A step samples G rollouts of each of its P prompts, R = P * G in all, those of
one prompt next to each other. They are one `RolloutBatch` all the way; fields
that a later part of the step fills are None until then.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from cooper_jax.rl.questions import Questions
from cooper_jax.rollouts.response import Responses
from cooper_jax.sampling.grammar import EOS


@dataclasses.dataclass(frozen=True)
class RolloutBatch:
  """R rollouts of T positions, E rewards and up to M maps each."""

  # Begun: the device may still be at work on them.
  questions: Questions  # what was asked, P items
  trunks: list  # [P] prompts as segments, as the sampler had them
  ids_R: np.ndarray  # i64, of which the randomness of each rollout is made
  rollout: Any  # sampling.state.Rollout [R, T]; numpy once it was read
  # Read: on the host. Of several processes each has its own share's alone.
  responses: Responses | None = None  # texts, and maps that were decoded
  # What else the rewards may know, a list [R] by name.
  columns: dict = dataclasses.field(default_factory=dict)
  # Scored.
  rewards_RE: np.ndarray | None = None  # f32, each reward; NaN = abstained
  total_R: np.ndarray | None = None  # f32, weighted sum; NaN = all abstained
  quality_RM: np.ndarray | None = None  # f32, of the k-th map; NaN = none
  metrics: dict = dataclasses.field(default_factory=dict)  # to log

  @property
  def items(self) -> list:
    """The questions [P] with their samples."""
    return self.questions.items

  @property
  def group_size(self) -> int:
    """G, rollouts of a prompt."""
    return len(self.ids_R) // len(self.items)

  @property
  def group_R(self) -> np.ndarray:
    """Place [R] of each rollout's prompt, 0 to P - 1."""
    return np.repeat(np.arange(len(self.items)), self.group_size)

  @property
  def truncated_R(self) -> np.ndarray:
    """Which rollouts, bool [R], were stopped by a budget and not by <eos>."""
    return np.asarray(self.rollout.stop) != EOS


_ARRAYS = ("rewards_RE", "total_R", "quality_RM")


def take_prompts(batch: RolloutBatch, prompts) -> RolloutBatch:
  """The rollouts of some prompts, given by places [n].

  Without responses and columns: both are of the whole batch.
  """
  prompts = np.asarray(prompts, int)
  rows = np.flatnonzero(np.isin(batch.group_R, prompts))
  pick = lambda x: None if x is None else x[rows]  # noqa: E731
  return dataclasses.replace(
    batch,
    questions=dataclasses.replace(
      batch.questions, items=[batch.items[i] for i in prompts]
    ),
    trunks=[batch.trunks[i] for i in prompts],
    ids_R=batch.ids_R[rows],
    rollout=jax.tree.map(pick, batch.rollout),
    responses=None,
    columns={},
    **{name: pick(getattr(batch, name)) for name in _ARRAYS},
  )


def join_batches(parts) -> RolloutBatch:
  """Scored batches as one; number, turn and metrics are the first one's."""
  stack = lambda *xs: np.concatenate(xs)  # noqa: E731
  first = parts[0]
  return dataclasses.replace(
    first,
    questions=dataclasses.replace(
      first.questions, items=[item for part in parts for item in part.items]
    ),
    trunks=[trunk for part in parts for trunk in part.trunks],
    ids_R=stack(*(part.ids_R for part in parts)),
    rollout=jax.tree.map(stack, *(part.rollout for part in parts)),
    responses=None,
    columns={},
    **{
      name: stack(*(getattr(part, name) for part in parts)) for name in _ARRAYS
    },
  )
