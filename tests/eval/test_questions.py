"""Questions are drawn of a split without reading all of its pictures."""

import json
import types

import numpy as np
import pytest

from cooper_jax.data.selection import Asking, Selection
from cooper_jax.eval import blind, questions, results
from cooper_jax.experiments import kept_answers
from cooper_jax.rollouts.prompts import Item
from cooper_jax.sample import Question, Sample


class Split:
  """Samples with none to three questions; says which ones were read."""

  def __init__(self, count, bad=()):
    self.count, self.bad, self.read = count, bad, []

  def __len__(self):
    return self.count

  def questions(self, index):
    return tuple(
      Question("xy"[k % 2], f"{index} {k}", "yes", "yes_no")
      for k in range(index * 7 % 4)
    )

  def __getitem__(self, index):
    self.read.append(index)
    if index in self.bad:
      return None
    image = np.zeros((2, 2, 3), np.uint8)
    return Sample(str(index), "s", image, questions=self.questions(index))


def as_before(source, count, seed):
  """All of the split in memory: what `items_of` must draw."""
  samples = [source[i] for i in range(len(source))]
  every = [Item(s, q) for s in samples for q in s.questions]
  rng = np.random.Generator(np.random.Philox(key=seed))
  return [every[i] for i in sorted(rng.permutation(len(every))[:count])]


def said(items):
  return [(item.sample.id, item.question.text) for item in items]


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_questions_are_drawn_and_few_pictures_read(count, seed):
  source = Split(40)
  found = questions.items_of(source, count, seed=seed)
  assert said(found) == said(as_before(Split(40), count, seed))
  assert sorted(set(source.read)) == source.read  # each once
  assert len(source.read) <= count
  keep = Selection(families=("y",))
  chosen = questions.items_of(Asking(Split(40), keep.asked), count, seed=seed)
  slow = [keep(Split(40)[i]) for i in range(40)]
  assert said(chosen) == said(as_before(slow, count, seed))


def test_of_a_sample_that_is_left_out_nothing_is_asked():
  found = questions.items_of(Split(40, bad={5}), 1000, seed=0)
  every = as_before(Split(40), 1000, 0)
  assert said(found) == [each for each in said(every) if each[0] != "5"]


def test_the_blind_baseline_holds_no_more_than_it_learns_from():
  settings = blind.Settings(most=50, steps=2)
  every = [q for i in range(400) for q in Split(400).questions(i)]
  held = blind.fit(iter(every), settings)
  first = [q for f in "xy" for q in [e for e in every if e.family == f][:50]]
  assert held.families.keys() == {"x", "y"}
  for name, family in blind.fit(first, settings).families.items():
    np.testing.assert_array_equal(held.families[name].weights, family.weights)


def test_an_answer_is_written_with_what_experiments_keep():
  question = Question("gap", "How ?", "1.3 m", "number", value=1.345)
  view = types.SimpleNamespace(text=["<answer> 1 m </answer>"], maps=[[]])
  graded = [types.SimpleNamespace(hit=False)]
  found = {"text": types.SimpleNamespace(view=view, grades=graded)}
  item = Item(Sample("s", "x", None), question)
  line = json.loads(results.lines([item], found))
  assert {*kept_answers.KEPT_FIELDS} <= line.keys()
  assert line["value"] == 1.345  # not as it is written
