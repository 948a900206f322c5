"""Blind and constant answers: what is right without looking at an image."""

import numpy as np

from cooper_jax.eval import questions
from cooper_jax.grading import intervals


def answers(items, model) -> dict[str, list[str]]:
  """Answers [n] of the blind and the constant baseline, by its name."""
  return {
    "blind": [model.answer(item.question) for item in items],
    "constant": [model.majority(item.question) for item in items],
  }


def graded(said, items, grade=questions.grade_of) -> list:
  """Grades of answers that come without a response around them."""
  return [
    grade(f"<answer> {answer} </answer>", item)
    for answer, item in zip(said, items, strict=True)
  ]


def scores(items, model) -> dict:
  """Lengths within a factor of 2, and the mean over families of choices.

  qa/factor2/<blind|constant> and qa/macro/<blind|constant>; accuracies are
  `benchmark.baseline_scores`.
  """
  lengths = questions.lengths(items)
  chosen = questions.choices(items)
  summary = {}
  for name, said in answers(items, model).items():
    grades = graded(said, items)
    hits = questions.hits(grades)
    if len(lengths):
      # The best constant of a family for 10 % is not the best for a factor.
      asked = [items[i] for i in lengths]
      near = [grades[i] for i in lengths]
      if name == "constant":
        near = graded([model.middle(item.question) for item in asked], asked)
      factor = np.array([bool(grade.factor2) for grade in near], float)
      summary |= intervals.rate(f"qa/factor2/{name}", factor)
    if chosen:
      summary |= intervals.macro(f"qa/macro/{name}", hits, chosen)
  return summary
