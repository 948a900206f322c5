"""Parts of a GRPO step that are pure."""

import numpy as np

from cooper_jax.rl import update


def test_the_overlong_filter_leaves_out_what_was_cut_off():
  live = np.array([[True, True], [True, False]])
  cut = np.array([False, True])
  np.testing.assert_array_equal(update.taught(live, cut, False), live)
  kept = update.taught(live, cut, True)
  np.testing.assert_array_equal(kept, [[True, True], [False, False]])
