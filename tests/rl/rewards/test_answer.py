"""The answer reward: right is 1, and the shortcuts pay nothing."""

import numpy as np
import pytest

from cooper_jax.rl.rewards import answer
from cooper_jax.rollouts.response import DrawnMap, Responses

CHOICE = {
  "answer": "red ball",
  "answer_type": "choice",
  "options": ("red ball", "blue table", "green can"),
  "unit": "",
  "value": None,
}
LENGTH = {
  "answer": "2.4 m",
  "answer_type": "number",
  "options": (),
  "unit": "m",
  "value": 2.43,
}
YES = CHOICE | {"answer": "yes", "answer_type": "yes_no", "options": ()}


def _score(text, question, maps=(), **settings):
  view = Responses.from_texts([text], maps=[maps])
  columns = {name: (value,) for name, value in question.items()}
  result = answer.reward(view, columns, answer.Config(**settings))
  assert result.dtype == np.float32 and result.shape == (1,)
  return float(result[0])


def _say(text):
  return f"<think> a thought </think> <answer> {text} </answer>"


@pytest.mark.parametrize(
  ("text", "question", "score"),
  [
    ("red ball", CHOICE, 1),
    ("the red ball .", CHOICE, 1),
    ("blue table", CHOICE, 0),
    ("yes", YES, 1),
    ("no", YES, 0),
    ("2.4 m", LENGTH, 1),
    ("2.2 m", LENGTH, 1),
    ("2.7 m", LENGTH, 0),
    ("240 cm", LENGTH, 1),
  ],
)
def test_right_is_one_and_wrong_is_zero(text, question, score):
  assert _score(_say(text), question) == score


@pytest.mark.parametrize(
  ("text", "question"),
  [
    (_say("red ball blue table green can"), CHOICE),  # names every option
    (_say("yes no"), YES),
    (_say("1 m 1.5 m 2.4 m 3 m"), LENGTH),
    ("<think> red ball", CHOICE),  # only thinks it
    ("red ball", CHOICE),
    ("<answer> red ball", CHOICE),  # never finishes
    (_say("red ball") + " <answer> blue table </answer>", CHOICE),
    ("", CHOICE),
    (_say(""), CHOICE),
    (_say("&lt;answer> red"), CHOICE),
  ],
)
def test_shortcuts_do_not_pay(text, question):
  assert _score(text, question) == 0


def test_a_map_drawn_and_ignored_changes_nothing():
  drawn = DrawnMap("depth", np.zeros(4, int), np.ones((4, 4)))
  for text in ("red ball", "blue table"):
    plain = _score(_say(text), CHOICE)
    shown = "<think> look </think> <depth> " + _say(text)
    assert _score(shown, CHOICE, (drawn,)) == plain
    assert _score(shown, CHOICE, (drawn,) * 3) == plain


def test_graded_numbers_rise_with_nearness():
  scores = [
    _score(_say(f"{value} m"), LENGTH, graded=True)
    for value in (9, 3.5, 2.7, 2.43)
  ]
  assert scores == sorted(scores) and scores[0] == 0 and scores[-1] == 1
  assert 0 < scores[1] < scores[2] < 1
  assert _score(_say("red ball"), CHOICE, graded=True) == 1


def test_settings_reach_the_rules():
  assert _score(_say("2.7 m"), LENGTH, tolerance=0.2) == 1
  assert _score(_say("2.4"), LENGTH) == 1
  assert _score(_say("2.4"), LENGTH, unit_required=True) == 0
  assert _score("red ball", CHOICE, tags_only=False) == 1


def test_a_letter_pays_only_where_the_question_shows_letters():
  shown = "Which ? (A) red ball (B) blue table (C) green can"
  for question, paid in (("Which ?", 0), (shown, 1)):
    asked = CHOICE | {"question": question}
    assert _score(_say("A"), asked) == paid
    assert _score(_say("A or B"), asked) == 0
    assert _score(_say("red ball"), asked) == 1


def test_a_length_is_right_in_the_unit_that_was_asked_for():
  asked = LENGTH | {"answer": "243 cm", "unit": "cm"}
  assert _score(_say("243 cm"), asked) == _score(_say("2.43 m"), asked) == 1
  assert _score(_say("243"), asked) == _score(_say("243 m"), asked) == 0


def test_a_question_without_an_answer_abstains():
  assert np.isnan(_score(_say("red ball"), CHOICE | {"answer": None}))
