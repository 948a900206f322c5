"""Answer reward: 1 for the right answer, 0 for any other.

A choice and a yes/no must name the true option and no other; a length must be
right within a tolerance, units converted; a count must be exact. `graded`
gives numbers their mean relative accuracy instead, which is denser.

Ways to game it, and why they do not pay: naming every option (two answers are
no answer); writing the answer into the thoughts (only `<answer>` is read);
several answers (the last one counts); a range (its middle counts). It does not
see maps: one drawn and ignored changes nothing here.
"""

import dataclasses

import numpy as np

from cooper_jax.grading.grade import Rules, grade


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the answer reward."""

  tolerance: float = 0.1  # relative error of a length that still is right
  graded: bool = False  # numbers get their mean relative accuracy
  tags_only: bool = True  # nothing outside <answer>..</answer> counts
  unit_required: bool = False  # a length without its unit is wrong

  @property
  def rules(self) -> Rules:
    return Rules(self.tolerance, self.tags_only, self.unit_required)

  def __post_init__(self):
    _ = self.rules  # refuses what can't be


def reward(view, columns, config: Config) -> np.ndarray:
  """1 for right and 0 for wrong [R], NaN where the true answer is None.

  Columns: answer, answer_type, options, unit, value; question, where letters
  may be an answer.
  """
  rules = config.rules
  questions = columns.get("question", [""] * len(view))
  result_R = np.full(len(view), np.nan, np.float32)
  for row, response in enumerate(view.text):
    if columns["answer"][row] is None:
      continue
    found = grade(
      response,
      answer=columns["answer"][row],
      answer_type=columns["answer_type"][row],
      options=columns["options"][row],
      unit=columns["unit"][row],
      value=columns["value"][row],
      question=questions[row],
      rules=rules,
    )
    graded = config.graded and not np.isnan(found.mra)
    result_R[row] = found.mra if graded else found.hit
  return result_R
