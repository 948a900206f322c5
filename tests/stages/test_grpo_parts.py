"""Parts of a GRPO step that are pure."""

import types

import numpy as np

from cooper_jax.eval.view import Map, RolloutView
from cooper_jax.rl import step as steps
from cooper_jax.rl import update


def test_the_overlong_filter_leaves_out_what_was_cut_off():
  live = np.array([[True, True], [True, False]])
  cut = np.array([False, True])
  np.testing.assert_array_equal(update.taught(live, cut, False), live)
  kept = update.taught(live, cut, True)
  np.testing.assert_array_equal(kept, [[True, True], [False, False]])


def test_habits_are_counted_by_kind_flag_and_use():
  code = np.zeros(4, int)
  depth = Map("depth", code, np.ones((2, 2)))
  classes = Map("segmentation", code, np.ones((2, 2)))
  maps = [(depth, classes), (), (depth,), ()]
  view = RolloutView.from_texts(["a b c"] * 4, maps=maps)
  items = [
    types.SimpleNamespace(question=types.SimpleNamespace(flag=flag))
    for flag in ("positive", "negative")
  ]
  found = steps.habits(view, items, 2, np.array([1.0, 0.0, np.nan, 1.0]))
  assert found["maps/depth"] == 0.5 and found["maps/segmentation"] == 0.25
  assert found["maps/each"] == 0.75 and found["length/text"] == 3
  assert found["maps/positive"] == (1, 2) and found["maps/negative"] == (1, 2)
  assert found["answer/positive"] == (1, 2)
  assert found["answer/negative"] == (1, 1)  # one abstained
  assert found["answer/drew"] == (1, 1) and found["answer/text"] == (1, 2)
