"""Grades of responses against the truth: one rule for reward and evaluation."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from cooper_jax.errors import UserError
from cooper_jax.grading import extract, quantities
from cooper_jax.grading.metrics import (
  choice,
  mra,
  number,
  ratio,
)


@dataclasses.dataclass(frozen=True)
class Rules:
  """What counts as right."""

  tolerance: float = 0.1  # of a length, relative to the truth; counts: exact
  tags_only: bool = False  # read nothing outside <answer>..</answer>
  unit_required: bool = False  # "2.4" is no length

  def __post_init__(self):
    if not 0 <= self.tolerance < 1:
      raise UserError(
        f"answer tolerance is {self.tolerance}, allowed is [0, 1); 0.1 is ten "
        "per cent of the true length"
      )


class Grade(NamedTuple):
  """How one response did."""

  hit: bool
  value: str | float | None  # what was read
  how: str  # how it was read, see extract.Extraction
  mra: float  # numbers; NaN for the others
  factor2: float  # lengths: 1 within a factor of 2; NaN for the others


NAN = float("nan")


def grade(
  response: str,
  *,
  answer: str,
  answer_type: str,
  options: Sequence[str] = (),
  unit: str = "",
  value: float | None = None,
  question: str = "",
  rules: Rules = Rules(),
) -> Grade:
  """Grades a response against the truth; an unread answer is wrong.

  Lengths are compared in metres, whatever the `unit` of the question, other
  numbers as they are. `question` is its text: letters count where it shows
  them.
  """
  found = extract.extract(
    response, answer_type, options, question=question, unit=unit
  )
  if rules.tags_only and not found.tagged:
    how = found.how if found.value is None else "untagged"
    found = extract.Extraction(None, how)
  if answer_type != "number":
    hit = choice.same(found.value, answer)
    return Grade(hit, found.value, found.how, NAN, NAN)
  metres = quantities.to_metres(1.0, unit)
  bare = found.how.endswith("/number")
  # A length is no count, no angle and no weight; and a number without a unit
  # is a length in metres only, where it is one at all.
  no_length = bare and (rules.unit_required or metres != 1.0)
  if found.value is not None and (no_length if metres else not bare):
    found = extract.Extraction(None, "wrong_unit")
  target = truth(answer, unit, value)
  hit = number.correct(
    found.value, target, unit=unit, tolerance=rules.tolerance
  )
  factor2 = float(ratio.within(found.value, target)) if metres else NAN
  return Grade(
    hit, found.value, found.how, mra.mra(found.value, target), factor2
  )


def truth(answer: str, unit: str, value: float | None = None) -> float:
  """The true number: metres for a length of any unit, else as it is.

  `value`, where it is given, is in metres already. An answer with a unit of
  its own says what it is ("240 cm" is 2.4 m in any question), one without has
  the question's. Raises UserError where there is no number in it.
  """
  if value is not None:
    return float(value)
  found = quantities.read(answer)
  if found is None:
    raise UserError(
      f"the true answer {answer!r} holds no number; write it in digits, with"
      " its unit"
    )
  if found.unit:
    return found.value
  metres = quantities.to_metres(found.value, unit)
  return found.value if metres is None else metres
