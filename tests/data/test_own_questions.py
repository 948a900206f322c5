"""Truths of own data: lengths in metres, answers that nobody has to guess."""

import json

import pytest

from cooper_jax.data import own_questions, records
from cooper_jax.grading import grade

LINE = {"image": "a.png", "question": "Which is closer ?"}


def parsed(line):
  text = line if isinstance(line, str) else json.dumps(LINE | line)
  ((record, problems),) = records.parse(text.encode("utf-8", "surrogatepass"))
  if not {"answer", "question"} <= set(record):
    return None, problems
  question, more = own_questions.make(record)
  return question, problems + more


def made(**line):
  question, problems = parsed(line)
  assert not problems
  return question


def refused(line):
  _, problems = parsed(line)
  assert problems and not any("\n" in problem for problem in problems)
  "".join(problems).encode()  # can be printed
  return " | ".join(problems)


LENGTHS = [
  ("240", "cm", "240 cm", 2.4),
  ("240 cm", "cm", "240 cm", 2.4),
  ("240 cm", "m", "240 cm", 2.4),
  ("240cm", "", "240cm", 2.4),
  ("2.4", "m", "2.4 m", 2.4),
  ("2.4 m", "", "2.4 m", 2.4),
  ("2400", "mm", "2400 mm", 2.4),
  ("0.0024", "km", "0.0024 km", 2.4),
  ("8", "feet", "8 feet", 2.4384),
  ("8", "ft", "8 ft", 2.4384),
  ("96", "inches", "96 inches", 2.4384),
  ("96", "in", "96 in", 2.4384),
  ("96", "IN.", "96 IN.", 2.4384),
  ("5 feet 4 inches", "", "5 feet 4 inches", 1.6256),
  ("5'4\"", "m", "5'4\"", 1.6256),
  ("2m30cm", "", "2m30cm", 2.3),
  ("24e-1", "m", "24e-1 m", 2.4),
  (".5", "yards", ".5 yards", 0.4572),
]


@pytest.mark.parametrize(("answer", "unit", "text", "metres"), LENGTHS)
def test_lengths_are_kept_as_written_and_valued_in_metres(
  answer, unit, text, metres
):
  question = made(answer=answer, unit=unit)
  assert (question.answer, question.answer_type) == (text, "number")
  assert question.value == pytest.approx(metres, rel=1e-12)
  assert question.unit == unit if unit else question.unit


@pytest.mark.parametrize(("answer", "unit"), [case[:2] for case in LENGTHS])
def test_the_truth_is_right_and_its_bare_number_is_not(answer, unit):
  question = made(answer=answer, unit=unit)

  def hit(said):
    return grade.grade(
      f"<answer> {said} </answer>",
      answer=question.answer,
      answer_type=question.answer_type,
      unit=question.unit,
      value=question.value,
    ).hit

  assert hit(f"{question.value:.4g} m")
  assert hit(f"{100 * question.value:.4g} cm")
  assert not hit(f"{3 * question.value:.4g} m")
  if question.unit in ("cm", "mm", "inches"):
    assert not hit(answer.split()[0].removesuffix("cm"))


def test_counts_have_no_unit():
  question = made(answer="3")
  assert (question.value, question.unit, question.answer) == (3, "", "3")
  assert question.family == "own_number"
  assert made(answer="3 m").family == "own_length"


@pytest.mark.parametrize(
  ("line", "answer", "value"),
  [
    ('"answer": 2.4, "unit": "m"', "2.4 m", 2.4),
    ('"answer": 2.40, "unit": "m"', "2.40 m", 2.4),
    ('"answer": 3', "3", 3),
    ('"answer": 3, "value": 3.0', "3", 3),
    ('"answer": 240, "unit": "cm", "value": 241', "240 cm", 2.41),
  ],
)
def test_numbers_may_be_numbers(line, answer, value):
  question, problems = parsed(f'{{"image": "a", "question": "q", {line}}}')
  assert not problems
  assert question.answer == answer and question.value == pytest.approx(value)


def test_options_may_be_numbers():
  question = made(answer=3, options=[2, 3, " 4 "])
  assert (question.answer, question.options) == ("3", ("2", "3", "4"))
  assert question.answer_type == "choice"
  assert question.text.endswith("2 / 3 / 4")


@pytest.mark.parametrize(
  ("question", "options", "named"),
  [
    ("Is the ball in or on the box ?", ["in", "on"], True),
    ("Which, left/right?", ["left", "right"], True),
    ("Which? A.2.5 B.3", ["2.5", "3"], True),
    ("Is it 'red' or (blue)?", ["red", "blue"], True),
    ("The red ball or the ball ?", ["ball", "red ball"], True),
    ("Are 1 or 2, or 2.5, things there ?", ["1", "2", "2.5"], True),
    ("Chaud ou gelé ?", ["Chaud", "gelé"], True),
    ("Красный или синий ?", ["Красный", "синий"], True),
    ("Is the cup standing near the box, on it ?", ["in", "on"], False),
    ("How does it stand in relation to the box ?", ["in", "on"], False),
    ("Which number of 12 things ?", ["1", "2"], False),
    ("Is it 2.4 or 1.5 ?", ["2", "1"], False),
    ("From .1 to 2 ?", ["1", "2"], False),
    ("From -1 to 2 ?", ["1", "2"], False),
    ("Is the red-brown or the blue ball closer ?", ["red", "blue"], False),
    ("Don't you see an on/off switch ?", ["Don", "on"], False),
    ("Is it in front of the box, or on it ?", ["in", "in front", "on"], False),
    ("Is ge\u0301 or b there ?", ["ge", "b"], False),
    ("Синие или нет ?", ["Син", "нет"], False),
    ("की या b ?", ["क", "b"], False),
    ("杯子是红色的还是蓝色的?", ["红", "蓝"], False),
  ],
)
def test_options_are_told_but_where_they_stand_as_whole_words(
  question, options, named
):
  found = made(question=question, options=options, answer=options[0]).text
  told = f"{question} {' / '.join(options)}"
  assert found == (question if named else told)


def test_null_is_nothing():
  question = made(answer="yes", depth=None, unit=None, value=None, options=None)
  assert (question.answer, question.needs) == ("yes", ())
  assert "no 'answer'" in refused({"answer": None})


@pytest.mark.parametrize(
  ("answer", "unit", "value", "right"),
  [
    ("2.4", "m", 2.41, 2.41),  # rounded to the digits shown
    ("2", "m", 2.4, 2.4),
    ("2.4", "m", 2.5, 2.5),  # within 5 %
    ("240", "cm", 238, 2.38),  # in the unit
    ("240", "cm", 2.38, 2.38),  # or in metres
    ("240 cm", "", "239.6", 2.396),
    ("2.4", "m", 7, None),
    ("2.4", "m", 240, None),
    ("240", "cm", 24, None),
    ("2.4", "m", -2.4, None),
    ("3", "", 4, None),
    ("3", "", 3.4, None),  # "3" would be wrong
  ],
)
def test_a_value_is_the_number_behind_the_answer(answer, unit, value, right):
  line = {"answer": answer, "unit": unit, "value": value}
  if right is None:
    assert "contradict each other" in refused(line)
  else:
    assert made(**line).value == pytest.approx(right)


@pytest.mark.parametrize(
  ("line", "reason"),
  [
    ({"answer": "maybe", "answer_type": "yes_no"}, "neither yes nor no"),
    ({"answer": "yes.", "answer_type": "yes_no"}, "neither yes nor no"),
    ({"answer": True}, 'it should be "yes" or "no"'),
    ({"answer": "a", "answer_type": "choice"}, "choice without 'options'"),
    ({"answer": "a", "answer_type": "choice", "options": []}, "without"),
    ({"answer": "a", "options": ["a"]}, "one option"),
    ({"answer": "a", "options": ["a", "a"]}, "stands twice"),
    ({"answer": "a", "options": ["a", "A "]}, "stands twice"),
    ({"answer": "a b", "options": ["a b", "A  b"]}, "stands twice"),
    ({"answer": "a", "options": ["a", 3, 3]}, "stands twice"),
    ({"answer": "red ball", "options": ["red ball", "red ball."]}, "twice"),
    ({"answer": "red ball", "options": ["red ball", "The red ball"]}, "twice"),
    ({"answer": "a b", "options": ["a b", "a\u00a0b\u200b"]}, "stands twice"),
    ({"answer": "\u00e9", "options": ["\u00e9", "e\u0301"]}, "stands twice"),
    (
      {
        "answer": "yes",
        "answer_type": "yes_no",
        "options": ["yes", "no", "maybe"],
      },
      "others make it a choice",
    ),
    ({"answer": "a", "options": ["a", ""]}, "an empty option"),
    ({"answer": "a", "options": ["a", " "]}, "an empty option"),
    ({"answer": "a", "options": ["a", True]}, "list of strings"),
    ({"answer": "a", "options": {"a": 1}}, "list of strings"),
    ({"answer": "a", "options": ["b", "c"]}, "none of the options"),
    ({"answer": "2.4", "value": True}, "'value' is true"),
    ({"answer": "2.4", "value": [2.4]}, "'value' is [2.4]"),
    ({"answer": "2.4", "value": "1_000"}, "should be a number"),
    ({"answer": "2.4", "value": "9" * 400}, "should be a number"),
    ({"answer": "yes", "value": 1}, "this one is yes_no"),
    ({"answer": "1_000", "unit": "m"}, "does not begin with a number"),
    ({"answer": "1,5", "unit": "m"}, "does not begin with a number"),
    ({"answer": "1 000", "unit": "mm"}, "does not begin with a number"),
    ({"answer": "1/2", "unit": "m"}, "does not begin with a number"),
    ({"answer": "2-3", "unit": "m"}, "does not begin with a number"),
    ({"answer": "1 to 5", "answer_type": "number"}, "holds more"),
    ({"answer": "3 2", "answer_type": "number"}, "holds more"),
    ({"answer": "3 chairs", "answer_type": "number"}, "holds more"),
    ({"answer": "4 inches 5 feet", "unit": "m"}, "holds more"),
    ({"answer": "about 2", "unit": "m"}, "does not begin with a number"),
    ({"answer": "9" * 400, "answer_type": "number"}, "begin with a number"),
    ({"answer": "1e999", "answer_type": "number"}, "is no number"),
    ({"answer": "1e300", "unit": "m"}, "is no length"),
    ({"answer": "-2.4", "unit": "m"}, "is no length"),
    ({"answer": "2.4", "unit": "kg"}, "unit 'kg' is no length"),
    ({"answer": "٣", "answer_type": "number"}, "begin with a number"),
    ({"answer": "a", "family": "x y", "flag": "z"}, "can't name a score"),
    ({"answer": "a", "family": "x y", "flag": "z"}, "flag 'z' is none"),
  ],
)
def test_what_leaves_the_truth_open_is_refused(line, reason):
  assert reason in refused(line)


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ('{"answer": "a", "answer": "b"}', "key 'answer' stands twice"),
    ('{"image": {"a": 1, "a": 1}}', "key 'a' stands twice"),
    ('{"answer": 1_000}', "not JSON"),
    ('{"value": %s}' % ("9" * 400), "a number of 400 digits"),
    ('{"value": %s}' % ("9" * 5000), "a number of 5000 digits"),
    ('{"value": 1.%s}' % ("9" * 400), "a number of 402 digits"),
    ('{"options": [%s]}' % ("9" * 400), "a number of 400 digits"),
    ('{"answer": "\\ud800"}', "half a character, \\ud800"),
    ('{"\\udc00": "a"}', "half a character, \\udc00"),
    ('{"options": ["a", "\\udfff"]}', "half a character"),
    ('{"image": "a\\u0000b"}', "the character \\u0000"),
    ('{"value": Infinity}', "Infinity is no number"),
  ],
)
def test_json_that_two_readers_read_differently_is_refused(text, reason):
  assert reason in refused(text)


def test_a_whole_character_of_two_halves_is_read():
  question, problems = parsed(
    '{"image": "a", "question": "\\ud83d\\ude00 ?", "answer": "yes"}'
  )
  assert not problems and question.text == "😀 ?"


def test_every_error_of_a_line_is_said():
  _, problems = parsed(
    {
      "answer": "maybe",
      "answer_type": "yes_no",
      "flag": "none",
      "unit": 3,
      "answr": 1,
      "options": ["maybe", ""],
      "value": 3,
    }
  )
  assert len(problems) == 6
