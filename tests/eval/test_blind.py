"""The blind baselines find every leak of a question, and nothing else."""

import types

import numpy as np
import pytest

from configs import base
from cooper_jax.data import mixture
from cooper_jax.eval import baselines, benchmark, blind
from cooper_jax.eval.benchmarks import embedded
from cooper_jax.eval.questions import lengths
from cooper_jax.grading import extract
from cooper_jax.grading.metrics import ratio
from cooper_jax.rollouts import prompts
from tests.data.test_codes import Scenes

SHAPES = ("ball", "box", "can", "table")
COLOURS = ("red", "blue", "green")


def _question(family, text, answer, kind="choice", options=(), **fields):
  defaults = {"unit": "", "value": None}
  return types.SimpleNamespace(
    family=family,
    text=text,
    answer=answer,
    answer_type=kind,
    options=options,
    **(defaults | fields),
  )


def _questions(seed, n=400):
  """Fair families and leaking ones, side by side."""
  rng = np.random.default_rng(seed)
  result = []
  for _ in range(n):
    one, two = (
      f"{rng.choice(COLOURS)} {shape}"
      for shape in rng.choice(SHAPES, 2, replace=False)
    )
    pair = (one, two)
    text = f"Which is closer , the {one} or the {two} ?"
    result.append(_question("fair", text, rng.choice(pair), options=pair))
    tall = [o for o in pair if "table" in o]
    leak = tall[0] if tall else rng.choice(pair)
    text = f"Which is taller , the {one} or the {two} ?"
    result.append(_question("taller", text, leak, options=pair))
    result.append(_question("second", text, two, options=pair))
    limit = rng.choice(("1", "2", "9"))
    near = "yes" if limit == "9" else rng.choice(("yes", "no"))
    text = f"Is the {one} within {limit} m ?"
    result.append(_question("reach", text, near, "yes_no"))
    value = float(np.exp(rng.uniform(0, np.log(16))))
    result.append(
      _question(
        "distance",
        f"How far is the {one} ?",
        f"{value:.1f} m",
        "number",
        unit="m",
        value=value,
      )
    )
  return result


@pytest.fixture(scope="module")
def fitted():
  return blind.fit(_questions(0))


def _accuracy(answer, family):
  members = [q for q in _questions(1) if q.family == family]
  return np.mean([answer(q) == q.answer for q in members])


def test_leaks_are_found(fitted):
  # Half of the pairs hold a table, the rest is a coin: .75 at best.
  assert _accuracy(fitted.answer, "taller") > 0.68
  # Two thirds a coin, one third sure: .67 at best.
  assert _accuracy(fitted.answer, "reach") > 0.6
  assert _accuracy(fitted.answer, "second") > 0.98
  assert _accuracy(fitted.majority, "second") == 1


def test_a_fair_family_stays_at_chance(fitted):
  # 400 coins: four standard errors are .1.
  assert abs(_accuracy(fitted.answer, "fair") - 0.5) < 0.1
  assert fitted.families["fair"].chance == 0.5


def test_the_best_constant_has_a_unit_and_a_bound(fitted):
  question = next(q for q in _questions(1) if q.family == "distance")
  constant = fitted.constant(question)
  assert constant.endswith(" m") and 1 < float(constant.split()[0]) < 16
  best = blind.best_constants(_questions(1))["distance"]
  # Log-uniform over 16: a factor-2 window of width 4 covers half.
  assert best["factor2"] == pytest.approx(0.5, abs=0.07)
  assert 0 < best["mra"] < 0.3


def test_the_constant_answer_is_the_one_right_most_often_within_tolerance():
  # Five times 1.0; nine of 3.0 to 3.2, none of them more than three times.
  values = [1.0] * 5 + [3.0, 3.1, 3.2] * 3
  questions = [
    _question("far", "How far ?", f"{v} m", "number", unit="m", value=v)
    for v in values
  ]
  fitted = blind.fit(questions)
  assert fitted.majority(questions[0]) in ("3.0 m", "3.1 m", "3.2 m")
  counts = [_question("many", "How many ?", n, "number") for n in "122"]
  assert blind.fit(counts).majority(counts[0]) == "2"


def test_the_constant_for_a_factor_of_two_is_another_one():
  # 4.0 is right most often within 10 %; 2.4 within a factor of 2.
  values = [4.0] * 3 + [0.8, 1.0, 1.4, 2.0, 2.5]
  questions = [
    _question("far", "How far ?", f"{v} m", "number", unit="m", value=v)
    for v in values
  ]
  fitted = blind.fit(questions)
  assert fitted.majority(questions[0]) == "4.0 m"
  near = extract.number(fitted.middle(questions[0])).value
  assert sum(ratio.within(near, v) for v in values) == 6
  items = [prompts.Item(None, question) for question in questions]
  assert baselines.scores(items, fitted)["qa/factor2/constant"] == 6 / 8
  asked = benchmark.Benchmark("far", embedded, items, fitted)
  scores = benchmark.baseline_scores(asked)
  assert scores["qa/accuracy/constant"] == 3 / 8


def test_the_baselines_answer_a_question_in_centimetres_too():
  values = [4.0] * 3 + [0.8, 1.0, 1.4, 2.0, 2.5]
  questions = [
    _question("far", "How far ?", f"{100 * v:g} cm", "number", unit="cm")
    for v in values
  ]
  fitted = blind.fit(questions)
  assert fitted.majority(questions[0]) == "400 cm"
  assert fitted.middle(questions[0]).endswith(" m")
  items = [prompts.Item(None, question) for question in questions]
  assert list(lengths(items)) == list(range(8))
  assert baselines.scores(items, fitted)["qa/factor2/constant"] == 6 / 8
  asked = benchmark.Benchmark("far", embedded, items, fitted)
  scores = benchmark.baseline_scores(asked)
  assert scores["qa/accuracy/constant"] == 3 / 8


def test_answers_are_among_what_can_be_answered(fitted):
  for question in _questions(2, 20):
    answer = fitted.answer(question)
    if question.options:
      assert answer in question.options
    elif question.answer_type == "yes_no":
      assert answer in ("yes", "no")
    else:
      assert answer.endswith(" m")


def test_fitting_twice_gives_the_same(fitted):
  again = blind.fit(_questions(0))
  for name, family in fitted.families.items():
    np.testing.assert_array_equal(family.weights, again.families[name].weights)


def test_an_unknown_family_gets_an_answer_all_the_same(fitted):
  question = _question("new", "Which ?", "b", options=("a", "b"))
  assert fitted.answer(question) == "a"
  assert fitted.majority(question) == "a"
  assert fitted.constant(question) == ""
  number = _question("new", "How many ?", "3", "number")
  assert fitted.answer(number) == ""


def test_lengths_of_any_unit_have_constants_in_metres():
  """The value of a length is in metres, whatever its answer is written in."""
  centimetres = [
    _question("far", "How far ?", f"{n} cm", "number", unit="cm", value=n / 100)
    for n in (240, 240, 241, 400)
  ]
  model = blind.fit(centimetres)
  said = extract.number(model.constant(centimetres[0])).value
  assert said == pytest.approx(2.4, rel=0.1)
  items = [types.SimpleNamespace(question=q) for q in centimetres]
  assert list(lengths(items)) == [0, 1, 2, 3]
  grades = baselines.graded([model.constant(q) for q in centimetres], items)
  assert [grade.hit for grade in grades] == [True, True, True, False]


def test_bad_samples_ask_the_baselines_nothing(monkeypatch):
  monkeypatch.setattr(
    mixture, "open_split", lambda config, split: Scenes(8, bad={1})
  )
  config = base.get_base("smoke", ("tokenizer",))
  config.data.bad_samples = 0.2
  assert [*embedded.training(config)] == []  # no error: scenes ask nothing


def test_the_baselines_learn_from_each_source_of_a_mixture(monkeypatch):
  class Asks(Scenes):
    def __init__(self, count, said):
      super().__init__(count)
      self.said = said

    def questions(self, index):
      return (self.said,)

  monkeypatch.setattr(
    mixture,
    "open_split",
    lambda config, split: mixture.Mixture((Asks(8, "one"), Asks(3, "other"))),
  )
  config = base.get_base("smoke", ("tokenizer",))
  config.evaluate.blind_scenes = 5
  found = [*embedded.training(config)]
  # Of the second, behind the first eight samples, all.
  assert found.count("one") == 5 and found.count("other") == 3
