"""Orders of the questions of GRPO: without replacement, or by difficulty.

`random` (`questions.QuestionStream`) draws each step anew, so that within an
epoch some questions come twice and others never. `epochs` asks every question
once before any comes again. `difficulty` asks most often what is neither always
right nor always wrong, for nothing is learned from groups that are all alike: a
question of chance p to be right is drawn with weight p (1 - p), plus a little
("Learning to reason at the frontier of learnability", arXiv 2502.12272).

Where dynamic sampling asks for other questions, `epochs` has a permutation of
its own for each round.
"""

import collections
import dataclasses

import numpy as np

from cooper_jax.data import mixture
from cooper_jax.rl.questions import Questions, QuestionStream
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.rollouts import prompts

PRIOR = 1.0  # groups that the family's chance counts as, beside the own ones
AGED = 0.5  # what an older group counts: the policy has moved on
LEAST = 0.1  # weight of what is always right or always wrong, beside at most 1


@dataclasses.dataclass
class ListedStream(QuestionStream):
  """A stream that knows all its questions, n of them."""

  def __post_init__(self):
    super().__post_init__()
    places, families = [], []
    for i in range(len(self.source)):
      for j, question in enumerate(mixture.questions_of(self.source, i)):
        if not self.families or question.family in self.families:
          places.append((i, j))
          families.append(question.family)
    self.places = np.array(places)  # of the sample, and of its question
    self.family_of = np.unique(families, return_inverse=True)[1]

  def read(self, chosen_P) -> tuple[list[prompts.Item], np.ndarray]:
    """The questions with the numbers [P], 0 to n - 1, and their numbers.

    Of a sample that is None, and may be left out, the next question is asked.
    """
    items, numbers = [], []
    for number in np.asarray(chosen_P).tolist():
      while (sample := self.source[int(self.places[number][0])]) is None:
        number = (number + 1) % len(self.places)
      question = sample.questions[self.places[number][1]]
      items.append(prompts.Item(sample, question))
      numbers.append(number)
    return items, np.array(numbers)


@dataclasses.dataclass
class EpochStream(ListedStream):
  """Every question once before any comes again; another order each time."""

  def __post_init__(self):
    super().__post_init__()
    self._orders = collections.OrderedDict()  # (turn, epoch) -> order [n]

  def draw(self, number: int, turn: int = 0) -> Questions:
    """The questions of a step, whichever was asked for before."""
    count = len(self.places)
    epoch_P, at_P = divmod(number * self.batch + np.arange(self.batch), count)
    chosen = [self._order(turn, int(e))[at] for e, at in zip(epoch_P, at_P)]
    return Questions(number, self.read(chosen)[0], turn)

  def _order(self, turn: int, epoch: int) -> np.ndarray:
    key = turn, epoch
    if key not in self._orders:
      rng = np.random.Generator(
        np.random.Philox(key=[self.seed + (turn << 32), epoch])
      )
      self._orders[key] = rng.permutation(len(self.places))
      if len(self._orders) > 4:
        self._orders.popitem(last=False)
    return self._orders[key]


@dataclasses.dataclass
class DifficultyStream(ListedStream):
  """Questions by what is known of the chance to answer them right.

  A question that was never asked has the chance of its family, and one that was
  has that as well, as if it were one group of its own.
  """

  def __post_init__(self):
    super().__post_init__()
    self.right = np.zeros(len(self.places))  # groups' shares right, added
    self.groups = np.zeros(len(self.places))  # how many, older ones less
    self._drawn = {}  # turn -> (number of the step, questions [P])

  def chance(self) -> np.ndarray:
    """The estimated chance [n] of a right answer to each question."""
    right_in = np.bincount(self.family_of, self.right)
    groups_in = np.bincount(self.family_of, self.groups)
    of_family = (right_in + 0.5 * PRIOR) / (groups_in + PRIOR)
    prior = of_family[self.family_of]
    return (self.right + PRIOR * prior) / (self.groups + PRIOR)

  def draw(self, number: int, turn: int = 0) -> Questions:
    """The questions of a step, by what `observe` has told so far."""
    rng = np.random.Generator(
      np.random.Philox(key=[self.seed + (turn << 32), number])
    )
    chance = self.chance()
    weight = LEAST + 4 * chance * (1 - chance)
    chosen_P = rng.choice(
      len(weight),
      self.batch,
      # As often as it takes where there are fewer questions than are asked.
      replace=len(weight) < self.batch,
      p=weight / weight.sum(),
    )
    items, chosen_P = self.read(chosen_P)
    self._drawn[turn] = number, chosen_P
    return Questions(number, items, turn)

  def observe(self, questions: Questions, right_P) -> dict[str, float]:
    """Takes note of groups' shares of right answers [P], NaN = not known.

    questions: as `draw` gave them. Returns figures to log: what was expected of
    them, and how many had been asked before.
    """
    number, chosen_P = self._drawn[questions.turn]
    assert number == questions.number, (number, questions.number)
    expected, before_P = self.chance()[chosen_P], self.groups[chosen_P] > 0
    for i, right in zip(chosen_P, np.asarray(right_P, float)):
      if np.isfinite(right):
        self.right[i] = AGED * self.right[i] + right
        self.groups[i] = AGED * self.groups[i] + 1
    return {
      "questions/expected": float(expected.mean()),
      "questions/again": float(before_P.mean()),
    }

  def state(self) -> dict:
    """The position, and what is known of those that were asked."""
    known = np.flatnonzero(self.groups)
    return super().state() | {
      "known": known,
      "right": self.right[known],
      "groups": self.groups[known],
    }

  def restore(self, state) -> None:
    """Goes on from what `state` gave: `right` and `groups` [k] of k known."""
    super().restore(state)
    self.right[:], self.groups[:] = 0.0, 0.0
    known = np.asarray(state["known"], int)
    self.right[known] = state["right"]
    self.groups[known] = state["groups"]


ORDERS = {
  "random": QuestionStream,
  "epochs": EpochStream,
  "difficulty": DifficultyStream,
}


def observed(score, stream: DifficultyStream, column: int):
  """Wraps RolloutBatch -> RolloutBatch scored: the stream hears of it.

  column: of rewards_RE, whose mean over a group is its share of right answers.
  """

  def score_and_tell(rollouts: RolloutBatch) -> RolloutBatch:
    scored = score(rollouts)
    reward_PG = scored.rewards_RE[:, column].reshape(len(scored.items), -1)
    known_PG = ~np.isnan(reward_PG)
    sums_P = np.where(known_PG, reward_PG, 0.0).sum(axis=1)
    count_P = known_PG.sum(axis=1)
    right_P = np.where(count_P > 0, sums_P / np.maximum(count_P, 1), np.nan)
    figures = stream.observe(scored.questions, right_P)
    return dataclasses.replace(scored, metrics=scored.metrics | figures)

  return score_and_tell
