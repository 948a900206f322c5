"""What a stage selects is left, and by default all of it."""

import hashlib

import numpy as np
import pytest

from configs import base
from cooper_jax import world
from cooper_jax.data import codes, mixture, pipeline, traces
from cooper_jax.data.codes import INSTANCE, Codes
from cooper_jax.data.counterfactual import CounterfactualMaps
from cooper_jax.data.selection import Selection, after, first, phrased
from cooper_jax.errors import UserError
from cooper_jax.policy import make_policy
from cooper_jax.rl.questions import QuestionStream
from cooper_jax.stages import pretrain, sft
from cooper_jax.tokenizers.lengths import NUMBERS
from cooper_jax.world.questions import families
from tests import tiny  # noqa: F401  sets the mesh

SAMPLES = world.generate(world.WorldConfig(), split="train", start=0, count=6)
STAGES = {"pretrain": pretrain, "sft": sft}
MEANING = ("ids", "branch", "text_target", "text_weight", "code_target")
MEANING += ("code_weight", "read", "left_out")


def config_of(**changes):
  config = base.defaults()  # no lens is told, and nothing derived
  config.variant, config.pipeline = "long", ("pretrain", "sft")
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  return config


POLICY = make_policy(config_of())


def make_codes():
  rng, model = np.random.default_rng(0), POLICY.form.model
  draw = lambda: rng.integers(0, model.codes, (len(SAMPLES), model.map_codes))  # noqa: E731
  marked = [
    next(
      INSTANCE.search(q.reasoning) for q in s.grounding if q.family == "mark"
    )
    for s in SAMPLES
  ]
  return Codes(
    index={sample.id: i for i, sample in enumerate(SAMPLES)},
    maps={"depth": draw(), "segmentation": draw()},
    marked=np.array([int(found[1]) for found in marked]),
    mark=draw(),
    own={"depth": draw()[:3], "segmentation": draw()[:3]},
    changed=CounterfactualMaps(
      draw(), rng.integers(-7, 8, (len(SAMPLES), 256)).astype(np.int8)
    ),
  )


CODES = make_codes()


def rows(stage, rounds=3, samples=SAMPLES, **changes):
  """Rows of a stage's task, some of each sample."""
  build = STAGES[stage].task(config_of(**changes), POLICY, CODES)
  for number, sample in enumerate(samples * rounds):
    yield build(sample, np.random.default_rng(number))


def requests(row) -> list[str]:
  """What the branches of a row ask."""
  return [asked for asked, _ in traces_of(row)]


def traces_of(row):
  """(request, maps that are drawn; None: answered at once) of each branch."""
  vocabulary = POLICY.form.vocabulary
  names = {vocabulary.opening(s): n for n, s in POLICY.markup.modalities}
  for branch in np.unique(row["branch"][row["document"] > 0]):
    here = (row["branch"] == branch) & (row["document"] > 0)
    ids = row["ids"][here]
    start = np.flatnonzero(ids == vocabulary.special("<user>"))
    if not len(start):
      continue
    end = np.flatnonzero(ids == vocabulary.special("<assistant>"))
    asked = POLICY.text.decode(ids[start[0] + 1 : end[0]].tolist()).strip()
    thinks = (ids == vocabulary.special("<think>")).any()
    yield asked, tuple(names[i] for i in ids if i in names) if thinks else None


def said(row) -> str:
  """The words that a row trains on."""
  ids = row["text_target"][row["text_weight"] > 0]
  known = POLICY.text.size
  return POLICY.text.decode([i for i in ids.tolist() if i < known])


# Of the code before there was anything to select. A row that is made in another
# way on purpose has another digest, which is then written here.
@pytest.mark.parametrize(
  ("stage", "digest"),
  [("pretrain", "18368f28c9d42799"), ("sft", "379fd72241cd8299")],
)
def test_with_the_defaults_rows_are_bit_for_bit_what_they_were(stage, digest):
  found = hashlib.sha256()
  for row in rows(stage):
    for name in MEANING:
      found.update(np.ascontiguousarray(row[name]).tobytes())
  assert found.hexdigest()[:16] == digest


def test_a_sample_is_itself_where_nothing_is_selected():
  assert Selection()(SAMPLES[0]) is SAMPLES[0]


def test_more_scenes_contain_fewer():
  source = list(SAMPLES)
  assert first(source, 0) is source
  few, more = first(source, 2), first(source, 4)
  assert [s.id for s in few] == [s.id for s in SAMPLES[:2]]
  assert [s.id for s in more][:2] == [s.id for s in few]
  assert len(first(source, len(source))) == len(source)
  with pytest.raises(UserError, match=r"scenes is 7; the .* allows up to 6"):
    first(source, 7)
  mixed = mixture.Mixture((source, source))
  with pytest.raises(UserError, match="no common order"):
    first(mixed, 1)
  with pytest.raises(IndexError):
    few[2]
  rest = after(source, 2)
  assert [s.id for s in rest] == [s.id for s in SAMPLES[2:]]
  assert after(source, 0) is source
  with pytest.raises(UserError, match=r"skip_scenes is 6; .* up to 5"):
    after(source, 6)


def test_batches_of_few_scenes_are_of_these_alone():
  few = first(list(SAMPLES), 2)
  with pipeline.make_batches(
    few,
    build=lambda sample, rng: {"seen": np.array(sample.id)},
    batch_size=4,
    seed=0,
  ) as batches:
    seen = {*next(batches)["seen"].tolist(), *next(batches)["seen"].tolist()}
  assert seen == {s.id for s in SAMPLES[:2]}


def test_pretraining_without_lengths_says_none():
  assert any(" m " in said(row) for row in rows("pretrain"))
  numbers, listed = {*NUMBERS} - {"1", "2", "3", "4"}, 0
  for row in rows("pretrain", pretrain__without_lengths=True):
    words = said(row).split()
    assert "m" not in words and not numbers & {*words}
    asked = requests(row)
    listed += "List the objects ." in asked
    assert any(each.startswith("Where is the") for each in asked)
  assert listed == 3 * len(SAMPLES)


def test_families_that_tell_lengths_are_those_whose_program_reads_depth():
  found = {}
  for sample in world.generate(
    world.WorldConfig(), split="train", start=0, count=40
  ):
    for question in sample.questions:
      tells = traces.tells_length(question)
      assert found.setdefault(question.family, tells) == tells
  measured = families.where(lambda family: "depth" in family.NEEDS)
  assert {name for name, tells in found.items() if tells} == {*measured}
  assert {*found} == {*families.names()}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("family", ["closer", "count"])
def test_a_stage_asks_the_families_that_it_names(stage, family):
  told = {"List the objects ."} | {q.text for s in SAMPLES for q in s.grounding}
  starts = {t.partition("{")[0] for t in families.find(family).TEMPLATES}
  seen = 0
  for row in rows(stage, **{f"{stage}__families": (family,)}):
    asked = [
      each
      for each in requests(row)
      if each not in told and not each.startswith("Draw")
    ]
    seen += len(asked)
    for each in asked:
      assert any(each.startswith(start) for start in starts), each
  assert seen > 10


def test_some_families_are_answered_at_once_and_the_others_by_shares():
  direct = ("closer", "distance", "count", "left_right", "height", "reach")
  asked = {q.text: q.family for s in SAMPLES for q in s.questions}
  changes = dict(sft__extra_counting=0, sft__counterfactual=0.0)
  found = {True: [], False: []}
  for row in rows("sft", rounds=40, **changes, sft__direct_families=direct):
    for request, maps in traces_of(row):
      found[asked[request] in direct].append(maps)
  assert {*found[True]} == {None} and len(found[True]) > 100
  shares, total = config_of().sft.shares, len(found[False])
  for mode, share in shares.items():
    expected = {"direct": None, "text": (), "both": ("depth", "segmentation")}
    drew = found[False].count(expected.get(mode, (mode,)))
    # Some 500 branches: four standard deviations.
    room = 4 * np.sqrt(share * (1 - share) / total)
    assert drew / total == pytest.approx(share, abs=room), mode


def test_exchanged_maps_leave_the_text_and_its_amount_as_they_were():
  changes = dict(pretrain__counterfactual=0.0, pretrain__single_object=0.0)
  changes |= dict(pretrain__map_context=0.0, pretrain__code_noise=0.0)
  other = codes.exchanged(CODES, seed=0)
  config = config_of(**changes)
  for number, sample in enumerate(SAMPLES):
    own, new = (
      pretrain.task(config, POLICY, each)(sample, np.random.default_rng(number))
      for each in (CODES, other)
    )
    for name in ("branch", "text_target", "text_weight", "code_weight"):
      np.testing.assert_array_equal(own[name], new[name])
    for modality, slot in (("depth", 0), ("segmentation", 1)):
      here = (new["code_weight"] > 0) & (new["code_modality"] == slot)
      told = new["code_target"][here]
      np.testing.assert_array_equal(told, other.of(sample.id, modality))
      assert (told != CODES.of(sample.id, modality)).any()


def test_questions_in_held_out_words_are_the_same_questions():
  assert phrased(SAMPLES, "usual") is SAMPLES
  assert phrased([None], "heldout")[0] is None  # it may be left out
  asked = phrased(SAMPLES, "heldout")
  assert len(asked) == len(SAMPLES) and repr(asked) != repr(SAMPLES)
  for old, new in zip(SAMPLES, asked):
    assert len(old.questions) == len(new.questions)
    for one, other in zip(old.questions, new.questions):
      assert other.template == families.PHRASINGS - 1 != one.template
      assert (one.answer, one.options, one.reasoning) == (
        other.answer, other.options, other.reasoning,
      )  # fmt: skip


def test_the_questions_of_others_words_are_had_without_a_picture():
  class Listed:
    def __len__(self):
      return len(SAMPLES)

    def __getitem__(self, index):
      raise AssertionError("a picture is read")

    def questions(self, index):
      return SAMPLES[index].questions

  asked = phrased(Listed(), "heldout")
  wanted = phrased(SAMPLES, "heldout")[2].questions
  assert mixture.questions_of(asked, 2) == wanted != ()
  QuestionStream(asked, batch=2, seed=0, families=(wanted[0].family,))
