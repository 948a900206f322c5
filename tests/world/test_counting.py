"""Questions made of a list: their traces and answers are what it says."""

import re

import numpy as np
import pytest

from cooper_jax.sample import Question
from cooper_jax.world import config
from cooper_jax.world.questions import counting, families, wording
from cooper_jax.world.scenes import generate

SAMPLES = generate(config.WorldConfig(), split="train", start=0, count=96)
LISTS = [q for s in SAMPLES for q in s.grounding if q.family == "list"]
SINGULAR = {plural: shape for shape, plural in wording.PLURALS.items()}


def asked():
  rng = np.random.default_rng(0)
  return [(a, q) for a in LISTS for q in counting.questions(a, rng, 3)]


def wanted(question):
  """In: "How many red things are there ?"   Out: {"red"}."""
  words = {SINGULAR.get(word, word) for word in question.text.split()}
  return words & {*config.COLOURS, *config.SHAPES}


def test_a_trace_points_at_all_that_fit_in_order_and_at_no_other():
  for whole, question in asked():
    fitting = [
      place
      for *name, place in re.findall(
        r"(\w+) (\w+) (<at \S+ \S+>)", whole.reasoning
      )
      if wanted(question) <= set(name)
    ]
    assert re.findall(r"<at \S+ \S+>", question.reasoning) == fitting
    last = question.reasoning.split()[-1]
    assert last == (str(len(fitting)) if fitting else "none")
    if question.family == "count":
      assert len(wanted(question)) == 1
      assert question.answer == str(len(fitting))
    else:
      assert len(wanted(question)) == 2
      assert question.answer == ("yes" if fitting else "no")


def test_the_answers_are_spread():
  made = [q for _, q in asked()]
  assert len(made) > 2.5 * len(LISTS)
  exists = [q.answer for q in made if q.family == "exists"]
  counts = [q.answer for q in made if q.family == "count"]
  assert 0.2 < len(exists) / len(made) < 0.4
  assert 0.3 < exists.count("no") / len(exists) < 0.6
  for answer in ("0", "1", "2"):
    assert 0.1 < counts.count(answer) / len(counts) < 0.5
  assert {"3"} <= set(counts)


def test_what_is_not_there_is_there_in_parts():
  absent = [pair for pair in asked() if pair[1].answer == "no"]
  assert absent
  for whole, question in absent:
    assert wanted(question) <= set(whole.reasoning.split())


def test_what_is_held_out_is_not_asked_for():
  listed = Question(
    "list",
    "List the objects .",
    "",
    "text",
    reasoning="red ball <at .4 .7> 2.4 m ; blue can <at .5 .2> 3.0 m",
  )
  rng = np.random.default_rng(1)
  made = [q for _ in range(60) for q in counting.questions(listed, rng, 3)]
  pairs = {frozenset(wanted(q)) for q in made if q.family == "exists"}
  assert frozenset(("blue", "ball")) in pairs
  assert frozenset(("red", "can")) not in pairs
  held = families.find("count").TEMPLATES[-1].split("{a}")[1]
  assert not any(q.text.endswith(held) for q in made if q.family == "count")


@pytest.mark.parametrize("said", ["an old chair <at .1 .2>", "none", ""])
def test_lists_of_other_sources_are_left_alone(said):
  other = Question("list", "List the objects .", said, "text", reasoning=said)
  assert counting.questions(other, np.random.default_rng(0), 3) == []


def test_in_any_order_all_is_named_once_and_every_order_comes():
  places = ["<at 0.1 0.2>", "<at 0.3 0.1>", "<at 0.5 0.5>"]
  told = wording.counted(places)
  question = Question("count", "How many ?", "3", "number", reasoning=told)
  rng, orders = np.random.default_rng(1), set()
  for _ in range(60):
    mixed = counting.in_any_order(question, rng)
    assert mixed.answer == "3"
    found = re.findall(r"<at \S+ \S+>", mixed.reasoning)
    assert sorted(found) == places
    assert mixed.reasoning == wording.counted(found)
    orders.add(tuple(found))
  assert len(orders) == 6


@pytest.mark.parametrize(
  "reasoning",
  [
    "none",
    "<at 0.1 0.2> 1",
    "red ball <at 0.1 0.2> 2.4 m ; red box <at 0.3 0.1> 3.0 m ; closer",
    "<at 0.1 0.2> 2 <at 0.3 0.1> 1",
    "",
  ],
)
def test_what_is_not_counted_has_its_order(reasoning):
  question = Question("closer", "Which ?", "a", "choice", reasoning=reasoning)
  rng = np.random.default_rng(1)
  assert counting.in_any_order(question, rng) is question
  assert rng.random() == np.random.default_rng(1).random()


@pytest.mark.parametrize("answer", ["the red ball", "2", "first"])
def test_a_question_that_may_be_about_the_order_keeps_it(answer):
  """Of three places, whose number would be 3: nothing says what it counts."""
  told = wording.counted(["<at 0.1 0.2>", "<at 0.3 0.1>", "<at 0.5 0.5>"])
  question = Question("own", "Which ?", answer, "open", reasoning=told)
  for seed in range(5):
    rng = np.random.default_rng(seed)
    assert counting.in_any_order(question, rng) is question
