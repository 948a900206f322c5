"""Shares of SFT's modes and of pretraining's maps hold in what is learned."""

import collections
import dataclasses

import numpy as np
import pytest

from configs import base
from cooper_jax import world
from cooper_jax.data import deals, tasks
from cooper_jax.data.codes import INSTANCE, Codes
from cooper_jax.data.word_kinds import kind_of
from cooper_jax.policy import make_policy
from cooper_jax.sample import Question, Sample
from cooper_jax.sequences.markup import decision
from cooper_jax.stages import pretrain, sft
from tests import tiny  # noqa: F401  sets the mesh

SAMPLES = world.generate(world.WorldConfig(), split="train", start=0, count=8)
ROWS = 50  # of each sample


def make(config, samples=SAMPLES, known=("depth", "segmentation")):
  """(policy, task of SFT) with made-up codes."""
  policy = make_policy(config)
  rng, model = np.random.default_rng(0), policy.form.model
  draw = lambda: rng.integers(0, model.codes, (len(samples), model.map_codes))  # noqa: E731
  codes = Codes(
    index={sample.id: i for i, sample in enumerate(samples)},
    maps={
      name: draw() if name in known else 0 * draw() - 1
      for name in ("depth", "segmentation")
    },
    marked=np.array([2] * len(samples)),
    mark=draw(),
  )
  return policy, sft.task(config, policy, codes)


def config_of(variant):
  return base.get_base(
    variant, ("pretrain", "sft")
  ).copy_and_resolve_references()


def trained(policy, row):
  """What each branch that the loss reaches draws; None: answers at once."""
  vocabulary = policy.form.vocabulary
  names = {vocabulary.opening(s): n for n, s in policy.markup.modalities}
  learned = row["branch"][row["text_at"][row["text_weight"] > 0]]
  for branch in np.unique(learned):
    ids = row["ids"][row["branch"] == branch]
    thinks = (ids == vocabulary.special("<think>")).any()
    yield tuple(names[i] for i in ids if i in names) if thinks else None


def count(policy, task, samples=SAMPLES, rows=ROWS):
  """Share of what is drawn among the branches of many rows."""
  found = collections.Counter()
  for number in range(rows * len(samples)):
    sample = samples[number % len(samples)]
    row = task(sample, np.random.default_rng(number))
    found.update(trained(policy, row))
  total = found.total()
  return {drawn: n / total for drawn, n in found.items()}, total


def wanted(config):
  """Shares of what is drawn, by the settings and what the programs need."""
  shares = collections.Counter()
  both = ("depth", "segmentation")
  maps = {"direct": None, "text": (), "both": both}
  total = sum(config.sft.shares.values())
  for mode, share in config.sft.shares.items():
    share = share / total
    if mode != "needed":
      shares[maps.get(mode, (mode,))] += share
      continue
    for sample in SAMPLES:
      for question in sample.questions:
        part = share / len(SAMPLES) / len(sample.questions)
        shares[question.needs] += part
  return shares


@pytest.mark.parametrize("variant", ["long", "scratch"])
def test_shares_of_modes_hold_in_what_reaches_the_loss(variant):
  config = config_of(variant)
  config.sft.extra_counting = 0  # made-up questions would change what is needed
  policy, task = make(config)
  found, total = count(policy, task)
  expected = wanted(config)
  # Of some 1,500 branches a share of .4 is known to .013.
  room = 4 * np.sqrt(0.25 / total) if variant == "scratch" else 0.02
  for drawn in expected.keys() | found.keys():
    assert found.get(drawn, 0.0) == pytest.approx(expected[drawn], abs=room)
  if variant == "long":
    drew = sum(share for drawn, share in found.items() if drawn)
    assert drew == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
  ("changes", "shares"),
  [
    ({"bins": 1}, dict(text=0.2, depth=0.8)),
    ({"bins": 3, "maps": 2}, dict(direct=0.3, depth=0.3, both=0.4)),
    ({"texts": 70}, dict(text=0.5, depth=0.5)),
    ({"bin": 448, "bins": 2}, dict(text=0.05, both=0.95)),
  ],
  ids=["small", "few maps", "few texts", "large"],
)
def test_shares_hold_whatever_a_row_has_room_for(changes, shares):
  config = config_of("scratch")
  config.sft.update(changes)
  config.sft.shares.update(dict.fromkeys(config.sft.shares, 0.0) | shares)
  policy, task = make(config)
  found, total = count(policy, task)
  assert total >= ROWS * len(SAMPLES)  # no row is empty
  for drawn, share in wanted(config).items():
    assert found.get(drawn, 0.0) == pytest.approx(share, abs=0.03)


def test_one_question_an_image_is_asked_in_every_mode():
  """As data of one's own has it: then a row is one draw."""
  text = SAMPLES[0].questions[0]
  samples = [Sample("own", "test", SAMPLES[0].image, questions=(text,))]
  config = config_of("long")
  policy, task = make(config, samples)
  found, total = count(policy, task, samples, rows=600)
  assert total == 600
  for drawn, share in wanted(config).items():
    assert found.get(drawn, 0.0) == pytest.approx(share, abs=0.06)


def test_without_maps_the_modes_that_draw_reason_in_text():
  policy, task = make(config_of("long"), known=())
  found, _ = count(policy, task, rows=10)
  assert found.keys() == {None, ()}
  assert found[None] == pytest.approx(0.1, abs=0.03)


def test_what_decides_weighs_the_same_whatever_it_decides():
  config = config_of("scratch")  # where names weigh .3 and places 1
  policy, task = make(config)
  special = policy.form.vocabulary.special
  first, thought = collections.defaultdict(set), collections.defaultdict(set)
  calls = dict.fromkeys((word for _, word in policy.form.calls), "call")
  for number in range(100):
    row = task(SAMPLES[number % 8], np.random.default_rng(number))
    before = row["ids"][row["text_at"]]
    for word, target, weight in zip(
      before, row["text_target"], row["text_weight"], strict=True
    ):
      if weight and word == special("<assistant>"):
        first[int(target)].add(float(weight))
      if weight and word == special("<think>"):
        kind = calls.get(int(target), "place" if target >= special("<think>")
                         else "word")  # fmt: skip
        thought[kind].add(float(weight))
  assert first.keys() == {special("<think>"), special("<answer>")}
  assert thought.keys() == {"call", "place", "word"}
  for found in (first, thought):
    assert len(set.union(*found.values())) == 1


def test_a_thoughts_first_token_weighs_most_and_no_other_one_more():
  policy, _ = make(config_of("scratch"))
  weights = dict(text=0.3, name=0.5, location=0.8, reading=0.7, answer=9.0)
  assert decision(weights) == 0.8
  markup = "<think> unheardof box </think> <answer> box </answer>"
  (text,) = policy.markup.response(
    markup, None, weights=weights, kind_of=kind_of
  )
  parts = len(policy.text.encode(" unheardof"))
  assert parts > 1
  want = [0.3, 0.8, *[0.3] * (parts - 1), 0.5, 0.3, 0.3, 9.0, 0.3, 0.3]
  np.testing.assert_allclose(text.weight, want)


def test_no_mode_of_use_weighs_more_by_its_first_tag():
  """A policy that is held to nothing would choose it too often."""

  policy, _ = make(config_of("scratch"))
  weights = dict(text=0.3, name=0.5, location=1.0, reading=1.0, answer=1.0)

  def weight(markup):
    (text,) = policy.markup.response(
      markup, None, weights=weights, kind_of=kind_of
    )
    return text.weight

  direct, thought = weight("<answer> yes </answer>"), weight("<think> 2.4")
  assert direct[0] == direct[2] == thought[0] == np.float32(weights["text"])
  assert direct[1] == weights["answer"] and thought[1] == weights["reading"]


@pytest.mark.parametrize("count", range(1, 12))
def test_deals_are_whole_lots_that_hold_shares_on_average(count):
  shares = (("a", 0.1), ("b", 0.3), ("none", 0.0), ("c", 0.48), ("d", 0.12))
  lots = deals.of(shares, count)
  assert sum(chance for _, chance in lots) == pytest.approx(1)
  assert all(len(modes) == count for modes, _ in lots)
  for name, share in shares:
    counts = [modes.count(name) for modes, _ in lots]
    mean = sum(n * c for n, (_, c) in zip(counts, lots, strict=True))
    assert mean == pytest.approx(share * count)
    assert max(abs(n - share * count) for n in counts) < 1
  drawn = [sum(m in "cd" for m in modes) for modes, _ in lots]
  assert max(drawn) - min(drawn) <= 1


def test_a_question_too_long_for_a_row_is_left_out_and_the_others_asked():
  long = Question("x", "why " * 300 + "?", "yes", "yes_no", reasoning="it is")
  sample = Sample(
    "own", "test", SAMPLES[0].image, questions=(long, SAMPLES[0].questions[0])
  )
  _, task = make(config_of("long"), [sample])
  for seed in range(8):
    row = task(sample, np.random.default_rng(seed))
    assert row["left_out"] == 1 and row["branch"].max() == 1


@pytest.mark.parametrize("variant", ["long", "scratch"])
def test_pretraining_draws_each_map_in_every_row_and_marks_by_its_share(
  variant,
):
  config = config_of(variant)
  policy, reason = make(config)
  codes, settings = reason.codes, config.pretrain
  titles = (("depth", "Depth"), ("segmentation", "Segmentation"))
  marked = [
    next(q for q in sample.grounding if q.family == "mark")
    for sample in SAMPLES
  ]
  instances = [int(INSTANCE.search(q.reasoning)[1]) for q in marked]
  task = tasks.MapTask(
    markup=policy.markup,
    codes=dataclasses.replace(codes, marked=np.array(instances)),
    shape=pretrain.row_shape(config, policy),
    map_noise=0.0,
    weights=dict(settings.weights),
    titles=titles,
    single_object=0.3,
    map_context=settings.map_context,
    extra_counting=settings.extra_counting,
  )
  marks = 0
  for number in range(400):
    sample = SAMPLES[number % len(SAMPLES)]
    row = task(sample, np.random.default_rng(number))
    learned = row["code_weight"] > 0
    slots = row["code_modality"][learned]
    np.testing.assert_array_equal(np.bincount(slots), [64, 64])
    target = row["code_target"][learned][slots == 1]
    marks += (target == codes.mark[codes.index[sample.id]]).all()
  assert marks / 400 == pytest.approx(0.3, abs=0.07)
