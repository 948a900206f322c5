"""Rollouts beside those that are learned from: flags, and exchanged maps."""

import dataclasses
import types

import numpy as np
import pytest

from configs import base
from cooper_jax.data import flags
from cooper_jax.errors import UserError
from cooper_jax.rl import build, exchanged_maps, measured_flags
from cooper_jax.rl.questions import Questions
from cooper_jax.rl.rewards import map_effect
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.rollouts import generate, prompts
from cooper_jax.rollouts.response import Responses
from cooper_jax.sampling import grammar
from cooper_jax.sequences import segments
from cooper_jax.settings import checks
from tests.rl import toy

FLAGS = ["boundary", "negative", "positive", "negative"]


def two_images():
  """Questions about two images, by turns."""
  rng = np.random.default_rng(4)
  image = rng.integers(0, 256, (16, 16, 3), np.uint8)
  other = dataclasses.replace(toy.ITEMS[0].sample, id="two", image=image)
  items = [
    prompts.Item(other if i % 2 else item.sample, item.question)
    for i, item in enumerate(toy.ITEMS)
  ]
  return Questions(3, items)


def test_a_flag_says_whether_drawing_is_right_more_often():
  questions = two_images()
  items = [
    prompts.Item(i.sample, dataclasses.replace(i.question, flag=f))
    for i, f in zip(questions.items, FLAGS, strict=True)
  ]
  hits = [
    np.array([[1, 1, 0, 1], [0, 0, 0, 0], [np.nan] * 4, [1, 0, 0, 0]]),
    np.array([[0, 0, 0, 0], [1, 1, 1, 1], [np.nan] * 4, [0, 0, 0, 0]]),
  ]
  held = []

  def roll(params, asked, modes, turn):
    assert params == "params" and asked.number == 3
    held.append(modes)
    return hits[turn]

  def sample(state, asked):
    return RolloutBatch(asked, [], np.zeros(4), None, metrics={"kept": 1.0})

  wrapped = measured_flags.measured(
    sample, roll=roll, policy=toy.POLICY, margin=0.25
  )
  state = types.SimpleNamespace(params="params")
  batch = wrapped(state, dataclasses.replace(questions, items=items))
  found = [item.question.flag for item in batch.items]
  # What is not known stays as it is; a quarter more is at the boundary.
  assert found == ["positive", "negative", "positive", "boundary"]
  assert batch.metrics["kept"] == 1.0
  assert batch.metrics["flags/positive"] == 0.5
  assert batch.metrics["flags/right/text"] == pytest.approx(1 / 3)
  drawing, text = held
  opening = toy.POLICY.form.vocabulary.opening(toy.MODALITY_ID)
  assert all(mode.script[-1][-1] == opening for mode in drawing)
  assert all(mode.script and opening not in mode.script[0] for mode in text)


@pytest.mark.parametrize(("k", "margin"), [(5, 0.2), (10, 0.1), (4, 0.25)])
def test_a_gain_of_just_the_margin_is_at_the_boundary(k, margin):
  hits = np.tri(k + 1, k, -1, np.float32)  # of row n, n are right
  share = hits.mean(axis=1)
  for drawn in range(k + 1):
    for said in range(k + 1):
      flag = "positive" if drawn > said else "negative"
      if abs(drawn - said) <= round(k * margin):
        flag = "boundary"
      found = flags.of_gain(share[drawn] - share[said], margin)
      assert found == flag, (drawn, said)


def test_maps_are_those_of_another_image_and_of_the_same_modalities():
  questions = two_images()
  (modality,) = {m for _, m in toy.POLICY.markup.modalities if m == 0}
  modality_RM = np.full((8, 1), -1)
  modality_RM[[0, 1, 2, 4]] = modality  # images one, one, two, one
  codes_RMQ = np.arange(8)[:, None, None] + np.zeros((8, 1, 4), int)
  rollout = types.SimpleNamespace(map_modality=modality_RM, codes=codes_RMQ)
  batch = RolloutBatch(questions, [None] * 4, np.arange(8), rollout)
  # Of four, three are about one image: no exchange gives each another's.
  assert exchanged_maps.trunks_of(batch, toy.POLICY) == [None] * 8
  modality_RM[4], modality_RM[6] = -1, modality  # image two
  found = exchanged_maps.trunks_of(batch, toy.POLICY)
  assert [i for i, trunk in enumerate(found) if trunk] == [0, 1, 2, 6]
  images = "one", "two"
  for row in (0, 1, 2, 6):
    image, text, drawn = found[row]
    item = batch.items[row // 2]
    np.testing.assert_array_equal(image.image, item.sample.image)
    assert isinstance(drawn, segments.Map) and drawn.modality_id == modality
    source = drawn.codes[0]
    assert images[source // 2 % 2] != item.sample.id
    end = toy.POLICY.form.vocabulary.special("</think>")
    assert text.ids[-1] == end


def test_the_effect_of_maps_by_hand():
  right, wrong = "<answer> yes </answer>", "<answer> no </answer>"
  view = Responses.from_texts([right, right, wrong, wrong, right])
  columns = {
    "answer": ["yes"] * 5,
    "answer_type": ["yes_no"] * 5,
    "options": [("yes", "no")] * 5,
    "unit": [""] * 5,
    "value": [None] * 5,
    "exchanged": [right, wrong, right, wrong, None],
  }
  found = map_effect.reward(view, columns, map_effect.Config())
  np.testing.assert_array_equal(found, [0, 1, -1, 0, np.nan])
  del columns["exchanged"]
  found = map_effect.reward(view, columns, map_effect.Config())
  assert np.isnan(found).all()
  with pytest.raises(UserError, match="tolerance"):
    map_effect.Config(tolerance=-1.0)


@pytest.mark.ci
def test_a_step_samples_the_same_rollouts_with_and_without_them(monkeypatch):
  begin, form = generate.begin, toy.POLICY.form
  opening = (form.vocabulary.opening(toy.MODALITY_ID),)

  def begin_with_maps(policy, params, trunks, modes, **options):
    """A policy that was never trained hardly opens a map."""
    modes = [
      grammar.Mode(mode.allowed_maps, (opening,)) if mode.allowed_maps else mode
      for mode in modes
    ]
    return begin(policy, params, trunks, modes, **options)

  monkeypatch.setattr(generate, "begin", begin_with_maps)
  plain = toy.CONFIG.copy_and_resolve_references()
  more = toy.CONFIG.copy_and_resolve_references()
  more.grpo.update(flag_rollouts=8)  # a group: one program for all
  with more.unlocked():
    more.grpo.rl.rewards.map_effect = 0.5
  batches = [
    toy.make_step(config).keywords["sample"](toy.fresh(), two_images())
    for config in (plain, more)
  ]
  one, other = (batch.rollout for batch in batches)
  np.testing.assert_array_equal(one.tokens, other.tokens)
  np.testing.assert_array_equal(one.log_prob, other.log_prob)
  assert not batches[0].columns and not batches[0].metrics
  texts = batches[1].columns[exchanged_maps.EXCHANGED]
  drew = np.asarray(other.map_modality)[:, 0] >= 0
  assert len(texts) == len(drew) == 32 and drew.all()
  assert all(text is not None for text in texts)
  assert batches[1].metrics["maps/exchanged"] == 1
  assert 0 <= batches[1].metrics["flags/right/drawn"] <= 1


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"flag_rollouts": 4, "rl.pipeline": True}, "samples a step ahead"),
    ({"flag_rollouts": 4, "rl.rewards.exploration": None}, "nothing reads"),
    ({"flag_rollouts": 4, "sampling.maps": 0}, "sampling.maps is 0"),
    ({"flag_rollouts": 4, "flag_questions": 64}, "by family; set one of them"),
    ({"flag_questions": 64, "rl.rewards.exploration": None}, "nothing reads"),
    ({"flag_questions": 64, "sampling.maps": 0}, "sampling.maps is 0"),
    (
      {
        "flag_questions": 64,
        "rl.rewards.map_price": 0.1,
        "rl.rewards.answer": 0.0,
      },
      "answer is 0.0; set map_price to 0",
    ),
    (
      {
        "flag_questions": 64,
        "rl.rewards.map_price": 0.1,
        "rl.advantage": "gdpo",
      },
      "weights are no price",
    ),
    ({"flag_margin": 0.5}, "flag_questions are 0; set"),
    ({"rl.rewards.map_effect": 1.0, "rl.pipeline": True}, "map_effect samples"),
    (
      {"rl.rewards.map_effect": 1.0, "batch": 1},
      "of another image.*batch is 1",
    ),
    (
      {"rl.rewards.depth": 1.0, "modalities": ("segmentation",)},
      "depth is 1.0, and no such map is drawn: config.modalities is segm",
    ),
    ({"rl.rewards.depth": 1.0, "sampling.maps": 0}, "sampling.maps is 0"),
    ({"rl.text_only": True, "rl.code.kl_weight": 0.1}, "codes are not in"),
    ({"rl.code.weight": 0.0, "rl.code.clip_low": 0.1}, "code.weight=0; leave"),
  ],
)
def test_settings_that_do_not_go_together_are_refused(changes, said):
  config = base.get_base("smoke", ("grpo",)).copy_and_resolve_references()
  with config.unlocked():
    for name, value in changes.items():
      *path, last = name.split(".")
      whole = path[:1] == ["sampling"] or last == "modalities"
      part = config if whole else config.grpo
      for each in path:
        part = part[each]
      part[last] = value
  with pytest.raises(UserError, match=said):
    checks.validate(config)


@pytest.mark.parametrize(
  "name", ["grpo.flag_rollouts", "grpo.rl.rewards.map_effect"]
)
def test_several_processes_are_refused_before_any_stage(monkeypatch, name):
  config = base.get_base("smoke", ("grpo",)).copy_and_resolve_references()
  monkeypatch.setattr(build.processes, "several", lambda: True)
  build.check_processes(config)
  with config.unlocked():
    config.update_from_flattened_dict({name: 1})
  with pytest.raises(UserError, match="on one host"):
    build.check_processes(config)
