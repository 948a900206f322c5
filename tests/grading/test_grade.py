"""Claims about what counts as right."""

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.grading.grade import Rules, grade, truth

LENGTH = dict(answer="2.4 m", answer_type="number", unit="m", value=2.43)
COUNT = dict(answer="3", answer_type="number", unit="", value=3.0)


def _length(text, **rules):
  return grade(f"<answer> {text} </answer>", **LENGTH, rules=Rules(**rules))


@pytest.mark.parametrize(
  ("text", "hit"),
  [
    ("2.4 m", True),
    ("240 cm", True),
    ("2.2 m", True),  # 9.5 % off
    ("2.1 m", False),  # 13.6 % off
    ("2.7 m", False),  # 11.1 % off
    ("2.4", True),
    ("2.4 cm", False),
    ("2.4 2.7 1.8 m", False),
    ("far", False),
  ],
)
def test_lengths_are_right_within_ten_per_cent(text, hit):
  assert _length(text).hit is hit


def test_a_length_without_its_unit_can_be_refused():
  assert _length("2.4", unit_required=True).how == "wrong_unit"
  assert _length("2.4 m", unit_required=True).hit


def test_counts_are_exact_and_no_lengths():
  def hit(text):
    return grade(f"<answer> {text} </answer>", **COUNT).hit

  assert hit("3") and hit("three") and hit("There are 3 chairs")
  assert not hit("4") and not hit("3.1") and not hit("3 m")


def test_numbers_are_graded_and_choices_are_not():
  found = _length("1.3 m")
  # |1.3 - 2.43| / 2.43 = .465: one of ten bounds; ratio 1.87 < 2.
  assert found.mra == pytest.approx(0.1) and found.factor2 == 1
  assert _length("1.2 m").factor2 == 0
  choice = grade("B", answer="b", answer_type="choice", options=("a", "b"))
  assert choice.hit and np.isnan(choice.mra) and np.isnan(choice.factor2)
  assert np.isnan(grade("3", **COUNT).factor2)


def test_tags_only_reads_nothing_outside_the_tags():
  loose = grade("2.4 m", **LENGTH)
  strict = grade("2.4 m", **LENGTH, rules=Rules(tags_only=True))
  assert loose.hit and not strict.hit and strict.how == "untagged"


def test_the_truth_is_read_from_the_answer_where_no_value_is_given():
  truth = dict(answer="2.4 m", answer_type="number", unit="m")
  assert grade("240 cm", **truth).hit
  with pytest.raises(UserError, match="holds no number"):
    grade("3", answer="many", answer_type="number")


def test_a_bad_tolerance_is_refused():
  with pytest.raises(UserError, match=r"allowed is \[0, 1\)"):
    Rules(tolerance=10)


CENTIMETRES = dict(answer="240 cm", answer_type="number", unit="cm", value=2.4)


@pytest.mark.parametrize(
  ("text", "hit"),
  [
    ("240 cm", True),
    ("2.4 m", True),
    ("94.5 inches", True),
    ("7 ft 10 in", True),
    ("240", False),
    ("2.4", False),  # nothing says that these are metres
    ("240 m", False),
    ("2.4 cm", False),
  ],
)
@pytest.mark.parametrize("value", [2.4, None])
def test_a_truth_in_centimetres_is_compared_in_metres(text, hit, value):
  found = grade(text, **CENTIMETRES | {"value": value})
  assert found.hit is hit
  assert found.factor2 == float(hit)
  assert found.mra == pytest.approx(float(hit), abs=0.11)


@pytest.mark.parametrize(
  ("answer", "unit", "metres"),
  [
    ("240", "cm", 2.4),
    ("240 cm", "cm", 2.4),
    ("240 cm", "m", 2.4),
    ("2.4", "m", 2.4),
    ("8", "feet", 2.4384),
    ("94.5 in", "inches", 2.4003),
    ("5 feet 4 inches", "feet", 1.6256),
    ("70", "kg", 70.0),
    ("90", "degrees", 90.0),
    ("3", "", 3.0),
  ],
)
def test_the_truth_of_a_length_is_in_metres(answer, unit, metres):
  assert truth(answer, unit) == pytest.approx(metres)
  assert truth(answer, unit, 1.5) == 1.5


def test_what_is_no_length_is_compared_as_it_is():
  weight = dict(answer="70 kg", answer_type="number", unit="kg", value=70.0)
  assert grade("70 kg", **weight).hit
  assert grade("75", **weight).hit  # within 10 %
  assert grade("70 m", **weight).how == "wrong_unit"
  assert np.isnan(grade("70 kg", **weight).factor2)


@pytest.mark.parametrize("text", ["2 or 3", "1 to 5", "1 - 5", "3 2", "3 m"])
def test_two_numbers_are_no_count(text):
  assert not grade(text, **COUNT).hit


def test_two_lengths_are_no_length_and_a_range_is_its_middle():
  assert not _length("2.4 m or 3 m").hit and not _length("3 m, 2.4 m").hit
  assert _length("2 to 3 m").hit and _length("2.4 m (7.9 feet)").hit
