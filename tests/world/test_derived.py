"""Traces that derive: their steps lead to the answer, and are read as others.

The default's questions are held by the digests of test_families.py.
"""

import dataclasses
import re

import numpy as np
import pytest

from configs import base
from cooper_jax.data import counterfactual, traces
from cooper_jax.data.sources import DataConfig, world
from cooper_jax.data.word_kinds import kind_of
from cooper_jax.errors import UserError
from cooper_jax.eval import trace
from cooper_jax.policy import make_policy
from cooper_jax.sequences import lens
from cooper_jax.settings import selection
from cooper_jax.tokenizers.lengths import LENGTH
from cooper_jax.world import WorldConfig, scenes
from cooper_jax.world.questions import families
from cooper_jax.world.questions.families import height
from tests import tiny  # noqa: F401  sets the mesh

DERIVE = ("height", "occlusion", "viewpoint", "width")
POINTED = re.compile(r"<at (\S+) (\S+)> (\S+) m")
SIZES = ("height", "width")


def generate(derive, split="train", count=320):
  config = WorldConfig(shaded=False, derive=derive, seed=7)
  return scenes.generate(config, split=split, start=0, count=count)


@pytest.fixture(scope="module")
def pairs():
  """(sample, derived question, the question as it is by default)."""
  usual, derived = generate(()), generate(DERIVE)
  return [
    (sample, question, other)
    for sample, without in zip(derived, usual, strict=True)
    for question, other in zip(sample.questions, without.questions, strict=True)
  ]


def of(pairs, *names):
  found = [each for each in pairs if each[1].family in names]
  assert len(found) > 100
  return found


def test_only_traces_change_and_only_those_of_the_named(pairs):
  for _, question, usual in pairs:
    if question.family not in DERIVE:
      assert question == usual
      continue
    assert len(question.reasoning) > len(usual.reasoning)
    same = dataclasses.replace(
      question, reasoning=usual.reasoning, needs=usual.needs
    )
    assert same == usual
    assert question.needs == families.needs(question.family, DERIVE)
  (one,) = {q.family for q, _ in changed(("width",))}
  assert one == "width"


def changed(derive):
  for sample, without in zip(
    generate(derive, count=40), generate((), count=40), strict=True
  ):
    for question, usual in zip(
      sample.questions, without.questions, strict=True
    ):
      if question != usual:
        yield question, usual


def turn_of(words) -> str | None:
  """The turn, where four words settle it: b and c on either side of a's ray."""
  (bx, bz), (cx, cz) = (
    (1 if side == "right" else -1, 1 if order == "farther" else -1)
    for side, order in (words[:2], words[2:])
  )
  if bz * cx == bx * cz:
    return None
  return "right" if bz * cx > bx * cz else "left"


def test_four_words_make_the_turn_or_leave_it_open(pairs):
  found = [
    (turn_of(question.reasoning.split(" ; ")[-4:]), question.answer)
    for _, question, _ in of(pairs, "viewpoint")
  ]
  settled = [turn == answer for turn, answer in found if turn]
  assert 0.4 < len(settled) / len(found) < 0.7
  # Depths are those of what is visible, and the turn is that of the middles.
  assert np.mean(settled) > 0.97


def test_the_words_of_a_turn_are_read_off_places_and_depths(pairs):
  """Each word is that of two numbers, which the trace has as well."""
  right = []
  for sample, question, _ in of(pairs, "viewpoint"):
    words = question.reasoning.split(" ; ")[-4:]
    read = [tuple(map(float, r)) for r in POINTED.findall(question.reasoning)]
    focal = sample.camera[0, 0] / 64
    aside = [(x - 0.5) / focal * z for _, x, z in read]
    for number in (1, 2):
      side, order = words[2 * number - 2 : 2 * number]
      right.append((side == "left") == (aside[number] < aside[0]))
      if read[number][2] != read[0][2]:  # as they are written
        right.append((order == "closer") == (read[number][2] < read[0][2]))
  # Places are those of a visible pixel, which need not be the middle.
  assert np.mean(right) > 0.97


def test_sizes_are_asked_of_every_object(pairs):
  usual, derived = generate((), count=40), generate(("height",), count=40)
  every = asked_of = 0
  for without, sample in zip(usual, derived, strict=True):
    spare = [q for q in sample.grounding if q.family == "height"]
    rest = [q for q in sample.grounding if q.family != "height"]
    assert tuple(rest) == without.grounding
    named = [q for q in rest if q.family == "where"]
    assert 0 < len(spare) <= len(named)
    every += len(named)
    asked_of += len(spare)
    asked = {q.evidence["ids"][0]: q for q in sample.questions
             if q.family == "height"}  # fmt: skip
    for question in spare:
      assert height.RANGE[0] <= question.value <= height.RANGE[1]
      same = asked.get(question.evidence["ids"][0])
      if same:
        assert question.reasoning == same.reasoning
        assert question.answer == same.answer
  # A few are outside of the lengths that are asked for.
  assert 0.9 * every < asked_of < every


@pytest.mark.parametrize("told", [True, False])
def test_extent_depth_and_lens_make_the_size(pairs, told):
  errors = []
  for sample, question, _ in of(pairs, *SIZES):
    (depth,) = LENGTH.findall(question.reasoning)
    extent = float(question.reasoning.split(" ; ")[-1])
    focal = sample.camera[0, 0] / 64
    if told:
      focal = float(lens.LENS.fullmatch(lens.told(sample.camera, 64))[1])
    errors.append(abs(extent * float(depth) / focal / question.value - 1))
  # Each written number is up to 7 % off, and 2.8 % in root mean square.
  assert np.mean(np.array(errors) <= 0.1) > (0.93 if told else 0.97)
  assert max(errors) < 1.072 ** (3 if told else 2) - 1


def test_what_is_closer_is_not_hidden(pairs):
  orders = []
  for _, question, _ in of(pairs, "occlusion"):
    first, second = map(float, LENGTH.findall(question.reasoning))
    order = question.reasoning.split(" ; ")[-1]
    assert first <= second if order == "closer" else first >= second
    orders.append((order, question.answer))
  assert ("closer", "yes") not in orders
  assert ("closer", "no") in orders and ("farther", "no") in orders


def test_derived_traces_are_read_like_others(pairs):
  known = trace.world_words() | families.read_words()
  text = make_policy(base.get_base("long", ("pretrain",))).text
  for _, question, _ in of(pairs, *DERIVE)[::7]:
    drawn = families.needs(question.family, DERIVE)
    said = traces.compose(question, drawn)
    read = trace.read(said)
    assert read.fault is None and read.answer == question.answer
    assert not trace.unknown(trace.plain(question.reasoning), known)
    for word in question.reasoning.split(" ; ")[-1].split():
      assert len(text.encode(" " + word)) == 1
      assert kind_of(word) == "reading"
    # Before depth is measured no metres are told, what is seen is.
    bare = traces.without_lengths(question.reasoning)
    assert not LENGTH.search(bare)
    assert bare.split(" ; ")[-1] == question.reasoning.split(" ; ")[-1]


def test_a_map_moved_as_a_whole_keeps_what_is_derived(pairs):
  steps = np.full(counterfactual.INSTANCES, 5, np.int8)
  for sample, question, _ in of(pairs, *DERIVE)[::5]:
    moved = counterfactual.rewrite_trace(question, steps)
    assert (
      moved.reasoning.split(" ; ")[-1] == question.reasoning.split(" ; ")[-1]
    )
    if question.family not in SIZES:
      assert moved.answer == question.answer
      continue
    (depth,) = LENGTH.findall(moved.reasoning)
    size = float(moved.reasoning.split(" ; ")[-1]) * float(depth)
    size /= sample.camera[0, 0] / 64
    assert abs(np.log(size / float(moved.answer.split()[0]))) < 0.3
  mixed = steps.copy()
  mixed[1] = -5
  assert counterfactual.rewrite_trace(question, mixed) is None


def test_the_longest_question_is_as_long_with_its_steps(pairs):
  text = make_policy(base.get_base("long", ("pretrain",))).text
  config = DataConfig(world=WorldConfig(derive=("viewpoint",)))
  (longest,) = [
    q for q, *_ in world.asked(config, "train") if q.family == "viewpoint"
  ]
  number = lambda q: len(text.encode(trace.PLACE.sub("@", q.reasoning)))  # noqa: E731
  each = [number(q) for _, q, _ in of(pairs, "viewpoint")]
  assert max(each) == number(longest)


def test_what_can_not_be_derived_is_named():
  with pytest.raises(
    UserError, match=r'derive names "viewpont"; .*"viewpoint"'
  ):
    WorldConfig(derive=("viewpont",))
  with pytest.raises(UserError, match="can derive: height, occlusion, viewp"):
    WorldConfig(derive=("closer",))


def test_the_world_is_named_as_before_unless_traces_derive():
  usual = WorldConfig().fingerprint()
  assert usual == "scenes-4-21be4a4f83ec"
  names = {WorldConfig(derive=d).fingerprint() for d in (DERIVE, ("width",))}
  assert len({usual, *names}) == 3
  turned = WorldConfig(derive=DERIVE[::-1])
  assert turned.fingerprint() in names


def test_a_world_of_other_derived_traces_has_another_name(monkeypatch):
  names = WorldConfig().fingerprint(), WorldConfig(derive=DERIVE).fingerprint()
  monkeypatch.setattr("cooper_jax.world.config.DERIVED_VERSION", 0)
  assert WorldConfig().fingerprint() == names[0]
  assert WorldConfig(derive=DERIVE).fingerprint() != names[1]


def test_derived_occlusion_tells_lengths():
  config = base.get_base("smoke", ("tokenizer", "pretrain"))
  config = config.copy_and_resolve_references()
  config.pretrain.update(without_lengths=True, families=("occlusion",))
  selection.check(config)
  config.world.derive = ("occlusion",)
  with pytest.raises(UserError, match='names "occlusion", whose traces tell'):
    selection.check(config)
