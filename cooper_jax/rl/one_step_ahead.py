"""Pipelined sampling: the device samples the next step while the host scores.

As soon as a step's rollouts are on the host, those of the next one are begun,
by the parameters as they are then. So what a step learns from was sampled by
the parameters before the last update, which the state keeps (`stale_params`):
after a stop the same rollouts are sampled again.
"""

from cooper_jax.rl.questions import Questions
from cooper_jax.rl.rollout_batch import RolloutBatch


class SampleAhead:
  """`sample` of a step: (state, questions) -> RolloutBatch, one step ahead."""

  def __init__(self, *, begin, read, stream, steps: int):
    """begin, read: as `sample.sample_rollouts` has them.

    stream: of questions, see `questions.QuestionStream`. steps: of the run.
    """
    self._begin, self._read = begin, read
    self._stream, self._steps = stream, steps
    self.begun: RolloutBatch | None = None  # the next step's, if it was begun

  def __call__(self, state, questions: Questions) -> RolloutBatch:
    begun, self.begun = self.begun, None
    if begun is None or begun.questions.number != questions.number:
      # The first step of a run, or the first after a stop: the same again.
      begun = self._begin(state.stale_params, questions)
    rollouts = self._read(begun)
    coming = questions.number + 1
    if coming < self._steps:
      self.begun = self._begin(state.params, self._stream.draw(coming, 0))
    return rollouts
