"""Baselines that never see the image: blind, constant and chance answers."""

import numpy as np

from cooper_jax.eval import blind, questions
from cooper_jax.grading import intervals
from cooper_jax.grading.metrics import choice


def fit(train, scenes: int):
  """Blind baselines, fitted to the questions of the first training scenes."""
  count = min(scenes, len(train))
  return blind.fit([q for i in range(count) for q in train[i].questions])


def answers(items, model) -> dict[str, list[str]]:
  """Answers [n] of the blind and the constant baseline, by its name."""
  return {
    "blind": [model.answer(item.question) for item in items],
    "constant": [model.majority(item.question) for item in items],
  }


def graded(said, items) -> list:
  """Grades [n] of bare answers: each is put into answer tags."""
  return [
    questions.grade_of(f"<answer> {answer} </answer>", item)
    for answer, item in zip(said, items, strict=True)
  ]


def scores(items, model) -> dict:
  """Accuracy of the blind, constant and chance answers, as summary entries."""
  groups, lengths = questions.families(items), questions.lengths(items)
  chosen = questions.choices(items)
  summary = {}
  for name, said in answers(items, model).items():
    grades = graded(said, items)
    hits = questions.hits(grades)
    summary |= intervals.rate(f"qa/accuracy/{name}", hits)
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
    for family, rows in groups.items():
      summary |= intervals.rate(f"qa/accuracy/{family}/{name}", hits[rows])

  def chance(rows):
    some = [items[i].question for i in rows]
    return choice.chance(
      [q.answer_type for q in some], [q.options for q in some]
    )

  summary["qa/accuracy/chance"] = chance(range(len(items)))
  for family, rows in groups.items():
    summary[f"qa/accuracy/{family}/chance"] = chance(rows)
  return summary
