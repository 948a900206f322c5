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

TEXT = "text"
# Family -> how many of 8 are right with maps and without, and the maps that its
# programs read; held to others it is never right.
RIGHT = {
  "gap": (8, 2, ("depth",)),
  "count": (2, 6, ("segmentation",)),
  "width": (4, 4, ("segmentation",)),
  "height": (6, 4, ("depth",)),
}
DRAWN = {name: maps[0] for name, (_, _, maps) in RIGHT.items()}
CODECS = object()


@pytest.fixture
def config():
  """Of the toy policy, trained in every mode."""
  config = toy.CONFIG.copy_and_resolve_references()
  with config.unlocked():
    config.sft.shares.update(dict.fromkeys(config.sft.shares, 0.1))
  return config


@pytest.fixture
def asked(monkeypatch):
  """The modes of every time that eight questions of each family are asked."""
  items = [
    prompts.Item(
      toy.ITEMS[0].sample,
      dataclasses.replace(
        toy.ITEMS[0].question, family=name, text=str(i), needs=needs
      ),
    )
    for i in range(8)
    for name, (_, _, needs) in RIGHT.items()
  ]
  rare = dataclasses.replace(items[0].question, family="rare")
  items.append(dataclasses.replace(items[0], question=rare))
  calls = []

  def ask_in(policy, params, items, modes, codecs, **options):
    assert params == "params" and codecs is CODECS
    calls.append(modes)

    def hit(question, mode):
      drawn, text, _ = RIGHT.get(question.family, (8, 8, ()))
      if mode == TEXT:
        return float(int(question.text) < text)
      own = mode == DRAWN.get(question.family)
      return float(own and int(question.text) < drawn)

    return {
      mode: types.SimpleNamespace(
        hits=np.array([hit(item.question, mode) for item in items])
      )
      for mode in modes
    }

  monkeypatch.setattr(validation, "open_items", lambda *given: items)
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
  config.grpo.update(flag_questions=33, flag_margin=margin)
  with config.unlocked():
    config.grpo.rl.rewards.map_price = price
  found = of_start(config, tmp_path)
  names = {"+": "positive", "-": "negative", "0": "boundary"}
  flags = {name: each["flag"] for name, each in found.items()}
  assert flags == {name: names[sign] for name, sign in wanted.items()}
  assert found["gap"] == {
    "flag": "positive", "n": 8, "drawn": 1.0, "text": 0.25,
    "price": price or 0.0,
  }  # fmt: skip
  assert asked == [[TEXT, "depth", "segmentation"]]


def test_a_price_is_in_units_of_the_answer_s_reward(config, asked, tmp_path):
  """Half of it for an answer: a map that costs .1 has to bring .2."""
  with config.unlocked():
    config.grpo.rl.rewards.update(map_price=0.1, answer=0.5)
  found = of_start(config, tmp_path)
  assert found["gap"]["price"] == 0.2


def test_a_family_of_few_questions_is_not_measured(config, asked, tmp_path):
  found = of_start(config, tmp_path)
  assert set(found) == set(RIGHT)
  line = family_flags.said(found, [*RIGHT, "rare"])
  assert line.endswith("; not measured: rare (points, validation split)")


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
  assert family_flags.said(each, each) == (
    "maps help in height +30, gap +15; hurt in no family"
    " (points, validation split)"
  )


@pytest.mark.parametrize(
  ("needs", "trained", "mode"),
  [
    ((), ("text", "depth", "segmentation", "both"), "both"),
    ((), ("text", "segmentation"), "segmentation"),
    (("segmentation",), ("text", "both", "segmentation"), "segmentation"),
    (("segmentation",), ("text", "depth", "both"), "both"),
    (("segmentation", "depth"), ("text", "depth", "both"), "both"),
    (("segmentation", "depth"), ("text", "depth", "segmentation"), None),
    (("normals",), ("text", "depth", "segmentation", "both"), None),
    ((), ("adaptive", "text"), None),
  ],
)
def test_drawn_is_what_the_program_reads(needs, trained, mode):
  question = dataclasses.replace(toy.ITEMS[0].question, needs=needs)
  found = family_flags._mode(question, ("depth", "segmentation"), trained)
  assert found == mode


@pytest.mark.ci
def test_the_toy_policy_s_families_are_measured(config, monkeypatch, tmp_path):
  monkeypatch.setattr(validation, "open_items", lambda *given: toy.ITEMS[:3])
  monkeypatch.setattr(family_flags, "FEWEST", 3)
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
