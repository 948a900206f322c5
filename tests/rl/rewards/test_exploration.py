"""The exploration reward on the paper's group cases, written out by hand.

G = 8 and tau = 3: "positive" pays +.2 to those who drew while fewer than three
of the group did, "negative" takes .2 from those who drew when more than three
did, "boundary" does nothing.
"""

import numpy as np
import pytest

from cooper_jax.data import flags
from cooper_jax.errors import UserError
from cooper_jax.rl.rewards import exploration
from cooper_jax.rollouts.response import DrawnMap, Responses

DEPTH = DrawnMap("depth", np.zeros(4, int), np.ones((4, 4)))
NO_MAP = "<think> a </think> <answer> 3 </answer>"
ONE = "<think> a </think> <depth> " + NO_MAP
TWO = "<think> a </think> <segmentation> " + ONE


def _reward(texts, given, maps=None, group=None, **settings):
  if maps is None:
    maps = [(DEPTH,) * t.count("<think> a </think> <") for t in texts]
    maps = [m if "<depth>" in t else () for m, t in zip(maps, texts)]
  view = Responses.from_texts(texts, maps=maps, group=group)
  given = [given] * len(texts) if isinstance(given, str) else given
  return exploration.reward(
    view, {"flag": tuple(given)}, exploration.Config(**settings)
  )


def _group(users, size=8):
  return [ONE] * users + [NO_MAP] * (size - users)


@pytest.mark.parametrize("users", range(9))
@pytest.mark.parametrize("flag", flags.FLAG_NAMES)
def test_the_papers_cases_at_a_group_of_eight(flag, users):
  each = {
    #           c = 0  1    2    3  4    5    6    7    8
    "positive": [0, 0.2, 0.2, 0, 0, 0, 0, 0, 0],
    "negative": [0, 0, 0, 0, -0.2, -0.2, -0.2, -0.2, -0.2],
    "boundary": [0, 0, 0, 0, 0, 0, 0, 0, 0],
  }[flag][users]
  want = [each] * users + [0] * (8 - users)
  np.testing.assert_allclose(_reward(_group(users), flag), want)


@pytest.mark.parametrize(
  ("size", "threshold"), [(2, 1), (4, 2), (6, 3), (8, 3), (16, 6)]
)
def test_the_threshold_grows_with_the_group(size, threshold):
  below = _reward(_group(threshold - 1, size), "positive")
  assert (below > 0).sum() == threshold - 1
  assert not _reward(_group(threshold, size), "positive").any()
  assert not _reward(_group(threshold, size), "negative").any()
  above = _reward(_group(threshold + 1, size), "negative")
  assert (above < 0).sum() == threshold + 1


@pytest.mark.parametrize(("share", "tau"), [(0.5, 4), (0.0, 0), (1.0, 8)])
def test_the_share_is_a_setting(share, tau):
  for users in range(9):
    paid = (_reward(_group(users), "positive", share=share) > 0).sum()
    assert paid == (users if users < tau else 0)
    taken = (_reward(_group(users), "negative", share=share) < 0).sum()
    assert taken == (users if users > tau else 0)
  with pytest.raises(UserError, match="allowed: 0 to 1"):
    exploration.Config(share=2)


def test_where_maps_hurt_the_share_may_be_another():
  several = {"share": 0.75, "negative_share": 0.125}
  for users in range(9):
    paid = (_reward(_group(users), "positive", **several) > 0).sum()
    assert paid == (users if users < 6 else 0)
    taken = (_reward(_group(users), "negative", **several) < 0).sum()
    assert taken == (users if users > 1 else 0)
  for wrong in (-0.5, 1.5):
    with pytest.raises(UserError, match=r"negative_share is .*allowed: 0 to"):
      exploration.Config(negative_share=wrong)


def test_it_never_depends_on_the_answer_the_kind_or_the_number_of_maps():
  right = _reward([ONE, *_group(0, 7)], "positive")
  wrong = _reward([ONE.replace("3", "7"), *_group(0, 7)], "positive")
  many = _reward([TWO, *_group(0, 7)], "positive")
  np.testing.assert_array_equal(right, wrong)
  np.testing.assert_array_equal(right, many)
  assert right[0] == np.float32(0.2)


def test_one_map_counts_as_use():
  # The released code lost each trajectory's first call to an in-place slice.
  assert exploration.used_map(ONE, (DEPTH,))
  assert exploration.used_map(TWO, (DEPTH, DEPTH))


def test_what_is_no_use_of_a_map():
  assert not exploration.used_map(NO_MAP, ())
  assert not exploration.used_map("<think> a </think> <depth>", (DEPTH,))
  assert not exploration.used_map("<depth> " + NO_MAP, (DEPTH,))
  # A tag without a drawn map: text that only looks like one.
  assert not exploration.used_map(ONE, ())
  # A map in a well-formed turn counts although the answer never came.
  assert exploration.used_map("<think> a </think> <depth> hm", (DEPTH,))


def test_groups_are_told_apart_by_id_in_any_order():
  texts = _group(2) + _group(5)
  group = np.repeat([7, -3], 8)
  flags = ["positive"] * 8 + ["negative"] * 8
  want = np.array([0.2] * 2 + [0] * 6 + [-0.2] * 5 + [0] * 3, np.float32)
  order = np.random.default_rng(0).permutation(16)
  got = _reward(
    [texts[i] for i in order],
    [flags[i] for i in order],
    group=group[order],
  )
  np.testing.assert_array_equal(got, want[order])


def test_size_is_a_setting():
  assert _reward(_group(1), "positive", size=0.5)[0] == np.float32(0.5)
  with pytest.raises(UserError, match="must be >= 0"):
    exploration.Config(size=-1)
  with pytest.raises(UserError, match="'maybe', allowed are positive"):
    _reward(_group(1), "maybe")
