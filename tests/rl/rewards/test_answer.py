"""The answer reward: right is 1, and the shortcuts pay nothing."""

import numpy as np
import pytest

from cooper_jax.errors import UserError
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


def test_the_sigmoid_falls_smoothly_with_the_log_error():
  said = ("2.43 m", "2.6 m", "2.25 m", "3.5 m", "9 m", "a lot", "-1 m")
  scores = [
    _score(_say(each), LENGTH, graded=True, graded_by="sigmoid")
    for each in said
  ]
  assert scores == sorted(scores, reverse=True) and scores[0] == 1
  assert len(set(scores[:5])) == 5
  assert scores[4] < 1e-3 and scores[5:] == [0, 0]
  # At the tolerance: half, over the sigmoid's value where there is no error,
  # 1 / (1 + exp(-log(1.1) / 0.1)).
  at = answer.sigmoid(np.log([1.1]), 0.1, 0.1)
  np.testing.assert_allclose(at, 0.5 * (1 + np.exp(-np.log(1.1) / 0.1)))
  steep = _score(
    _say("2.6 m"), LENGTH, graded=True, graded_by="sigmoid", width=0.01
  )
  assert scores[1] < steep < 1
  assert _score(_say("red ball"), CHOICE, graded=True, graded_by="sigmoid") == 1


def test_ranks_compare_numbers_with_their_own_group():
  said = ["2 m", "2.5 m", "none", "9 m", "1 m", "1 m", "red ball"]
  view = Responses.from_texts(
    [_say(each) for each in said], group=[0, 0, 0, 0, 1, 1, 2]
  )
  asked = [LENGTH] * 6 + [CHOICE]
  columns = {name: [each[name] for each in asked] for name in CHOICE}
  config = answer.Config(graded=True, graded_by="rank")
  # Of the first four 2.5 is nearest to 2.43 and 9 farther off than 2; nothing
  # was read of "none". Two alike share what there is.
  np.testing.assert_allclose(
    answer.reward(view, columns, config), [2 / 3, 1, 0, 1 / 3, 0.5, 0.5, 1]
  )


def test_numbers_graded_by_something_else_are_refused():
  with pytest.raises(UserError, match=r'"ranks"; allowed: .*"rank"'):
    answer.Config(graded_by="ranks")
  with pytest.raises(UserError, match="width is 0"):
    answer.Config(width=0.0)


@pytest.mark.parametrize(
  "settings",
  [
    {"graded_by": "rank"},
    {"width": 0.2},
    {"graded": True, "width": 0.2},
  ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings):
  with pytest.raises(UserError, match="does nothing without"):
    answer.Config(**settings)


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
