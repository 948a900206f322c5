"""Changed depth maps: a trace says what can be measured in the map."""

import dataclasses
import re

import numpy as np
import pytest

from cooper_jax import world
from cooper_jax.data import counterfactual
from cooper_jax.modalities import depth
from cooper_jax.sample import Question
from cooper_jax.tokenizers.lengths import LENGTH
from cooper_jax.world.questions.families import lengths, names

SAMPLES = world.generate(world.WorldConfig(), split="train", start=0, count=120)
NEAR = 10 ** (1.1 / 24)  # rounded twice, each by half a step of the series

# Whose readings are each of one object.
EACH = {"list", "where", "distance", "closer", "front_behind"}


def median(depth, instances, instance):
  found = np.sort(depth[instances == instance])
  return float(found[(len(found) - 1) // 2])


def near(text, value):
  said = float(text)
  return said / NEAR <= value <= said * NEAR


def told(sample, steps, families):
  """(question, its new trace, moved depth) of a scene's questions."""
  moved = depth.move(sample.maps["depth"], sample.instances, steps)
  for question in (*sample.questions, *sample.grounding):
    if question.family in families:
      new = counterfactual.rewrite_trace(question, steps)
      if new is not None:
        yield question, new, moved


def test_every_object_is_where_the_trace_says():
  families, seen, turned = EACH, set(), 0
  for i, sample in enumerate(SAMPLES):
    steps = np.random.default_rng(i).integers(-7, 8, 256).astype(np.int8)
    steps[0] = 0
    for old, new, moved in told(sample, steps, families):
      seen.add(new.family)
      said = re.findall(r"<at \S+ \S+> (\S+) m", new.reasoning)
      ids = old.evidence["ids"]
      true = [median(moved, sample.instances, n) for n in ids]
      assert len(said) == len(true) > 0
      assert all(near(a, b) for a, b in zip(said, true))
      if new.family == "distance":
        assert near(new.answer.removesuffix(" m"), true[0])
      if new.family in ("closer", "front_behind"):
        closer = true[0] < true[1]
        assert new.reasoning.endswith("; closer" if closer else "; farther")
        before = sample.maps["depth"], sample.instances
        was = median(*before, ids[0]) < median(*before, ids[1])
        assert (new.answer == old.answer) == (was == closer)
        assert new.answer in old.options
        turned += was != closer
  assert seen == families and turned > 10


def test_a_scene_at_another_scale_has_all_its_lengths_at_that_scale():
  steps = np.full(256, 5, np.int8)
  families, scaled = set(names()) - {"reach"}, set()
  for sample in SAMPLES:
    for old, new, _ in told(sample, steps, families):
      before, after = (
        [float(n) for n in LENGTH.findall(q.reasoning)] for q in (old, new)
      )
      np.testing.assert_allclose(
        after, np.array(before) * 10 ** (5 / 24), rtol=0.11
      )
      if old.unit == "m":
        scaled.add(old.family)
        ratio = float(new.answer[:-2]) / float(old.answer[:-2])
        assert ratio == pytest.approx(10 ** (5 / 24), rel=0.11)
      else:
        assert new.answer == old.answer
  assert scaled == set(lengths())
  reach = [q for s in SAMPLES for q in s.questions if q.family == "reach"]
  assert reach and all(
    counterfactual.rewrite_trace(q, steps) is None for q in reach
  )


@pytest.mark.parametrize(
  ("answer", "unit"), [("2.4 m", "m"), ("240 cm", "cm"), ("240 cm", "m")]
)
def test_a_length_in_any_unit_changes_with_its_map(answer, unit):
  question = Question(
    family="own",
    text="How far ?",
    answer=answer,
    answer_type="number",
    unit=unit,
    value=2.4,
    reasoning="red ball <at .4 .7> 2.4 m",
  )
  steps = np.full(256, 6, np.int8)
  assert (
    counterfactual.rewrite_trace(question, steps).answer == "4.3 m"
  )  # 2.4 * 10^(6/24)


def test_objects_moved_apart_leave_what_can_not_be_told_untold():
  steps = np.zeros(256, np.int8)
  steps[1] = 4
  silent = {"object_distance", "gap", "height", "taller", "nearer_to"}
  asked = [q for s in SAMPLES for q in s.questions if q.family in silent]
  assert len({q.family for q in asked}) == len(silent)
  assert all(counterfactual.rewrite_trace(q, steps) is None for q in asked)
  hidden = [q for s in SAMPLES for q in s.questions if q.family == "occlusion"]
  assert hidden and all(
    counterfactual.rewrite_trace(q, steps) is None for q in hidden
  )
  left = [q for s in SAMPLES for q in s.questions if q.family == "left_right"]
  assert left and all(counterfactual.rewrite_trace(q, steps) is q for q in left)


def test_two_that_come_to_stand_level_are_not_compared():
  found = 0
  for sample in SAMPLES:
    for question in sample.questions:
      if question.family != "closer":
        continue
      first, second = question.evidence["depth"]
      steps = np.zeros(256, np.int8)
      steps[0] = 1  # not the whole scene
      steps[question.evidence["ids"][1]] = round(24 * np.log10(first / second))
      found += 1
      assert counterfactual.rewrite_trace(question, steps) is None
  assert found > 20


def test_steps_are_of_two_kinds():
  rng = np.random.default_rng(0)
  drawn = [counterfactual.choose(rng) for _ in range(400)]
  whole = [s for s in drawn if (s == s[0]).all()]
  assert 0.3 < len(whole) / len(drawn) < 0.5
  assert all(s[0] for s in whole)
  apart = [s for s in drawn if not (s == s[0]).all()]
  assert all(
    s[0] == 0 and abs(s).max() == counterfactual.FARTHEST for s in apart
  )


class _Identity:
  """A codec whose codes are the depth itself, in millimetres."""

  modality = depth

  class config:
    cells = 64 * 64


def test_maps_are_made_once_from_what_the_policy_drew(tmp_path, monkeypatch):
  def encode(codec, maps):
    return np.round(np.asarray(maps).reshape(len(maps), -1) * 1000)

  def decode(codec, codes):
    return np.asarray(codes, np.float32).reshape(-1, 64, 64) / 1000

  monkeypatch.setattr(counterfactual.map_tokenizer, "encode_maps", encode)
  monkeypatch.setattr(counterfactual.map_tokenizer, "decode_maps", decode)
  own = np.full((2, 64 * 64), 3000)
  path = tmp_path / "counterfactual.npz"

  def make(seed):
    return counterfactual.make(
      [*SAMPLES[:5], None], _Identity, own=own, seed=seed, path=path
    )

  made = make(0)
  assert (made.codes[5] < 0).all()  # of a bad sample, which may be left out
  for i, sample in enumerate(SAMPLES[:5]):
    codes, steps = made.of(i)
    base = np.full((64, 64), 3.0) if i < 2 else sample.maps["depth"]
    want = depth.move(base, sample.instances, steps)
    np.testing.assert_allclose(codes, want.ravel() * 1000, atol=0.6)
  np.testing.assert_array_equal(make(0).codes, made.codes)
  assert (make(1).steps != made.steps).any()


def test_a_length_that_the_trace_does_not_tell_in_metres_is_not_retold():
  question = Question(
    family="own_number",
    text="How far is the ball ?",
    answer="240 cm",
    answer_type="number",
    unit="cm",
    reasoning="ball <at .5 .5> 240 cm",
  )
  assert counterfactual.rewrite_trace(question, np.full(4, 6)) is None
  count = dataclasses.replace(question, answer="3", unit="")
  assert counterfactual.rewrite_trace(count, np.full(4, 6)) == count
