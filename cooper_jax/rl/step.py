"""GRPO's step: rollout, rewards (on the host), advantages, update.

The four functions are arguments, so that this file is the algorithm and no
more. `build.py` makes them from a config, and each has a file of its own:
`sample.py`, `score.py`, `targets.py`, `update.py`. What a run adds to them
wraps one of them and keeps its signature.
"""

import numpy as np


def grpo_step(state, questions, *, sample, score, advantages, update):
  """One step: (state, questions) -> (state, metrics).

  R = P * G rollouts of T positions, E rewards, M maps of a rollout at most.

  Args:
    state: TrainState of the policy; its arrays are used up.
    questions: `questions.Questions`, P of them.
    sample: (state, questions) -> RolloutBatch: on the host, Rollout [R, T].
    score: RolloutBatch -> RolloutBatch with rewards_RE, total_R, quality_RM.
    advantages: RolloutBatch -> Targets: advantage_RT, text_RT and code_RT.
    update: (state, RolloutBatch, Targets) -> (state, metrics): on the device.

  Returns:
    The state after the update, and what is logged: numbers, and (sum, weight)
    pairs. A number that is not finite, such as the mean of a reward that
    abstained everywhere, is left out.
  """
  rollouts = sample(state, questions)  # Rollout [R, T] and its texts
  scored = score(rollouts)  # rewards_RE, total_R, quality_RM
  targets = advantages(scored)  # advantage_RT, and masks [R, T]
  state, metrics = update(state, scored, targets)  # rows, gradients, optimiser
  return state, metrics | known(scored.metrics | targets.metrics)


def known(metrics: dict) -> dict:
  """The metrics without numbers that are not finite; pairs all stay."""
  return {
    name: value
    for name, value in metrics.items()
    if isinstance(value, tuple) or np.isfinite(value)
  }
