"""The exchange of maps: another image's, each once, and what is counted."""

import numpy as np
import pytest

from cooper_jax.eval import map_use
from cooper_jax.report.map_use import table


@pytest.mark.parametrize(
  "ids", [list("aabbc"), list("abcabc"), ["x", "y"], list("aabbaabb")]
)
def test_every_place_gets_another_images_map_and_each_is_used_once(ids):
  order = map_use.of_another(ids)
  assert sorted(order) == list(range(len(ids)))
  assert all(ids[order[i]] != ids[i] for i in range(len(ids)))


@pytest.mark.parametrize("ids", [["a"], list("aab"), list("aaaa")])
def test_where_one_image_is_most_of_them_nothing_is_exchanged(ids):
  assert map_use.of_another(ids) is None


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
