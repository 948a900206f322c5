"""Flags by measurement: whether maps help with a question, by more rollouts.

The exploration reward goes by a flag of the question. Where data has none, or
those of another policy, k rollouts that are held to draw and k that are held to
text are sampled of each question of a step and graded: "positive" where drawing
is right more often by more than a margin, "negative" where text is. The flags
of the paper come from such a comparison with its base model; its thresholds are
not published (arXiv 2512.04563).
"""

import dataclasses
import functools

import jax
import numpy as np

from cooper_jax.data import flags, modes
from cooper_jax.policy import Policy
from cooper_jax.rl.questions import Questions
from cooper_jax.rl.rewards import answer
from cooper_jax.rl.sample import begin_rollouts, read_rollouts, responses_of
from cooper_jax.rl.score import columns_of
from cooper_jax.rollouts import prompts
from cooper_jax.sampling import grammar


def measured(sample, *, roll, policy: Policy, margin: float):
  """Wraps (state, questions) -> RolloutBatch: its questions have such flags.

  roll: (params, questions, held [P], turn) -> whether each rollout is right,
  [P, k]: 1, 0 or NaN, where no answer is known; turn: 0 and 1 draw apart.
  A question of which nothing is known keeps its flag.
  """

  def sample_with_flags(state, questions: Questions):
    items = questions.items
    text = [prompts.mode_of(modes.IN_TEXT, policy)] * len(items)
    drawing = [drawing_mode(item, policy) for item in items]
    drawn_P, said_P = (
      roll(state.params, questions, held, turn).mean(axis=1)
      for turn, held in enumerate((drawing, text))
    )
    measured_P = [
      item.question.flag if np.isnan(gain) else flags.of_gain(gain, margin)
      for item, gain in zip(items, drawn_P - said_P, strict=True)
    ]
    flagged = [
      prompts.Item(item.sample, dataclasses.replace(item.question, flag=flag))
      for item, flag in zip(items, measured_P, strict=True)
    ]
    batch = sample(state, dataclasses.replace(questions, items=flagged))
    shares = {
      f"flags/{name}": float(np.mean([flag == name for flag in measured_P]))
      for name in ("positive", "negative")
    }
    known = ~np.isnan(drawn_P - said_P)
    shares |= {
      f"flags/right/{name}": float(right_P[known].mean())
      for name, right_P in (("drawn", drawn_P), ("text", said_P))
      if known.any()
    }
    return dataclasses.replace(batch, metrics=batch.metrics | shares)

  return sample_with_flags


def right_answers(
  params, questions: Questions, held, turn: int, *, policy: Policy, decode, key,
  tolerance: float, **options,
) -> np.ndarray:  # fmt: skip
  """Whether each of k rollouts of each question is right [P, k].

  params to turn: as `measured` calls it. tolerance: of lengths. options: of
  `sample.begin_rollouts`, whose group_size is k.
  """
  begun = begin_rollouts(
    params,
    questions,
    policy=policy,
    key=jax.random.fold_in(key, turn),
    modes=held,
    **options,
  )
  respond = functools.partial(responses_of, policy=policy, decode=decode)
  batch = read_rollouts(begun, respond=respond)
  columns = columns_of(batch.items, batch.group_size, {})
  config = answer.Config(tolerance=tolerance)
  hits_R = answer.reward(batch.responses, columns, config)
  return hits_R.reshape(len(batch.items), -1)


def drawing_mode(item: prompts.Item, policy: Policy) -> grammar.Mode:
  """Held to draw what the question's program needs; all there is if nothing."""
  names = modes.order(policy.markup.modalities)
  needed = [name for name in item.question.needs if name in names]
  chosen = (needed or names)[: policy.limits.maps]
  return grammar.Mode(0, tuple(prompts.call(name, policy) for name in chosen))
