"""Near misses: what differs in colour or shape alone stands beside the asked.

The default's questions are held by the digests of test_families.py.
"""

import collections
import re

import numpy as np
import pytest

from cooper_jax import world
from cooper_jax.world.config import COLOURS, SHAPES
from cooper_jax.world.questions import counting, wording
from cooper_jax.world.tools import shortcuts

THING = re.compile(r"(\w+) (\w+) <at")
SINGULAR = {plural: shape for shape, plural in wording.PLURALS.items()}
COUNT = 640  # scenes


def generate(near_misses, split="train", start=0, count=COUNT):
  config = world.WorldConfig(shaded=False, near_misses=near_misses, seed=3)
  return world.generate(config, split=split, start=start, count=count)


@pytest.fixture(scope="module")
def samples():
  return generate(True)


def listed(sample):
  (found,) = (q for q in sample.grounding if q.family == "list")
  return found


def things(sample):
  return THING.findall(listed(sample).reasoning)


def wanted(question):
  """(colour or None, shape or None) that a question asks for."""
  words = [SINGULAR.get(word, word) for word in question.text.split()]
  return tuple(
    next((word for word in words if word in names), None)
    for names in (COLOURS, SHAPES)
  )


def near_misses(question, there):
  """Things that differ in one attribute from what is asked for, or counted."""
  asked = wanted(question)
  if None not in asked:
    return [t for t in there if (t[0] == asked[0]) != (t[1] == asked[1])]
  at = 0 if asked[0] else 1
  counted = [t for t in there if t[at] == asked[at]]
  alike = {t[1 - at] for t in counted}
  return [t for t in there if t not in counted and t[1 - at] in alike]


def of(samples, family):
  return [(s, q) for s in samples for q in s.questions if q.family == family]


def test_what_is_not_there_differs_in_one_attribute_from_what_is(samples):
  absent = [(s, q) for s, q in of(samples, "exists") if q.answer == "no"]
  assert len(absent) > 100
  for sample, question in absent:
    colour, shape = wanted(question)
    beside = near_misses(question, things(sample))
    assert {colour} <= {c for c, _ in beside}
    assert {shape} <= {s for _, s in beside}


def test_a_near_miss_stands_beside_the_counted(samples):
  counts = of(samples, "count")
  assert len(counts) > 150
  for sample, question in counts:
    if question.answer != "0":
      assert near_misses(question, things(sample))
  usual = of(generate(False, count=160), "count")
  without = [q for s, q in usual if not near_misses(q, things(s))]
  assert sum(q.answer != "0" for q in without) > 20


def test_no_shortcut_is_opened_and_one_is_closed(samples):
  exists = of(samples, "exists")
  yes = np.mean([q.answer == "yes" for _, q in exists])
  assert abs(yes - 0.5) < 0.07
  assert abs(shortcuts.question_only(exists) - 0.5) < 0.08
  # Of some 300 questions a table of ten rows fits some 3 points of chance.
  assert shortcuts.attributes(exists) < 0.59
  usual = of(generate(False, count=320), "exists")
  assert shortcuts.attributes(usual) > 0.62
  counts = collections.Counter(q.answer for _, q in of(samples, "count"))
  assert {"0", "1", "2", "3"} <= counts.keys()
  assert max(counts.values()) / sum(counts.values()) < 0.36


def test_scenes_do_not_change_and_other_families_draw_what_they_drew():
  for one, other in zip(
    generate(True, count=32), generate(False, count=32), strict=True
  ):
    assert one.grounding == other.grounding
    np.testing.assert_array_equal(one.instances, other.instances)
    for question in one.questions:
      same = [q for q in other.questions if q.family == question.family]
      if question.family not in ("count", "exists") and same:
        assert same == [question]


def test_a_scene_does_not_depend_on_its_batch(samples):
  (alone,) = generate(True, start=37, count=1)
  assert alone.questions == samples[37].questions


def test_held_out_things_are_asked_about_as_before():
  pairs = zip(
    generate(True, "heldout", count=64),
    generate(False, "heldout", count=64),
    strict=True,
  )
  asked = 0
  for one, other in pairs:
    mine, its = (
      [q for q in each.questions if q.family == "exists"]
      for each in (one, other)
    )
    asked += len(mine)
    assert mine == its or not mine or not its
  assert asked > 20


def test_questions_made_of_a_list_have_near_misses_too(samples):
  rng = np.random.default_rng(0)
  made = [
    (sample, question)
    for sample in samples * 3
    for question in counting.questions(listed(sample), rng, 3, near_misses=True)
  ]
  counts = collections.Counter()
  for sample, question in made:
    if question.family == "count":
      counts[question.answer] += 1
      assert question.answer == "0" or near_misses(question, things(sample))
  assert counts["0"] / sum(counts.values()) < 0.46
  exists = [pair for pair in made if pair[1].family == "exists"]
  assert shortcuts.attributes(exists) < 0.57
  assert 0.44 < np.mean([q.answer == "yes" for _, q in exists]) < 0.56
  # One thing alone: nothing is missing that could be asked for.
  bare = next(s for s in samples if len(things(s)) == 1)
  for _ in range(20):
    for question in counting.questions(listed(bare), rng, 2, near_misses=True):
      assert question.family == "count" and question.answer == "0"


def test_such_a_world_has_a_name_of_its_own():
  usual = world.WorldConfig()
  assert world.WorldConfig(near_misses=True).fingerprint() != (
    usual.fingerprint()
  )
