"""The held-out split: what is new in a question, and how it is counted."""

import numpy as np
import pytest

from cooper_jax.data.sources import DataConfig
from cooper_jax.eval import heldout, questions
from cooper_jax.world import config
from cooper_jax.world.questions.families import PHRASINGS

HELD_OUT = {f"{colour} {shape}" for colour, shape in config.HELD_OUT}


@pytest.fixture(scope="module")
def items(tmp_path_factory):
  data = DataConfig(
    heldout_scenes=40,
    cache=str(tmp_path_factory.mktemp("cache")),
    workers=1,
    world=config.WorldConfig(),
  )
  return heldout.open_items(data, 120, seed=3)


def test_a_new_pair_and_new_words_are_told_apart(items):
  assert len(items) == 120
  parts = heldout.parts(items)
  for i, item in enumerate(items):
    question = item.question
    new = question.template == PHRASINGS - 1
    assert (i in parts["words"]) == new
    if i in parts["pair"] and question.family != "count":
      assert any(name in question.text for name in HELD_OUT)
    assert (i in parts["both"]) == (new and i in parts["pair"])
  assert min(map(len, parts.values())) > 10
  assert max(map(len, parts.values())) < 115


def test_scores_are_of_the_rows_they_name(items):
  hits = np.random.default_rng(0).integers(0, 2, len(items)).astype(float)
  found = heldout.scores(items, hits, "sft")
  assert found["heldout/accuracy/sft"] == hits.mean()
  for name, rows in heldout.parts(items).items():
    assert found[f"heldout/accuracy/{name}/sft"] == hits[rows].mean()
  chosen = questions.choices(items)
  means = [hits[rows].mean() for rows in chosen.values()]
  assert found["heldout/accuracy/macro/sft"] == pytest.approx(np.mean(means))
  kinds = {
    items[r].question.answer_type for rows in chosen.values() for r in rows
  }
  assert kinds == {"choice", "yes_no"}


@pytest.mark.parametrize("data", [DataConfig(source="jsonl"), DataConfig()])
def test_other_data_has_no_such_split(data):
  count = 5 if data.source == "jsonl" else 0
  assert heldout.open_items(data, count, seed=0) == []
