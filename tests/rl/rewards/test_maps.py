"""The depth and segmentation rewards: only what was seen pays."""

import numpy as np
import pytest

from cooper_jax import plugins
from cooper_jax.rollouts.response import DrawnMap, Responses

DEPTH = np.geomspace(1, 8, 256).reshape(16, 16).astype(np.float32)
CLASSES = np.zeros((16, 16), np.uint8) + 1
CLASSES[4:9, 3:8] = 4
CLASSES[10:14, 9:15] = 6
TRUTH = {"depth": DEPTH, "segmentation": CLASSES}
NAMES = sorted(TRUTH)


def _reward(name, *drawn, truth=None):
  maps = tuple(DrawnMap(name, np.zeros(4, int), target) for target in drawn)
  view = Responses.from_texts(["x"], maps=[maps])
  module = plugins.find("rewards", name)
  columns = {name: (TRUTH[name] if truth is None else truth[0],)}
  return float(module.reward(view, columns, module.Config())[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_scores_one_and_a_constant_map_nothing(name):
  assert _reward(name, TRUTH[name]) == pytest.approx(1)
  assert _reward(name, np.full_like(TRUTH[name], 4)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_map_scores_less(name):
  assert _reward(name, TRUTH[name][::-1]) < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_many_maps_do_not_add_up(name):
  good, flat = TRUTH[name], np.full_like(TRUTH[name], 4)
  assert _reward(name, good, good, good) == pytest.approx(1)
  assert _reward(name, good, flat) == pytest.approx(0.5)


@pytest.mark.parametrize("name", NAMES)
def test_it_abstains_without_a_map_or_a_truth(name):
  assert np.isnan(_reward(name))
  assert np.isnan(_reward(name, TRUTH[name], truth=[None]))


def test_a_map_of_another_kind_is_not_its_business():
  view = Responses.from_texts(
    ["x"], maps=[(DrawnMap("depth", np.zeros(4, int), DEPTH),)]
  )
  module = plugins.find("rewards", "segmentation")
  columns = {"segmentation": (CLASSES,), "depth": (DEPTH,)}
  assert np.isnan(module.reward(view, columns, module.Config()))[0]
