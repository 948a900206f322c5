"""Blind baselines: what can be answered from the question alone.

Three of them, per family, fitted on the training split: a logistic regression
over hashed word n-grams, the one answer that is right most often, and the best
constant number. Scores of a model that looks are only worth what they are
above these.
"""

import collections
import dataclasses
import itertools
import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from cooper_jax.grading import grade, quantities
from cooper_jax.grading.metrics import mra, number, ratio

_NUMBERS = 48  # most frequent numeric answers that the classifier may give


@dataclasses.dataclass(frozen=True)
class Settings:
  """Size and training of the classifier."""

  buckets: int = 1 << 15
  steps: int = 60
  learning_rate: float = 0.05
  decay: float = 1e-3
  most: int = 4000  # training questions per family


@dataclasses.dataclass(frozen=True)
class Family:
  """What was fitted to one family of questions."""

  weights: np.ndarray  # [buckets]
  numbers: tuple[str, ...]  # candidate answers where there are no options
  majority_text: str  # the one answer that is right most often
  majority_place: int  # most frequent place of the true option
  places_decide: bool  # choices differ by question: answer by place
  constant: str  # best constant number for MRA, "" for choices
  middle: str  # the number that most truths are within a factor of 2 of, or ""
  chance: float


class Blind:
  """Baselines that never see an image. Make with `fit`."""

  def __init__(self, families: dict[str, Family], settings: Settings):
    self.families = families
    self.settings = settings

  def answer(self, question) -> str:
    """The classifier's answer; unknown families get the first option."""
    family = self.families.get(question.family)
    options = _candidates(question, family.numbers if family else ())
    if family is None:
      return options[0] if options else ""
    if not options:
      return family.majority_text
    features = _features(question, options, self.settings.buckets)
    scores = [family.weights[ids].sum() for ids in features]
    return options[int(np.argmax(scores))]

  def majority(self, question) -> str:
    """The answer that is right most often, or the place among options."""
    family = self.families.get(question.family)
    options = _options(question)
    if family is None:
      return options[0] if options else ""
    if family.places_decide and options:
      return options[min(family.majority_place, len(options) - 1)]
    return family.majority_text

  def constant(self, question) -> str:
    """The best constant number with its unit, "" for other questions."""
    family = self.families.get(question.family)
    return family.constant if family else ""

  def middle(self, question) -> str:
    """The constant that is most often right within a factor of 2, or ""."""
    family = self.families.get(question.family)
    return family.middle if family else ""


def fit(questions: Iterable, settings: Settings = Settings()) -> Blind:
  """Fits the baselines of every family to training questions.

  Of each family the first `settings.most` are held, and no others.
  """
  grouped = collections.defaultdict(list)
  for question in questions:
    members = grouped[question.family]
    if len(members) < settings.most:
      members.append(question)
  families = {
    name: _fit_family(members, settings)
    for name, members in sorted(grouped.items())
  }
  return Blind(families, settings)


def best_constants(questions: Sequence) -> dict[str, dict[str, float]]:
  """{family: {"mra", "factor2"}} of the best constant for those questions.

  Fitted on the very questions it is scored on: an upper bound.
  """
  grouped = collections.defaultdict(list)
  for question in questions:
    if question.answer_type == "number":
      grouped[question.family].append(_value(question))
  return {
    name: {
      "mra": mra.best_constant(values)[1],
      "factor2": ratio.best_constant(values)[1],
    }
    for name, values in sorted(grouped.items())
  }


def _fit_family(questions, settings: Settings) -> Family:
  answers = collections.Counter(q.answer for q in questions)
  numeric = questions[0].answer_type == "number"
  numbers = ()
  constant = middle = ""
  if numeric:
    numbers = tuple(answer for answer, _ in answers.most_common(_NUMBERS))
    values, unit = [_value(q) for q in questions], questions[0].unit
    unit = "m" if quantities.is_length(unit) else unit  # of the values
    constant = f"{mra.best_constant(values)[0]:.3g} {unit}".strip()
    middle = f"{ratio.best_constant(values)[0]:.3g} {unit}".strip()
  places = collections.Counter(
    _options(q).index(q.answer) for q in questions if q.answer in _options(q)
  )
  sets = {_options(q) for q in questions}
  counts = [len(_candidates(q, numbers)) for q in questions]
  return Family(
    weights=_train(questions, numbers, settings),
    numbers=numbers,
    majority_text=_likeliest(questions, answers),
    majority_place=places.most_common(1)[0][0] if places else 0,
    places_decide=len(sets) > 1,
    constant=constant,
    middle=middle,
    chance=float(np.mean([1 / max(1, count) for count in counts])),
  )


def _likeliest(questions, answers: collections.Counter) -> str:
  """The one answer that is right most often, as the evaluation grades."""
  if questions[0].answer_type != "number":
    return answers.most_common(1)[0][0]
  tolerance = grade.Rules().tolerance
  # Read once each, not once a pair: reading text is what takes long.
  asked = [(q.unit, _value(q)) for q in questions]
  units = {unit for unit, _ in asked}

  def hits(answer: str) -> int:
    said = {unit: grade.truth(answer, unit) for unit in units}
    return sum(
      number.correct(said[unit], value, unit=unit, tolerance=tolerance)
      for unit, value in asked
    )

  return max([answer for answer, _ in answers.most_common(_NUMBERS)], key=hits)


def _train(questions, numbers, settings: Settings) -> np.ndarray:
  """Softmax over each question's candidates, full-batch Adam, L2 decay."""
  ids, owners, truths, heads = [], [], [], []
  for question in questions:
    options = _candidates(question, numbers)
    if question.answer not in options or len(options) < 2:
      continue
    head = heads[-1] + 1 if heads else 0
    for option, features in zip(
      options, _features(question, options, settings.buckets)
    ):
      owners.append(np.full(len(features), len(truths), np.int64))
      truths.append(option == question.answer)
      heads.append(head)
      ids.append(features)
  weights = np.zeros(settings.buckets)
  if not ids:
    return weights
  ids, owners = np.concatenate(ids), np.concatenate(owners)
  truths, heads = np.array(truths, np.float64), np.array(heads)
  first, second = np.zeros_like(weights), np.zeros_like(weights)
  for step in range(1, settings.steps + 1):
    scores = np.bincount(owners, weights[ids], len(truths))
    scores = np.exp(np.clip(scores, -30, 30))
    share = scores / np.bincount(heads, scores)[heads]
    error = (share - truths) / (heads[-1] + 1)
    gradient = np.bincount(ids, error[owners], settings.buckets)
    gradient += settings.decay * weights
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    rate = settings.learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    weights -= rate * first / (np.sqrt(second) + 1e-8)
  return weights


def _features(question, options, buckets: int) -> list[np.ndarray]:
  """Hashed features of each candidate: the question's n-grams crossed with
  the candidate's text and with its place, and the text's own words."""
  words = re.findall(r"[a-z]+|\d+(?:\.\d+)?|<", question.text.lower())
  grams = ["", *words, *map(" ".join, itertools.pairwise(words))]
  features = []
  for place, option in enumerate(options):
    names = [f"{gram}|{option}" for gram in grams]
    if question.answer_type == "choice":
      names += [f"{gram}#{place}" for gram in grams]
      names += [f"~{word}" for word in option.lower().split()]
    features.append(
      np.array([zlib.crc32(n.encode()) % buckets for n in names], np.int64)
    )
  return features


def _options(question) -> tuple[str, ...]:
  if question.answer_type == "yes_no":
    return ("yes", "no")
  return tuple(question.options)


def _candidates(question, numbers) -> tuple[str, ...]:
  return _options(question) or tuple(numbers)


def _value(question) -> float:
  return grade.truth(question.answer, question.unit, question.value)
