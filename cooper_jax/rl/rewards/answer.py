"""Answer reward: 1 for the right answer, 0 for any other.

A choice and a yes/no must name the true option and no other; a length must be
right within a tolerance, units converted; a count must be exact. `graded`
gives numbers a denser reward instead, by `graded_by` with e = |log(said/true)|:

  mra      mean relative accuracy: the share of ten tolerances that it keeps
  sigmoid  s((log(1 + tolerance) - e) / width), over its value at e = 0
           (after the smooth numerical reward of AP-GRPO, arXiv 2601.07695)
  rank     share of the group's other answers that are farther off, ties half

Ways to game it, and why they do not pay: naming every option (two answers are
no answer); writing the answer into the thoughts (only `<answer>` is read);
several answers (the last one counts); a range (its middle counts). It does not
see maps: one drawn and ignored changes nothing here. A rank compares with the
own group alone: it says who is nearer and not that anyone is right, so its mean
is no accuracy; pass all rows of a prompt at once, for it is of the whole group.
"""

import dataclasses
import math

import numpy as np

from cooper_jax.errors import UserError, nearest
from cooper_jax.grading.grade import Grade, Rules, grade, truth

GRADED_BY = ("mra", "sigmoid", "rank")
WIDTH = 0.1


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the answer reward."""

  tolerance: float = 0.1  # relative error of a length that still is right
  graded: bool = False  # numbers get a reward between 0 and 1
  graded_by: str = "mra"  # mra | sigmoid | rank (rl/rewards/answer.py)
  width: float = WIDTH  # width of the sigmoid in log error; smaller is steeper
  tags_only: bool = True  # nothing outside <answer>..</answer> counts
  unit_required: bool = False  # a length without its unit is wrong

  @property
  def rules(self) -> Rules:
    return Rules(self.tolerance, self.tags_only, self.unit_required)

  def __post_init__(self):
    _ = self.rules  # refuses what can't be
    if self.graded_by not in GRADED_BY:
      raise UserError(
        f'answer graded_by is "{self.graded_by}"; allowed:'
        f" {', '.join(GRADED_BY)}{nearest(self.graded_by, GRADED_BY)}"
      )
    if not 0 < self.width < math.inf:
      raise UserError(
        f"answer width is {self.width}; allowed are numbers above 0 (log"
        " error; 0.1 is about ten per cent)"
      )
    if self.graded_by != "mra" and not self.graded:
      raise UserError(
        f"answer graded_by is {self.graded_by}, which does nothing without"
        " graded=True; set both"
      )
    if self.width != WIDTH and self.graded_by != "sigmoid":
      raise UserError(
        f"answer width is {self.width}, which does nothing without"
        " graded_by=sigmoid; set both"
      )


def reward(view, columns, config: Config) -> np.ndarray:
  """1 for right and 0 for wrong [R], NaN where the true answer is None.

  Columns: answer, answer_type, options, unit, value; question, where letters
  may be an answer.
  """
  rules = config.rules
  questions = columns.get("question", [""] * len(view))
  result_R = np.full(len(view), np.nan, np.float32)
  error_R = np.full(len(view), np.nan)  # of numbers, e; inf = none was read
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
    result_R[row] = found.hit
    if not config.graded or np.isnan(found.mra):
      continue
    if config.graded_by == "mra":
      result_R[row] = found.mra
      continue
    true = truth(
      columns["answer"][row], columns["unit"][row], columns["value"][row]
    )
    error_R[row] = log_error(found, true)
  asked_R = ~np.isnan(error_R)
  if config.graded_by == "sigmoid":
    result_R[asked_R] = sigmoid(error_R[asked_R], rules.tolerance, config.width)
  for group in np.unique(view.group[asked_R]):
    rows = np.flatnonzero(asked_R & (view.group == group))
    if config.graded_by == "rank" and len(rows) > 1:
      result_R[rows] = rank(error_R[rows])
  return result_R


def log_error(found: Grade, true: float) -> float:
  """|log(said / true)| of an answer to a number; inf where none was read."""
  said = found.value
  if said is None:
    return math.inf
  if said == true:
    return 0.0
  both = said > 0 and true > 0
  return abs(math.log(said / true)) if both else math.inf


def sigmoid(error_R, tolerance: float, width: float) -> np.ndarray:
  """1 for no error [R], some 0.7 at the tolerance, then falling to 0."""
  middle = math.log1p(tolerance)
  # Clipped: exp(500) is finite, and the value is 0 long before.
  falls_R = np.exp(np.minimum((error_R - middle) / width, 500.0))
  return (1 + math.exp(-middle / width)) / (1 + falls_R)


def rank(error_R) -> np.ndarray:
  """Share of the others that are farther off [R]; 0 where none was read."""
  ahead_RR = error_R[:, None] < error_R[None, :]
  level_RR = error_R[:, None] == error_R[None, :]
  beaten_R = ahead_RR.sum(axis=1) + 0.5 * (level_RR.sum(axis=1) - 1)
  return np.where(np.isinf(error_R), 0.0, beaten_R / (len(error_R) - 1))
