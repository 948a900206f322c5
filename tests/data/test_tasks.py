"""Tasks: markup to segments, and what a row of each stage holds."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import base
from cooper_jax import world
from cooper_jax.data import counterfactual, tasks, traces
from cooper_jax.data.codes import INSTANCE, Codes
from cooper_jax.data.word_kinds import kind_of
from cooper_jax.models import token_kinds
from cooper_jax.parallel import shard
from cooper_jax.policy import init_params, make_policy
from cooper_jax.rollouts import self_maps
from cooper_jax.sequences import packing
from cooper_jax.sequences.segments import Map
from cooper_jax.stages import tokenizer
from cooper_jax.tokenizers.lengths import LENGTH
from cooper_jax.tokenizers.vocab import SPECIALS
from tests import tiny  # noqa: F401  sets the mesh

POLICY = make_policy(base.get_base("long", ("pretrain",)))
SAMPLES = world.generate(world.WorldConfig(), split="train", start=0, count=6)


def make_codes():
  rng = np.random.default_rng(0)
  cells, codes = POLICY.form.model.map_codes, POLICY.form.model.codes
  draw = lambda: rng.integers(0, codes, (len(SAMPLES), cells))  # noqa: E731
  marked = [
    int(INSTANCE.search(q.reasoning)[1])
    for sample in SAMPLES
    for q in [g for g in sample.grounding if g.family == "mark"][:1]
  ]
  return Codes(
    index={sample.id: i for i, sample in enumerate(SAMPLES)},
    maps={"depth": draw(), "segmentation": draw()},
    marked=np.array(marked),
    mark=draw(),
  )


CODES = make_codes()
SHAPE = packing.Shape(
  length=64 + 4 * 224, texts=400, codes=8 * 64, trunk=64, bin_size=224
)
WEIGHTS = dict(text=0.3, name=0.5, location=1.0, reading=1.0, answer=1.0)


def words(ids):
  ids, known = np.asarray(ids).tolist(), POLICY.form.vocabulary
  word = lambda i: POLICY.text.decode([i]).strip()  # noqa: E731
  return [word(i) if i < known.text else known.name(i) for i in ids]


def test_markup_becomes_segments_with_weights():
  markup = POLICY.markup
  drawn = []

  def draw(modality, option):
    drawn.append((modality, option))
    return Map(markup.modality_ids[modality], np.zeros(64, int))

  text = (
    "<think> measure the depth </think> <depth corrupted> <think> red ball"
    " <at 0.410 0.730> 2.4 m </think> <answer> red ball </answer>"
  )
  first, middle, last = markup.response(
    text, draw, weights=WEIGHTS, kind_of=kind_of
  )
  assert drawn == [("depth", "corrupted")] and isinstance(middle, Map)
  assert words(first.ids) == [
    "<think>", "measure", "the", "depth", "</think>",
  ]  # fmt: skip
  # Row 3 of 8 (.410 * 8 = 3.28), column 5 (.730 * 8 = 5.84): cell 29.
  assert words(last.ids) == [
    "<think>", "red", "ball", "<at 29>", "2.4", "m", "</think>",
    "<answer>", "red", "ball", "</answer>", "<eos>",
  ]  # fmt: skip
  np.testing.assert_allclose(
    last.weight,
    # "red" begins the thought: it weighs as "measure" does.
    [0.3, 1.0, 0.5, 1.0, 1.0, 0.3, 0.3, 0.3, 1.0, 1.0, 0.3, 0.3],
  )
  np.testing.assert_allclose(first.weight, [0.3, 1.0, 0.3, 0.3, 0.3])


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.999, 0.999), (1.0, 0.5)])
def test_places_stay_on_the_grid(place):
  assert 0 <= POLICY.markup.cell(*place) < 64


def task(kind, **changes):
  shared = {
    "markup": POLICY.markup,
    "codes": CODES,
    "shape": SHAPE,
    "map_noise": 0.0,
    "weights": WEIGHTS,
  }
  return kind(**shared | changes)


def test_a_pretraining_row_draws_every_map_and_grounds():
  titles = (("depth", "Depth"), ("segmentation", "Segmentation"))
  build = task(tasks.MapTask, titles=titles, single_object=0.0)
  sample = SAMPLES[0]
  row = build(sample, np.random.default_rng(1))
  for slot, name in enumerate(("depth", "segmentation")):
    here = (row["code_weight"] > 0) & (row["code_modality"] == slot)
    np.testing.assert_array_equal(
      row["code_target"][here], CODES.of(sample.id, name)
    )
  targets = row["text_target"][row["text_weight"] > 0]
  cells = targets - POLICY.form.vocabulary.locations_start
  named = (cells >= 0) & (cells < 64)
  assert named.sum() >= 4  # list, where, questions


def test_what_a_row_has_no_room_for_is_counted():
  titles = (("depth", "Depth"), ("segmentation", "Segmentation"))
  build = task(tasks.MapTask, titles=titles, single_object=0.0)
  small = dataclasses.replace(build, shape=dataclasses.replace(SHAPE, texts=40))
  row, cut = (b(SAMPLES[0], np.random.default_rng(1)) for b in (build, small))
  kept = [len(np.unique(r["branch"][r["document"] > 0])) for r in (row, cut)]
  assert kept[0] > kept[1] > 1
  assert cut["left_out"] - row["left_out"] == kept[0] - kept[1]


def test_marks_draw_the_one_object():
  titles = (("segmentation", "Segmentation"),)
  build = task(tasks.MapTask, titles=titles, single_object=1.0)
  row = build(SAMPLES[1], np.random.default_rng(1))
  np.testing.assert_array_equal(
    row["code_target"][row["code_weight"] > 0], CODES.mark[1]
  )


def test_noise_changes_what_is_read_and_not_what_is_learned():
  titles = (("depth", "Depth"),)
  rows = [
    task(tasks.MapTask, titles=titles, single_object=0.0, map_noise=noise)(
      SAMPLES[0], np.random.default_rng(1)
    )
    for noise in (0.0, 0.5)
  ]
  np.testing.assert_array_equal(rows[0]["code_target"], rows[1]["code_target"])
  codes = [row["ids"][row["query"] >= 0] for row in rows]
  assert 10 < (codes[0] != codes[1]).sum() < 50


def test_wrong_maps_are_shown_and_not_learned():
  shares = (("depth", 1.0),)
  build = task(tasks.ReasoningTask, shares=shares, corrupted=1.0)
  row = build(SAMPLES[0], np.random.default_rng(1))
  assert (row["code_weight"] > 0).sum() == 0
  opening = POLICY.form.vocabulary.opening(0)
  assert (row["ids"] == opening).sum() >= 2
  build = task(tasks.ReasoningTask, shares=shares, corrupted=0.0)
  row = build(SAMPLES[0], np.random.default_rng(1))
  drawn = (row["ids"] == opening).sum()
  assert (row["code_weight"] > 0).sum() == drawn * 64 > 64


def test_direct_rows_answer_at_once():
  build = task(tasks.ReasoningTask, shares=(("direct", 1.0),), corrupted=0.0)
  row = build(SAMPLES[0], np.random.default_rng(1))
  vocabulary = POLICY.form.vocabulary
  after = np.flatnonzero(row["ids"] == vocabulary.special("<assistant>")) + 1
  assert (row["ids"][after] == vocabulary.special("<answer>")).all()


@pytest.mark.parametrize(
  ("told", "left"),
  [
    ("can <at .4 .7> 2.4 m ; 1.1 m ; closer", "can <at .4 .7> ; closer"),
    ("<at .4 .7> 1 <at .5 .2> 2", "<at .4 .7> 1 <at .5 .2> 2"),
    ("can <at .1 .2> to <at .3 .4> 2 m", "can <at .1 .2> to <at .3 .4>"),
    ("2.4 m", "2.4 m"),
    ("it is 3 metres away", "it is 3 metres away"),
  ],
)  # fmt: skip
def test_a_trace_without_lengths_says_the_rest(told, left):
  assert traces.without_lengths(told) == left


@pytest.mark.parametrize("mode", ["text", "segmentation", "depth", "both"])
@pytest.mark.parametrize(
  ("measured", "known"), [("", True), ("depth", True), ("depth", False)]
)
def test_lengths_wait_for_a_depth_map_that_there_is(mode, measured, known):
  maps = CODES.maps | ({} if known else {"depth": 0 * CODES.maps["depth"] - 1})
  build = task(
    tasks.ReasoningTask,
    codes=dataclasses.replace(CODES, maps=maps),
    shares=((mode, 1.0),), corrupted=0.0, lengths_need_map=measured,
  )  # fmt: skip
  special = POLICY.form.vocabulary.special
  lengths = {True: 0, False: 0}
  for i, sample in enumerate(SAMPLES):
    thinking = False
    row = build(sample, np.random.default_rng(i))
    for word, token in zip(words(row["ids"]), row["ids"], strict=True):
      if token in (special("<think>"), special("<answer>")):
        thinking = token == special("<think>")
      lengths[thinking] += word == "m"
  assert lengths[False] > 0  # of answers
  waits = measured and known and mode in ("text", "segmentation")
  assert (lengths[True] == 0) == bool(waits)


def test_every_target_may_be_sampled():
  """A gold token outside the allowed set would have no probability."""
  from cooper_jax.sequences import distribution

  shares = (("needed", 0.5), ("both", 0.5))
  build = task(tasks.ReasoningTask, shares=shares, corrupted=0.3)
  allowed = distribution.allowed_rows(POLICY.form)
  vocabulary = POLICY.form.vocabulary
  for i, sample in enumerate(SAMPLES):
    row = build(sample, np.random.default_rng(i))
    for target, weight, allowed_maps in zip(
      row["text_target"], row["text_weight"], row["text_allowed_maps"],
      strict=True,
    ):  # fmt: skip
      if weight > 0 and not allowed[target]:
        slot = vocabulary.modality_id(int(target))
        assert slot is not None
        assert (allowed_maps >> slot) & 1
  assert allowed.sum() == vocabulary.text_rows - SPECIALS + 5


def test_world_words_are_single_tokens_in_traces():
  question = SAMPLES[0].questions[0]
  text = traces.compose(question, ("depth",))
  segments = POLICY.markup.response(
    text, lambda name, _: Map(0, np.zeros(64, int))
  )
  assert sum(isinstance(s, Map) for s in segments) == 1


@pytest.mark.parametrize("modality", ["depth", "segmentation"])
def test_a_map_of_its_own_is_read_and_not_learned(modality):
  rng = np.random.default_rng(3)
  first = 2  # samples that the policy has drawn
  shape = (first, POLICY.form.model.map_codes)
  own = rng.integers(0, POLICY.form.model.codes, shape)
  build = task(
    tasks.ReasoningTask,
    codes=dataclasses.replace(CODES, own={modality: own}),
    shares=((modality, 1.0),),
    corrupted=0.0,
    self_map_share=1.0,
  )
  start = POLICY.form.vocabulary.codes_start
  for number, read in ((0, own[0]), (1, own[1]), (2, None)):
    sample = SAMPLES[number]
    row = build(sample, np.random.default_rng(1))
    true = CODES.of(sample.id, modality)
    held = row["ids"][row["kind"] == token_kinds.CODE]
    held = held.reshape(-1, POLICY.form.model.map_positions)
    # Behind the first group, which is empty.
    for each in held[:, -len(true) :] - start:
      np.testing.assert_array_equal(each, true if read is None else read)
    learned = held.shape[0] * len(true) if read is None else 0
    assert (row["code_weight"] > 0).sum() == learned


@pytest.mark.ci
def test_a_policy_draws_the_maps_it_reads_once(tmp_path):
  config = base.get_base("smoke", ("pretrain",))
  policy = make_policy(config)
  modules = tokenizer.find_modules(config)
  configs = tokenizer.make_configs(config, modules)
  params = tokenizer.init_params(configs, jax.random.key(0))
  codecs = tokenizer.codecs(configs, modules, params)
  path = tmp_path / "own.npz"

  def draw(seed, samples):
    weights = shard.unbox(init_params(policy, jax.random.key(seed)))
    return self_maps.draw(
      policy, weights, codecs, samples,
      count=3, batch=2, buckets=(160,), path=path,
    )  # fmt: skip

  samples = list(SAMPLES[:4])
  drawn = draw(0, samples)
  assert {k: v.shape for k, v in drawn.items()} == {
    "depth": (3, 64), "segmentation": (3, 64),
  }  # fmt: skip
  assert len(np.unique(drawn["depth"])) > 3
  again = draw(1, samples)  # kept, though another policy asks
  np.testing.assert_array_equal(drawn["depth"], again["depth"])
  path.unlink()
  assert (draw(1, samples)["depth"] != drawn["depth"]).any()
  path.unlink()
  bad = draw(0, [samples[0], None, samples[2]])  # it may be left out
  for name, each in drawn.items():
    np.testing.assert_array_equal(bad[name][[0, 2]], each[[0, 2]])


@pytest.mark.parametrize("given", [0.0, 0.5, 1.0])
def test_places_of_pretraining_texts_read_maps_that_are_not_in_the_row(given):
  titles = (("depth", "Depth"), ("segmentation", "Segmentation"))
  build = task(
    tasks.MapTask, titles=titles, single_object=0.0, map_context=given
  )
  sample = SAMPLES[0]
  row = build(sample, np.random.default_rng(1))
  location = row["ids"] - POLICY.form.vocabulary.locations_start
  named = (location >= 0) & (location < 64) & (row["kind"] == token_kinds.TEXT)
  read = row["read"][named]
  start, opening = POLICY.form.vocabulary.codes_start, None
  for slot, name in enumerate(("depth", "segmentation")):
    opening = POLICY.form.vocabulary.opening(slot)
    rows, place = np.nonzero(read[..., 1] == opening)
    true = CODES.of(sample.id, name)[location[named][rows]]
    np.testing.assert_array_equal(read[rows, place, 0] - start, true)
    share = len(rows) / named.sum()
    assert share == given or (0.1 < share < 0.9 and given == 0.5)
  assert (row["code_weight"] > 0).sum() == 2 * 64  # its maps are drawn still


STEPS = np.full(256, 6, np.int8)  # every scene larger by 10^(6/24)


def changed_codes():
  rng = np.random.default_rng(7)
  model = POLICY.form.model
  codes = rng.integers(0, model.codes, (len(SAMPLES), model.map_codes))
  steps = np.tile(STEPS, (len(SAMPLES), 1))
  return dataclasses.replace(
    CODES, changed=counterfactual.CounterfactualMaps(codes, steps)
  )


def spoken(row):
  """The text of a row's branches."""
  text = np.flatnonzero(row["kind"] == token_kinds.TEXT)
  branches = row["branch"][text]
  return [
    " ".join(words(row["ids"][text[branches == b]]))
    for b in np.unique(branches)
  ]


def test_a_changed_map_is_shown_and_what_it_says_is_told():
  codes = changed_codes()
  build = task(
    tasks.ReasoningTask, codes=codes, shares=(("depth", 1.0),), corrupted=0.0,
    counterfactual=1.0,
  )  # fmt: skip
  start, size = POLICY.form.vocabulary.codes_start, POLICY.form.model.map_codes
  seen = 0
  for sample in SAMPLES:
    row = build(sample, np.random.default_rng(1))
    held = row["ids"][row["kind"] == token_kinds.CODE]
    held = held.reshape(-1, POLICY.form.model.map_positions)[:, -size:]
    texts, learned = spoken(row), row["code_weight"] > 0
    for question in sample.questions:
      changed = counterfactual.rewrite_trace(question, STEPS)
      asked = [t for t in texts if question.text in t]
      if changed in (None, question) or not asked:
        continue
      (text,) = asked
      for number in LENGTH.findall(changed.reasoning):
        assert f" {number} m" in text
      assert f"<answer> {changed.answer} </answer>" in text
      seen += 1
    changed = start + codes.counterfactual(sample.id)[0]
    assert learned.sum() == (held != changed).any(axis=1).sum() * size
  assert seen >= len(SAMPLES)


def test_places_of_pretraining_read_changed_maps_and_tell_them():
  codes = changed_codes()
  build = task(
    tasks.MapTask, codes=codes, titles=(("depth", "Depth"),), single_object=0.0,
    map_context=1.0, counterfactual=1.0,
  )  # fmt: skip
  sample = SAMPLES[0]
  row = build(sample, np.random.default_rng(1))
  (listed,) = (q for q in sample.grounding if q.family == "list")
  (text,) = (t for t in spoken(row) if listed.text in t)
  told = LENGTH.findall(counterfactual.rewrite_trace(listed, STEPS).reasoning)
  assert LENGTH.findall(text) == told
  location = row["ids"] - POLICY.form.vocabulary.locations_start
  named = (location >= 0) & (location < 64) & (row["kind"] == token_kinds.TEXT)
  read = row["read"][named]
  at, place = np.nonzero(read[..., 0] >= 0)
  got = read[at, place, 0] - POLICY.form.vocabulary.codes_start
  here = codes.counterfactual(sample.id)[0][location[named][at]]
  true = CODES.of(sample.id, "depth")[location[named][at]]
  assert ((got == here) | (got == true)).all()
  assert (got == here).mean() > 0.5  # the rest: told of the true map alone
  targets = row["code_target"][row["code_weight"] > 0]
  np.testing.assert_array_equal(targets, CODES.of(sample.id, "depth"))
