"""A question family is one file, and none changes what another one draws."""

import hashlib
import re

import numpy as np
import pytest

from configs import base
from cooper_jax import world
from cooper_jax.data import counterfactual, word_kinds
from cooper_jax.errors import UserError
from cooper_jax.eval import benchmark, questions
from cooper_jax.rollouts.prompts import Item
from cooper_jax.settings import checks
from cooper_jax.world.questions import draws, families
from cooper_jax.world.tools import shortcuts

WORLD = world.WorldConfig(shaded=False)
# Of the first 200 scenes of each split, as the sixteen families have them.
DIGESTS = {
  "train": "ea546aa2dc668f09",
  "validation": "06aae81b2254ae93",
  "test": "f079170a04d3d889",
  "heldout": "f7f5a62886ff2221",
}
FARTHER = '''"""Question family "remoter": which of two is farther away."""

from cooper_jax.world.questions.candidates import NEAR_RATIO, choice, uneven
from cooper_jax.world.questions.written import (
  Written,
  evidence_of,
  named,
  stands,
)

TEMPLATES = (
  "Which is farther from the camera , the {a} or the {b} ?",
  "Is the {a} or the {b} more remote ?",
  "Of the {a} and the {b} , which is farther ?",
  "Which has more distance to the viewer , the {a} or the {b} ?",
)
ANSWER_TYPE = "choice"
NEEDS = ("depth",)
RELATION = ("near", "remote")
MEASURES = "distance"
MOVES = "each"


def candidates(scenes, draws):
  ratio = scenes.depth_ratio
  valid = scenes.pair & uneven(ratio, NEAR_RATIO)
  return choice({}, scenes, valid & (draws.take(6, 6) < 0.9), ratio < 1)


def write(words, b, picked, side):
  i, j = picked["items"]
  names = named(words, b, (i, j))
  return Written(
    names=names,
    answer=names["b" if picked["first"] else "a"],
    reasoning=f"{words.measured(b, i)} ; {words.measured(b, j)}"
    + stands(RELATION, picked["first"]),
    options=(names["a"], names["b"]),
    evidence=evidence_of((i, j), depth=words.depths(b, (i, j))),
  )
'''


@pytest.fixture(name="remoter")
def fixture_remoter(tmp_path, monkeypatch):
  (tmp_path / "remoter.py").write_text(FARTHER)
  path = [*families.__path__, str(tmp_path)]
  monkeypatch.setattr(families, "__path__", path)
  return "remoter"


def generate(split="train", count=96, **changes):
  config = world.WorldConfig(shaded=False, **changes)
  return world.generate(config, split=split, start=0, count=count)


@pytest.mark.parametrize("split", DIGESTS)
def test_the_sixteen_families_ask_what_they_always_asked(split):
  digest = hashlib.sha256()
  for sample in generate(split, 200):
    for q in (*sample.questions, *sample.grounding):
      said = (q.family, q.text, q.answer, q.answer_type, q.unit, q.flag)
      said += (q.reasoning, str(q.template), *q.options, *q.needs)
      digest.update("|".join(said).encode())
  assert digest.hexdigest()[:16] == DIGESTS[split]


def test_no_two_families_have_the_same_allotment():
  allotted = [families.find(name).ALLOTTED for name in families.names()]
  assert len({first for first, _ in allotted}) == 16
  assert [place for _, place in allotted] == list(range(16))


def test_a_family_that_draws_what_is_another_ones_is_stopped():
  layout = type("L", (), {"draws": np.zeros((2, 1400))})
  own = draws.of("last", (910, 0), layout, WORLD, "train")
  with pytest.raises(AssertionError, match="allotted to another"):
    own.take(7)


def test_a_new_family_is_asked_answered_and_traced(remoter):
  asked = []
  for sample in generate():
    for question in sample.questions:
      if question.family != remoter:
        continue
      asked.append(question)
      depths = [
        float(np.median(sample.maps["depth"][sample.instances == i]))
        for i in question.evidence["ids"]
      ]
      assert question.answer == question.options[int(np.argmax(depths))]
      said = [float(z) for z in re.findall(r"([\d.]+) m", question.reasoning)]
      np.testing.assert_allclose(said, depths, rtol=0.08)  # E24
      word = ("near", "remote")[int(np.argmin(depths))]
      assert question.reasoning.endswith(f" ; {word}")
      assert question.needs == ("depth",)
  assert len(asked) > 30
  assert len({question.template for question in asked}) == 3
  heldout = [
    q for s in generate("heldout") for q in s.questions if q.family == remoter
  ]
  assert {q.template for q in heldout} == {0, 1, 2, 3}


def test_a_new_family_changes_no_question_of_another(remoter, monkeypatch):
  with_it = generate(max_questions=17)
  with monkeypatch.context() as without:
    without.setattr(families, "__path__", families.__path__[:1])
    before = generate(max_questions=17)
  for one, other in zip(before, with_it, strict=True):
    there = {q.family: q for q in other.questions}
    for question in one.questions:
      # Which of the spare ones are asked may change; how they are, may not.
      assert there.get(question.family, question) == question
    np.testing.assert_array_equal(one.maps["depth"], other.maps["depth"])


def test_a_family_draws_the_same_in_any_batch(remoter):
  whole = generate()[40]
  alone = world.generate(WORLD, split="train", start=40, count=1)[0]
  assert whole.questions == alone.questions
  streams = [
    draws.stream(0, "train", 3, remoter).random(),
    draws.stream(1, "train", 3, remoter).random(),
    draws.stream(0, "test", 3, remoter).random(),
    draws.stream(0, "train", 4, remoter).random(),
    draws.stream(0, "train", 3, "other").random(),
  ]
  assert len(set(streams)) == 5


def test_a_world_with_another_family_is_another_world(remoter, monkeypatch):
  with_it = WORLD.fingerprint()
  with monkeypatch.context() as without:
    without.setattr(families, "__path__", families.__path__[:1])
    assert WORLD.fingerprint() != with_it


def test_a_new_family_is_in_the_shortcut_check(remoter):
  assert remoter in shortcuts.choices()
  assert remoter in shortcuts.comparisons()
  measured = shortcuts.measure(generate(count=160))
  assert measured[f"n/{remoter}"] > 50
  for kind in ("blind", "majority", "boxes", "depth"):
    assert 0.3 < measured[f"{kind}/{remoter}"] <= 1


def test_a_new_family_is_evaluated_by_its_name(remoter):
  items = [Item(s, q) for s in generate() for q in s.questions]
  texts = [f"<answer> {item.question.answer} </answer>" for item in items]
  grades = [questions.grade_of(t, i) for t, i in zip(texts, items)]
  assert benchmark.by_family(items, grades)[f"accuracy/{remoter}"].all()
  assert remoter in questions.choices(items)
  assert remoter in families.measuring("distance")
  config = base.get_base("smoke", ("grpo",))
  with config.unlocked():
    config.grpo.families = (remoter,)
  checks.validate(config)


def test_a_changed_depth_map_turns_its_answer(remoter):
  turned = 0
  for sample in generate():
    for question in sample.questions:
      if question.family != remoter:
        continue
      first, _ = question.evidence["ids"]
      steps = np.zeros(256, np.int8)
      near = question.reasoning.endswith("near")
      steps[first] = 24 if near else -24  # ten times as far, or as near
      new = counterfactual.rewrite_trace(question, steps)
      if new is None:  # they came to lie level
        continue
      depth = list(question.evidence["depth"])
      depth[0] *= 10 ** (int(steps[first]) / 24)
      assert new.answer == question.options[int(np.argmax(depth))]
      turned += new.answer != question.answer
  assert turned > 20


def test_the_words_of_a_relation_are_readings(remoter):
  assert word_kinds.kind_of("remote") == "reading"
  assert word_kinds.kind_of("closer") == "reading"
  assert word_kinds.kind_of("which") == "text"


@pytest.mark.parametrize(
  ("cut", "said"),
  [
    ("NEEDS = ", 'question family "remoter" lacks NEEDS'),
    ('  "Is the {a}', 'question family "remoter" has 3 TEMPLATES; give 4'),
  ],
)
def test_a_file_that_lacks_something_is_named(tmp_path, monkeypatch, cut, said):
  lines = [x for x in FARTHER.splitlines() if not x.startswith(cut)]
  (tmp_path / "remoter.py").write_text("\n".join(lines))
  path = [*families.__path__, str(tmp_path)]
  monkeypatch.setattr(families, "__path__", path)
  monkeypatch.delitem(
    __import__("sys").modules, f"{families.__name__}.remoter", raising=False
  )
  with pytest.raises(UserError, match=said):
    families.names()
