"""Flags by family: what is right more often with maps than without, and where.

The answers of a policy are made up: whether one is right follows from the
question and the mode it is asked in.
"""

import dataclasses
import types

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.eval import family_flags, validation
from cooper_jax.rollouts import prompts
from tests.rl import toy

DRAWN, TEXT = "depth", "text"
# Family -> how many of 4 are right with maps and without.
RIGHT = {"gap": (4, 1), "count": (1, 3), "width": (2, 2), "height": (3, 2)}
CODECS = object()


@pytest.fixture
def config():
  """With four questions of each family, and no chance in how they come."""
  return toy.CONFIG.copy_and_resolve_references()


@pytest.fixture
def asked(monkeypatch):
  """The modes of every time that questions are asked."""
  items = [
    prompts.Item(
      toy.ITEMS[0].sample,
      dataclasses.replace(toy.ITEMS[0].question, family=name, text=str(i)),
    )
    for i in range(4)
    for name in RIGHT
  ]
  calls = []

  def ask_in(policy, params, items, modes, codecs, **options):
    assert params == "params" and codecs is CODECS
    calls.append(modes)
    hits = {
      mode: np.array(
        [
          float(int(i.question.text) < RIGHT[i.question.family][mode == TEXT])
          for i in items
        ]
      )
      for mode in modes
    }
    return {m: types.SimpleNamespace(hits=each) for m, each in hits.items()}

  monkeypatch.setattr(validation, "open_items", lambda config, count: items)
  monkeypatch.setattr(family_flags.questions, "ask_in", ask_in)
  return calls


def of_start(config, folder, begun=False):
  return family_flags.of_start(
    config, toy.POLICY, "params", CODECS, folder, begun=begun
  )


@pytest.mark.parametrize(
  ("margin", "price", "wanted"),
  [
    (0.0, None, {"gap": "+", "count": "-", "width": "0", "height": "+"}),
    (0.25, None, {"gap": "+", "count": "-", "width": "0", "height": "0"}),
    (0.5, None, {"gap": "+", "count": "0", "width": "0", "height": "0"}),
    # A quarter is just what a map costs; where it brings nothing it hurts.
    (0.0, 0.25, {"gap": "+", "count": "-", "width": "-", "height": "0"}),
    (0.0, 0.3, {"gap": "+", "count": "-", "width": "-", "height": "-"}),
  ],
)
def test_a_family_s_flag_is_by_its_gain_less_the_price(
  config, asked, tmp_path, margin, price, wanted
):
  config.grpo.update(flag_questions=16, flag_margin=margin)
  with config.unlocked():
    config.grpo.rl.rewards.map_price = price
  found = of_start(config, tmp_path)
  names = {"+": "positive", "-": "negative", "0": "boundary"}
  flags = {name: each["flag"] for name, each in found.items()}
  assert flags == {name: names[sign] for name, sign in wanted.items()}
  assert found["gap"] == {
    "flag": "positive", "n": 4, "drawn": 1.0, "text": 0.25,
    "price": price or 0.0,
  }  # fmt: skip
  assert asked == [[TEXT, DRAWN]]


def test_the_first_maps_may_be_free(config, asked, tmp_path):
  with config.unlocked():
    config.grpo.rl.rewards.map_price = 0.3
    config.grpo.rl.settings.map_price.free = 1
  assert of_start(config, tmp_path)["gap"]["price"] == 0.0


def test_it_is_measured_once_and_of_the_start(config, asked, tmp_path):
  first = of_start(config, tmp_path)
  assert of_start(config, tmp_path, begun=True) == first and len(asked) == 1
  (tmp_path / family_flags.FILE).unlink()
  with pytest.raises(
    UserError, match=r"family_flags.json is missing, and GRPO"
  ):
    of_start(config, tmp_path, begun=True)
  assert of_start(config, tmp_path) == first and len(asked) == 2


def test_questions_get_the_flags_of_their_families():
  change = family_flags.flagged({"gap": {"flag": "positive"}})
  question = dataclasses.replace(toy.ITEMS[0].question, flag="negative")
  gap = dataclasses.replace(question, family="gap")
  assert [q.flag for q in change([gap, question])] == ["positive", "negative"]
  assert gap.flag == "negative"


def test_the_line_names_the_largest_first():
  each = {
    "gap": {"flag": "positive", "drawn": 0.3, "text": 0.1, "price": 0.05},
    "height": {"flag": "positive", "drawn": 0.6, "text": 0.2, "price": 0.1},
    "width": {"flag": "boundary", "drawn": 0.6, "text": 0.2, "price": 0.4},
  }
  assert family_flags.said(each) == (
    "maps help in height +30, gap +15; hurt in no family"
    " (points, validation split)"
  )


@pytest.mark.parametrize(
  ("needs", "most", "mode"),
  [
    ((), 2, "depth"),
    (("segmentation",), 2, "segmentation"),
    (("segmentation", "depth"), 2, "both"),
    (("segmentation", "depth"), 1, "depth"),
    (("normals",), 2, "depth"),
  ],
)
def test_drawn_is_what_the_program_reads(needs, most, mode):
  question = dataclasses.replace(toy.ITEMS[0].question, needs=needs)
  found = family_flags._mode(question, ["depth", "segmentation"], most)
  assert found == mode


@pytest.mark.ci
def test_the_toy_policy_s_families_are_measured(config, monkeypatch, tmp_path):
  monkeypatch.setattr(validation, "open_items", lambda config, n: toy.ITEMS[:n])
  config.grpo.flag_questions = 3
  found = family_flags.of_start(
    config,
    toy.POLICY,
    toy.fresh().params,
    toy.codecs(),
    tmp_path,
    begun=False,
  )
  assert found["x"]["n"] == 3 and 0 <= found["x"]["drawn"] <= 1
