"""Claims about which option a response chooses, and when it chooses none."""

import pytest

from cooper_jax.eval import extract, grading, marks

CLOSER = ("A is closer", "B is closer")
LETTERED = ("alpha", "beta", "gamma", "delta")
BALLS = ("red ball", "blue ball", "green can")
YES_NO = ("yes", "no")
POINTS = ("Point A", "Point B", "They are equally far")


def claim(options, said):
  return [(text, options, value) for text, value in said.items()]


SAID = [
  *claim(
    CLOSER,
    {
      "Point B appears to be closer to the camera than point A.": "B is closer",
      "it is not possible to tell which point is closer": None,
      "It cannot be determined whether A is closer": None,
      "I can't tell if A is closer or B is closer.": None,
      "A is closer": "A is closer",
      "a is closer": "A is closer",
      "A": "A is closer",
      "a": "A is closer",
      "point A": "A is closer",
      "Point A is closer than point B": "A is closer",
      "Compared to point A, point B is closer.": "B is closer",
      "Point A is not closer; point B is closer.": "B is closer",
      "A is farther away than B": None,
      "Point A is further back. Point B is nearer.": "B is closer",
      "It is A rather than B": "A is closer",
      "A, not B": "A is closer",
      "not A but B": "B is closer",
      "Of A and B, B is closer": "B is closer",
      "A, because A is closer than B": "A is closer",
      "because it is larger, A is closer": "A is closer",
      "both points are equally close, A and B": None,
      "Both A and B are closer": None,
      "A isn't closer": None,
      "point B isn't closer than point A": None,
    },
  ),
  *claim(
    LETTERED,
    {
      "The answer is not A, it is C.": "gamma",
      "neither A nor B; C": "gamma",
      "B,C": None,
      "Both A and C": None,
      "A or B": None,
      "A and B": None,
      "A/B": None,
      "A, B": None,
      "A B": None,
      "either A or B": None,
      "(A) or (B)": None,
      "A. B.": None,
      "A\nB": None,
      "AB": None,
      "all of them": None,
      "B instead of A": "beta",
      "not A or B, C": "gamma",
      "It isn't A. It isn't B. So it must be D.": "delta",
      "Not A, not B, not D: C": "gamma",
      "A is wrong, B is right": "beta",
      "Option A is incorrect. The answer is B.": "beta",
      "The correct answer isn't B; it's D": "delta",
      "A can be ruled out, leaving C": "gamma",
      "The answer is A. Wait, no, the answer is B.": "beta",
      "Between A and C, I'd choose C": "gamma",
      "I am not sure, but I think B.": "beta",
      "Not sure. Probably B": "beta",
      "option b": "beta",
      "the answer is b": "beta",
      "answer is a": "alpha",
      "The answer is a balloon": None,
      "答案是C": "gamma",
      "选B": "beta",
      "（D）": "delta",
      "(E)": None,
      "E": None,
      "\\boxed{B}": "beta",
      "\\boxed{A, B}": None,
      "I would pick C, as A and B are farther.": "gamma",
      "A is tempting. However, C.": "gamma",
      "not only A but also B": None,
      "I think B": "beta",
      "definitely B!": "beta",
      "It has to be B": "beta",
      "The best option is C since B is behind A.": "gamma",
      "B is the answer": "beta",
      "C is correct": "gamma",
      "C seems most plausible.": "gamma",
      "I cannot answer that. A": "alpha",
      "Sorry, I can't help": None,
      "A? B? C?": None,
      "I don't think it's A. I think it's B.": "beta",
      "It is unlikely to be A; B it is.": "beta",
      "A is not the answer, B is.": "beta",
      "The answer: not B": None,
      "anything but B": None,
      "If I had to choose, I would say B": "beta",
      "Either one: A or B. But I'd go with B.": "beta",
      "I'd eliminate A and B. C remains.": "gamma",
      "Not B, C": "gamma",
      "B not A": "beta",
      "B and not A": "beta",
      "rather B than A": "beta",
      "Nor is it A, it's B": "beta",
      "A over B": None,
    },
  ),
  *claim(
    BALLS,
    {
      "A red ball": "red ball",
      "A blue ball is closest, so the answer is B": "blue ball",
      "The red ball is closer than the blue ball.": "red ball",
      "the blue ball, not the red ball": "blue ball",
      "neither the red ball nor the blue ball, the green can": "green can",
      "the red ball and the blue ball": None,
      "red ball or blue ball": None,
      "the red ball is as close as the blue ball": None,
      "It can't be determined whether the red or the blue ball is closer": None,
      "It is impossible to tell. The red ball is on the table.": None,
      "unclear: red ball": None,
      "But it is difficult to tell : red ball": None,
      "The red ball looks close, but the blue ball is closer.": "blue ball",
      "Although the red ball looks close, the blue ball is.": "blue ball",
      "(B) the blue ball because it is nearer than the red ball": "blue ball",
      "B: blue ball": "blue ball",
      "A: blue ball": None,
      "(A) red ball (B) blue ball (C) green can": None,
      "(A) red ball\n(B) blue ball\n(C) green can\nAnswer: (C)": "green can",
      "A) red ball B) blue ball, the answer is B": "blue ball",
      "None of the above": None,
      "none of the choices (A) red ball, (B) blue ball or (C) green can": None,
      "Is it the red ball? No, the blue ball.": "blue ball",
    },
  ),
  *claim(
    YES_NO,
    {
      "yes": "yes",
      "No, it is not.": "no",
      "There is no ball": None,
      "yes no": None,
      "yes and no": None,
      "no, yes": None,
      "Yes, there is no obstacle.": "yes",
      "no obstacle blocks it, so yes": "yes",
      "Not yes": None,
      "No.\n\nThe cat is on the car.": "no",
      "cannot say yes or no": None,
      "I can't say yes": None,
      "The answer is no": "no",
      "(B) no": "no",
    },
  ),
  *claim(
    POINTS,
    {
      "They are equally far": "They are equally far",
      "Point B": "Point B",
      "B": "Point B",
      "neither point A nor B: they are equally far": "They are equally far",
    },
  ),
  *claim(
    ("left", "right", "front left"),
    {
      "front left": "front left",
    },
  ),
  *claim(
    ("left", "right"),
    {
      "left or right": None,
      "not left": None,
      "to the right of it": "right",
    },
  ),
  *claim(
    ("2", "3", "12"),
    {
      "2-3": None,
      "2 or 3": None,
      "There are 3 chairs": "3",
    },
  ),
  *claim(
    ("2", "3"),
    {
      "2 to 3": None,
    },
  ),
  *claim(
    ("3", "5"),
    {
      "3.5": None,
      "-3": None,
    },
  ),
  *claim(
    ("red", "blue", "cannot be determined"),
    {
      "cannot be determined": "cannot be determined",
    },
  ),
  *claim(
    ("B is closer", "A is closer"),
    {
      "B is closer": "B is closer",
      "A": "A is closer",
    },
  ),
]


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
  said = grading.grade("<answer> A </answer>", **truth, question=question)
  assert said.hit is shown
  both = grading.grade("<answer> A or B </answer>", **truth, question=question)
  assert not both.hit and both.value is None


def test_yes_and_no_have_letters_where_they_were_shown():
  truth = dict(answer="no", answer_type="yes_no")
  question = "Is it red ? (A) yes (B) no"
  assert grading.grade("B", **truth, options=YES_NO, question=question).hit
  assert grading.grade("B", **truth, question=question).hit
  assert not grading.grade("B", **truth, question="Is it red ?").hit


def test_long_texts_are_read_in_little_time():
  for text in ("neither A ", "A or ", "not ", "(A) ", ", which ", "because "):
    extract.choice(text * 500, CLOSER)
    extract.number(text * 500 + "1 " * 500 + "0" * 5000)
