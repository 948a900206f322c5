"""Claims about which option a response chooses, and when it chooses none."""

import pytest

from cooper_jax.grading import extract, grade, marks
from tests.grading.said import BALLS, CLOSER, SAID, YES_NO


@pytest.mark.parametrize(("text", "options", "value"), SAID)
def test_a_choice_is_what_was_said(text, options, value):
  assert extract.choice(text, options).value == value


REFUSALS = (
  "It's not possible to determine with certainty which point is closer. Both "
  "points A and B appear to be on the screen, and there is no clear depth.",
  "The two points labeled A and B are on the bird. However, without the image, "
  "I cannot determine which point is closer to the camera.",
  "I'm sorry, but I can't assist with that. A",
  "There is not enough information to say whether A is closer.",
  "It is unclear which of A and B is closer.",
)


@pytest.mark.parametrize("text", REFUSALS[:2] + REFUSALS[3:])
def test_a_refusal_is_no_answer(text):
  assert extract.choice(text, CLOSER) == (None, "refusal")


@pytest.mark.parametrize(
  ("text", "value"),
  [
    (
      "Point B, which is closer to the bottom of the image, is closer to the "
      "camera. Point A is higher and further away.",
      "B is closer",
    ),
    (
      "It's difficult to determine with certainty, but point B appears to be "
      "closer. It has a clearer outline compared to point A.",
      "B is closer",
    ),
    (
      "Point A is closer to the camera. Point B is further away, closer to the "
      "water.",
      "A is closer",
    ),
    ("(A) A is closer, while point B is at the back.", "A is closer"),
    ("Therefore, the correct answer is:\n\n(B) B is closer", "B is closer"),
    ("Point B is the nearest one.", "B is closer"),
    ("Point B lies at the back.", None),
  ],
)
def test_options_alike_but_for_a_letter_are_read_by_what_they_share(
  text, value
):
  assert extract.choice(text, CLOSER).value == value


@pytest.mark.parametrize(
  ("question", "shown"),
  [
    ("Which is closer ? red ball / blue ball / green can", False),
    ("Which ? (A) red ball (B) blue ball (C) green can", True),
    ("Which ?\nA. red ball\nB. blue ball\nC. green can", True),
    ("Which ? A red ball, B blue ball, C green can", True),
    ("Is a red ball or a blue ball closer than A ?", False),
    ("Which ? (A) red ball (B) blue ball", False),  # not all three
  ],
)
def test_letters_count_only_where_the_question_shows_them(question, shown):
  assert marks.shows_letters(question, BALLS) is shown
  truth = dict(answer="red ball", answer_type="choice", options=BALLS)
  said = grade.grade("<answer> A </answer>", **truth, question=question)
  assert said.hit is shown
  both = grade.grade("<answer> A or B </answer>", **truth, question=question)
  assert not both.hit and both.value is None


@pytest.mark.parametrize(
  "options",
  [
    ("A. red ball", "B. box"),
    ("(A) red ball", "(B) box"),
    ("A: red ball", "B: box"),
  ],
)
def test_options_written_with_their_letters_are_read_without_them(options):
  for said in (
    "A",
    "(A)",
    "red ball",
    "The red ball.",
    "A. red ball",
    "It is A",
  ):
    assert extract.choice(said, options, letters=False).value == options[0]
  for said in ("B", "the box", "The box is closer.", "(B) box"):
    assert extract.choice(said, options, letters=False).value == options[1]
  both = "red ball or box"
  assert extract.choice(both, options, letters=False).value is None


def test_yes_and_no_have_letters_where_they_were_shown():
  truth = dict(answer="no", answer_type="yes_no")
  question = "Is it red ? (A) yes (B) no"
  assert grade.grade("B", **truth, options=YES_NO, question=question).hit
  assert grade.grade("B", **truth, question=question).hit
  assert not grade.grade("B", **truth, question="Is it red ?").hit


def test_long_texts_are_read_in_little_time():
  for text in ("neither A ", "A or ", "not ", "(A) ", ", which ", "because "):
    extract.choice(text * 500, CLOSER)
    extract.number(text * 500 + "1 " * 500 + "0" * 5000)
