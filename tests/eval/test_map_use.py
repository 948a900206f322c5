"""The exchange of maps: another image's, each once, and what is counted."""

from types import SimpleNamespace

import numpy as np
import pytest

from cooper_jax.data import traces
from cooper_jax.eval import map_use, questions
from cooper_jax.report.map_use import table
from cooper_jax.rollouts import exchanging
from cooper_jax.rollouts.prompts import Item
from cooper_jax.sample import Question, Sample
from tests import metrics_page


@pytest.mark.parametrize(
  "ids", [list("aabbc"), list("abcabc"), ["x", "y"], list("aabbaabb")]
)
def test_every_place_gets_another_images_map_and_each_is_used_once(ids):
  order = exchanging.of_another(ids)
  assert sorted(order) == list(range(len(ids)))
  assert all(ids[order[i]] != ids[i] for i in range(len(ids)))


@pytest.mark.parametrize("ids", [["a"], list("aab"), list("aaaa")])
def test_where_one_image_is_most_of_them_nothing_is_exchanged(ids):
  assert exchanging.of_another(ids) is None


def test_scores_are_paired():
  rng = np.random.default_rng(0)
  other = (rng.random(200) < 0.4).astype(float)
  own = np.maximum(other, rng.random(200) < 0.2)
  hits = {"own": own, "other": other, "true": np.ones(200)}
  families = {"closer": np.arange(80), "distance": np.arange(80, 200)}
  found = map_use.scores(hits, families, "sft")
  assert found["map_use/gain/sft"] == pytest.approx(own.mean() - other.mean())
  low, high = found["map_use/gain/sft/ci95"]
  # Paired: nothing was lost, so the interval lies above 0 and is narrow.
  assert 0 < low < found["map_use/gain/sft"] < high < low + 0.12
  assert found["map_use/room/sft"] == pytest.approx(1 - own.mean())
  assert found["map_use/true/closer/sft/n"] == 80
  assert found["map_use/other/distance/sft"] == other[80:].mean()
  page = table(found)
  assert "Its own map" in page and "Distance" in page
  assert table({}) == ""


OWN = np.random.default_rng(0).integers(0, 9, (5, 4), dtype=np.int32)


def test_maps_that_say_nothing_are_of_the_size_and_type_of_the_own_ones():
  made = {
    kind: make(OWN, 9, np.random.default_rng(1))
    for kind, make in map_use.MEANINGLESS.items()
  }
  for codes in made.values():
    assert codes.shape == OWN.shape and codes.dtype == OWN.dtype
    assert codes.min() >= 0 and codes.max() < 9
  assert (made["zero"] == 0).all()
  assert (made["first"] == OWN[:, :1]).all()
  assert len(np.unique(made["random"])) > 5 and (made["random"] != OWN).any()


def asked_with(monkeypatch, texts=None, **changes):
  """(codes that were put in place, in order; the summary's entries).

  texts: what the policy had said with its own map drawn; None = nothing.
  """
  seen = []

  def respond(policy, params, asked, name, codes, codecs, *, batch, rows):
    assert len(asked) == len(codes) == len(OWN)
    seen.append(codes[rows])
    said = ["<answer> yes </answer>"] * len(rows)
    return SimpleNamespace(text=said, maps=[[]] * len(rows))

  monkeypatch.setattr(map_use.generate, "respond_to_maps", respond)
  monkeypatch.setattr(
    map_use.map_tokenizer, "encode_maps", lambda codec, maps: OWN + 100
  )
  name = map_use.exchanged()
  asked = [
    Item(
      Sample(f"s{i}", "w", np.zeros((4, 4, 3), np.uint8)),
      Question("closer", "?", "yes", "yes_no", needs=(name,)),
    )
    for i in range(len(OWN))
  ]
  maps = [[SimpleNamespace(codes=codes)] for codes in OWN]
  said = texts or [""] * len(OWN)
  drawn = questions.graded(SimpleNamespace(text=said, maps=maps), asked)
  module = SimpleNamespace(read=lambda sample: np.zeros((4, 4)))
  found = map_use.measure(
    SimpleNamespace(form=SimpleNamespace(model=SimpleNamespace(codes=9))),
    None,
    asked,
    drawn,
    {name: SimpleNamespace(modality=module)},
    batch=4,
    stage="sft",
    **changes,
  )
  return seen, found


def test_by_default_its_own_anothers_and_the_true_map_are_put_in_place(
  monkeypatch,
):
  seen, found = asked_with(monkeypatch)
  assert len(seen) == 3
  np.testing.assert_array_equal(seen[0], OWN)
  others = exchanging.of_another([f"s{i}" for i in range(len(OWN))])
  np.testing.assert_array_equal(seen[1], OWN[others])
  np.testing.assert_array_equal(seen[2], OWN + 100)
  assert not any("/over/" in key or "/zero/" in key for key in found)
  assert "Code 0" not in table(found) and "The true one" in table(found)


def test_other_replacements_are_measured_explained_and_shown(monkeypatch):
  asked = map_use.REPLACEMENTS
  seen, found = asked_with(monkeypatch, replacements=asked)
  assert len(seen) == len(asked)
  assert found["map_use/zero/sft"] == 1 and found["map_use/over/zero/sft"] == 0
  assert metrics_page.unexplained(found, ("summary.json",)) == []
  page = table(found)
  for title in ("Code 0", "Random codes", "Its first code"):
    assert title in page
  # Without the true one there is no room to tell of.
  _, fewer = asked_with(monkeypatch, replacements=("own", "other", "first"))
  assert "map_use/room/sft" not in fewer and "map_use/first/sft" in fewer


def test_what_it_said_with_the_map_it_drew_is_not_asked_again(monkeypatch):
  drew = f"<think> look </think> <{map_use.exchanged()}> "
  texts = [
    drew + "<think> near </think> <answer> yes </answer>",
    drew + "<answer> yes </answer>",  # not what it says after <think>
    drew + "<think> near </think> <answer> no </answer> or so",
    drew + f"<think> {traces.DOUBT} </think> <answer> no </answer>",
    drew + drew + "<think> near </think> <answer> no </answer>",
  ]
  seen, found = asked_with(monkeypatch, texts)
  np.testing.assert_array_equal(seen[0], OWN[[1, 2, 4]])
  assert [len(codes) for codes in seen] == [3, 5, 5]
  assert found["map_use/own/sft"] == 0.8  # "no" of the fourth is wrong
  assert found["map_use/other/sft"] == found["map_use/true/sft"] == 1
  assert found["map_use/doubt/own/sft"] == 0.2
  assert found["map_use/doubt/true/sft"] == 0
  # Where all went on so, nothing is asked for its own.
  seen, found = asked_with(monkeypatch, texts[:1] * len(OWN))
  assert len(seen) == 2 and found["map_use/own/sft"] == 1
