"""A response is read as far as it can be, and what is wrong with it is said."""

import pytest

from cooper_jax.eval import trace
from cooper_jax.world import config
from cooper_jax.world.scenes import generate

KNOWN = trace.world_words()


def test_a_response_is_told_line_by_line():
  text = (
    "<think> measure the depth </think> <depth> <think> red ball <at 0.25 0.5>"
    " 1.2 m </think> <answer> 1.2 m </answer>"
  )
  assert trace.tell(text).splitlines() == [
    "  thinks: measure the depth",
    "  draws:  depth",
    "  thinks: red ball [1] 1.2 m",
    "  answer: 1.2 m",
  ]
  assert trace.tell("<answer> yes </answer>") == "  answer: yes"
  assert trace.places(text) == [(0.25, 0.5)]


@pytest.mark.parametrize(
  ("text", "answer", "fault"),
  [
    ("<think> cut off", None, "it gives no answer"),
    ("", None, "it ends without an answer"),
    ("<think> a </think> <depth>", None, "it ends without an answer"),
    (
      "<think> red ball no blue <answer> none </think> <answer> red ball"
      " </answer>",
      "red ball",
      "its tags do not pair",
    ),
    ("<think> a <answer> 2 m </answer>", "2 m", "its tags do not pair"),
    ("<think> a </think> <answer> 2 m", "2 m", "its answer is cut off"),
    ("<answer> red <think> ball </answer>", "red ball", "its tags do not pair"),
    ("words alone", None, "it gives no answer"),
    (
      "<think> a </think> <answer> yes </answer> <think> no",
      "yes",
      "it goes on after its answer",
    ),
    ("<answer> yes </answer> <answer> no </answer>", "no", "its tags do not p"),
  ],
)
def test_what_is_malformed_is_said_to_be_and_its_answer_is_read(
  text, answer, fault
):
  found = trace.read(text)
  assert found.answer == answer
  assert found.fault.startswith(fault)
  told = trace.tell(text).splitlines()
  assert f"  malformed, {found.fault}" in told[-1 if answer is None else -2]
  assert told[-1] == f"  answer: {answer}" or answer is None
  assert trace.tell(text).count("  answer: ") == (answer is not None)


def test_every_word_of_the_world_is_known():
  scenes = generate(config.WorldConfig(), split="test", start=0, count=60)
  asked = [q.text for scene in scenes for q in scene.questions]
  assert len(asked) > 300
  assert {
    word for text in asked for word in trace.unknown(text, KNOWN)
  } == set()
  # And none of them is written anew, so nothing changes for the world's own.
  assert [trace.as_known(text, KNOWN) for text in asked] == asked


@pytest.mark.parametrize(
  ("question", "unknown"),
  [
    ("Which is closer , the bus or the car ?", ["bus", "car"]),
    ("How many cats ? How many cats ?", ["cats"]),
    ("Wie weit ist der Tisch entfernt ?", "Wie weit ist der Tisch entfernt"),
    ("Is the red ball 2.35 m away ?", ["2.35"]),
    ("红色的球有多远", ["红色的球有多远"]),
    ("How far is the Küchentür ?", ["Küchentür"]),
    ("Is the ball under the wall ?", ["under", "wall"]),
    ("How far is the 🚗 ?", ["🚗"]),
    ("Is it the man's {a} ?", ["man's", "{", "}"]),
  ],
)
def test_words_that_the_world_does_not_have_are_named(question, unknown):
  if isinstance(unknown, str):
    unknown = unknown.split()
  assert trace.unknown(question, KNOWN) == unknown


def test_capitals_are_no_other_words():
  said = "HOW FAR is The Red ball ? i mean THE BUS"
  assert trace.as_known(said, KNOWN) == (
    "How far is the red ball ? i mean the BUS"
  )
