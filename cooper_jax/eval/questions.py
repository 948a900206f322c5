"""Questions put to a policy in a mode of use, and grades of its responses."""

import dataclasses

import numpy as np

from cooper_jax.data import mixture
from cooper_jax.grading import quantities
from cooper_jax.grading.grade import Rules, grade
from cooper_jax.policy import Policy
from cooper_jax.rollouts import generate
from cooper_jax.rollouts.prompts import Item
from cooper_jax.rollouts.response import Responses


@dataclasses.dataclass(frozen=True)
class Answers:
  """Answers to questions in one mode: the responses, and a grade of each."""

  view: Responses
  grades: tuple

  @property
  def hits(self) -> np.ndarray:
    return hits(self.grades)

  def drew(self) -> np.ndarray:
    """Whether an item's response holds a map."""
    return np.array([bool(maps) for maps in self.view.maps], float)


def ask(
  policy: Policy, params, items, mode: str, codecs, *, batch, buckets,
  grade=None,
):  # fmt: skip
  """Answers of a mode, graded; grade(text, item) is `grade_of` by default."""
  options = {"batch": batch, "buckets": buckets, "grade": grade}
  return ask_in(policy, params, items, [mode], codecs, **options)[mode]


def ask_in(
  policy: Policy, params, items, modes, codecs, *, grade=None, **options
) -> dict[str, Answers]:
  """As `ask` in each of the modes; options: of `generate.respond_in`."""
  views = generate.respond_in(policy, params, items, modes, codecs, **options)
  return {mode: graded(view, items, grade) for mode, view in views.items()}


def graded(view: Responses, items, grade=None) -> Answers:
  """The responses with a grade each, by `grade_of` or another grader."""
  grade = grade or grade_of
  return Answers(
    view,
    tuple(
      grade(text, item) for text, item in zip(view.text, items, strict=True)
    ),
  )


def grade_of(text: str, item: Item):
  """Grade of one response to an item; only its <answer> is read."""
  question = item.question
  return grade(
    text,
    answer=question.answer,
    answer_type=question.answer_type,
    options=question.options,
    unit=question.unit,
    value=question.value,
    question=question.text,
    rules=Rules(tags_only=True),
  )


def items_of(source, count: int, *, seed: int) -> list[Item]:
  """`count` questions of a source, spread over its samples at random.

  Pictures are read of those samples alone whose questions are drawn; of one
  that is None, and may be left out, none is asked.
  """
  asked = [len(mixture.questions_of(source, i)) for i in range(len(source))]
  ends = np.cumsum(asked)
  rng = np.random.Generator(np.random.Philox(key=seed))
  order = rng.permutation(int(ends[-1]) if asked else 0)[:count]
  items, held, sample = [], None, None
  for number in sorted(order.tolist()):
    index = int(np.searchsorted(ends, number, side="right"))
    if index != held:
      held, sample = index, source[index]
    if sample is None:
      continue
    within = number - int(ends[index]) + asked[index]
    items.append(Item(sample, sample.questions[within]))
  return items


def families(items) -> dict[str, np.ndarray]:
  """Which items belong to each family."""
  names = np.array([item.question.family for item in items])
  return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


def hits(grades) -> np.ndarray:
  """1.0 for each right answer, 0.0 for each other."""
  return np.array([grade.hit for grade in grades], float)


def choices(items) -> dict[str, np.ndarray]:
  """Rows of each family that is answered by a choice, or yes or no."""
  return {
    name: rows
    for name, rows in families(items).items()
    if items[rows[0]].question.answer_type in ("choice", "yes_no")
  }


def lengths(items) -> np.ndarray:
  """Rows that ask for a length."""
  asked = [item.question for item in items]
  return np.flatnonzero(
    [q.answer_type == "number" and quantities.is_length(q.unit) for q in asked]
  )
