"""Claims about reading answers, against the human column of the vectors."""

import json
import pathlib

import pytest

from cooper_jax.grading import extract, quantities

VECTORS = json.loads(
  (pathlib.Path(__file__).parents[1] / "vectors/answers.json").read_text()
)
CHOICES = VECTORS["option_extraction"]["rows"]
NUMBERS = VECTORS["number_extraction"]["rows"]
BALLS = ("red ball", "blue ball", "green can")


@pytest.mark.parametrize("row", CHOICES, ids=lambda row: row["text"][:24])
def test_choices_are_read_as_a_careful_reader_does(row):
  found = extract.choice(row["text"], list(row["choices"].values()))
  assert found.value == row["choices"].get(row["human"])
  if row["human"] == "Z":
    assert found.how == "refusal"


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row["text"][:24])
def test_numbers_are_read_as_a_careful_reader_does(row):
  found = extract.number(row["text"])
  if row["value"] is None:
    assert found.value is None
  else:
    assert found.value == pytest.approx(row["value"], abs=1e-9)


@pytest.mark.parametrize(
  ("response", "value", "how"),
  [
    ("<think> a </think> <answer> red ball </answer>", "red ball", "tags/text"),
    ("<answer> the Red Ball. </answer>", "red ball", "tags/text"),
    ("<answer> A </answer> <answer> B </answer>", "blue ball", "tags/letter"),
    ("<answer>so \\boxed{C}</answer>", "green can", "tags/letter"),
    ("<think> red ball </think> blue ball", "blue ball", "whole/text"),
    ("<answer> blue ball", "blue ball", "open_tag/text"),
    ("<answer> red ball blue ball </answer>", None, "none"),
    ("<answer> not the red ball but the blue ball </answer>", "blue ball", ""),
    ("<answer> a red balloon </answer>", None, "none"),
    ("<think> red ball </think> <answer> </answer>", None, "none"),
    ("<think> red ball", None, "none"),
    ("", None, "none"),
  ],
)
def test_choice_precedence(response, value, how):
  found = extract.choice(response, BALLS)
  assert found.value == value
  assert found.how.startswith(how)


def test_only_closed_tags_count_as_tagged():
  assert extract.choice("<answer> red ball </answer>", BALLS).tagged
  assert not extract.choice("<answer> red ball", BALLS).tagged
  assert not extract.choice("red ball", BALLS).tagged


@pytest.mark.parametrize(
  ("response", "value"),
  [
    ("yes", "yes"),
    ("<answer> No. </answer>", "no"),
    ("Yes, it is not blocked.", "yes"),
    ("A", None),  # no options were shown
    ("yes no", None),
    ("nothing", None),
    ("yesterday", None),
  ],
)
def test_yes_no(response, value):
  assert extract.yes_no(response).value == value


@pytest.mark.parametrize(
  ("response", "value"),
  [
    ("<answer> 2.4 m </answer>", 2.4),
    ("<think> 9 m </think> <answer> 3 </answer>", 3.0),
    ("The ball is 2 m away. The can is 5 m away. So it is 3 m.", 3.0),
    ("the red one is 3 m away", 3.0),
    ("2 balls are 3 m apart", 3.0),
    ("1.5-2 m", 1.75),
    ("5'4\"", 1.6256),
    ("twenty-five cm", 0.25),
    ("half a metre", 0.5),
    ("−2", -2.0),
    ("3 x 10^2 mm", 0.3),
    ("1.2.3", None),
    ("__import__('os').getcwd()", None),
  ],
)
def test_numbers(response, value):
  found = extract.number(response).value
  assert found == (None if value is None else pytest.approx(value))


def test_a_number_says_whether_it_had_a_unit():
  assert extract.number("2.4 m").how == "whole/quantity"
  assert extract.number("2.4").how == "whole/number"
  assert quantities.read("3 mice") == (3.0, "")


def test_free_text_is_what_stands_in_the_answer():
  found = extract.extract("<answer> in the *left* corner </answer>", "text")
  assert found == ("in the left corner", "tags/text")


@pytest.mark.parametrize(
  ("value", "unit", "metres"),
  [
    (240, "cm", 2.4),
    (2.4, "m", 2.4),
    (2.4, " Metres ", 2.4),
    (10, "feet", 3.048),
    (30, "inches", 0.762),
    (500, "mm", 0.5),
    (70, "kg", None),
    (90, "degrees", None),
    (3, "", None),
  ],
)
def test_a_length_of_any_unit_is_converted_and_nothing_else_is(
  value, unit, metres
):
  found = quantities.to_metres(value, unit)
  assert found == (None if metres is None else pytest.approx(metres))
