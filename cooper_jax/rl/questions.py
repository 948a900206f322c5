"""The questions of a GRPO step, and the endless stream that they come from."""

import dataclasses

import numpy as np

from cooper_jax.data import mixture
from cooper_jax.errors import UserError
from cooper_jax.rollouts import prompts


@dataclasses.dataclass(frozen=True)
class Questions:
  """What one step asks: P questions, each of them about one image."""

  number: int  # of the step in the run, from 0
  items: list  # [P] of `rollouts.prompts.Item`
  turn: int = 0  # 0, or the number of the lot that is asked in their place


@dataclasses.dataclass
class QuestionStream:
  """An endless, resumable stream of questions: step s is a function of s.

  Raises UserError where the source asks nothing, or not what is named.
  """

  source: object  # of Samples, with len and index
  batch: int  # questions of a step, P
  seed: int
  families: tuple[str, ...] = ()  # the families that are asked; () = all
  step: int = 0  # the next one

  def __post_init__(self):
    known, missing = set(), set(self.families)
    for i in range(len(self.source)):
      if known and not missing:
        return
      known |= {q.family for q in mixture.questions_of(self.source, i)}
      missing -= known
    if not known:
      raise UserError("the training split has no questions to reinforce")
    if missing:
      raise UserError(
        f"config.grpo.families names {', '.join(sorted(missing))}; the training"
        f" split asks {', '.join(sorted(known))}"
      )

  def __next__(self) -> Questions:
    number, self.step = self.step, self.step + 1
    return self.draw(number)

  def draw(self, number: int, turn: int = 0) -> Questions:
    """The questions of a step, whichever was asked for before.

    turn: 0, or 1 and more for other questions that may replace those of 0.
    """
    rng = np.random.Generator(
      np.random.Philox(key=[self.seed + (turn << 32), number])
    )
    items = []
    while len(items) < self.batch:
      sample = self.source[mixture.draw_index(self.source, rng)]
      if sample is None:  # a bad one that may be left out
        continue
      questions = [
        question
        for question in sample.questions
        if not self.families or question.family in self.families
      ]
      if questions:
        question = questions[rng.integers(len(questions))]
        items.append(prompts.Item(sample, question))
    return Questions(number, items, turn)

  def state(self) -> dict:
    """The position in the stream, for a checkpoint."""
    return {"step": self.step}

  def restore(self, state) -> None:
    """Goes on from a position that `state` gave."""
    self.step = int(state["step"])
