"""Is a response right? One rule for the reward and for the evaluation."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from cooper_jax.errors import UserError
from cooper_jax.eval import extract
from cooper_jax.eval.metrics import choice, mra, number, ratio


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
  rules: Rules = Rules(),
) -> Grade:
  """Grades a response against the truth; an unread answer is wrong."""
  found = extract.extract(response, answer_type, options)
  if rules.tags_only and not found.tagged:
    how = found.how if found.value is None else "untagged"
    found = extract.Extraction(None, how)
  if answer_type != "number":
    hit = choice.same(found.value, answer)
    return Grade(hit, found.value, found.how, NAN, NAN)
  bare = found.how.endswith("/number")
  # A length is no count, and where a unit is asked for a bare one no length.
  if (bare and unit and rules.unit_required) or (
    found.value is not None and not bare and not unit
  ):
    found = extract.Extraction(None, "wrong_unit")
  target = extract.number(answer).value if value is None else float(value)
  if target is None:
    raise UserError(f"the true answer {answer!r} holds no number")
  hit = number.correct(
    found.value, target, unit=unit, tolerance=rules.tolerance
  )
  factor2 = float(ratio.within(found.value, target)) if unit else NAN
  return Grade(
    hit, found.value, found.how, mra.mra(found.value, target), factor2
  )
