"""Claims about advantages, checked against the vector file and by hand."""

import json
import pathlib

import jax
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.rl import advantages

VECTORS = json.loads(
  (pathlib.Path(__file__).parents[1] / "vectors/rl.json").read_text()
)
REWARDS = np.array(VECTORS["inputs"]["rewards"], np.float32)
GROUP = np.array([0, 0, 0, 1, 1, 1])
EXPECTED = {
  "grpo": "grpo_ddof1_eps1e-4 (TRL)",
  "mean_only": "dr_grpo_mean_only",
  "rloo": "rloo",
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_advantages_match_the_vectors(name):
  got = jax.jit(advantages.find(name))(REWARDS, GROUP)
  np.testing.assert_allclose(
    got, VECTORS["advantages"][EXPECTED[name]], atol=1e-6
  )


@pytest.mark.parametrize("name", sorted(advantages.ADVANTAGES))
def test_advantages_follow_the_group_id_not_the_position(name):
  order = np.array([3, 0, 5, 1, 4, 2])
  advantage = advantages.find(name)
  straight = jax.jit(advantage)(REWARDS, GROUP)
  # Ids may be any integers, and jit must not change that.
  ids = np.array([70001, 12])[GROUP]
  mixed = jax.jit(advantage)(REWARDS[order], ids[order])
  np.testing.assert_allclose(mixed, np.asarray(straight)[order], atol=1e-6)


def test_a_group_of_equal_rewards_has_advantage_zero_exactly():
  values = VECTORS["advantages"]["zero_variance_group_rewards"]
  got = advantages.grpo(np.array(values), GROUP)
  want = VECTORS["advantages"]["zero_variance_group_ddof1_eps1e-4"]
  np.testing.assert_allclose(got, want, atol=1e-6)
  # 0.1 has no exact float: the mean of seven of them is not 0.1.
  for advantage in advantages.ADVANTAGES.values():
    same = jax.jit(advantage)(np.full(7, 0.1, np.float32), np.zeros(7, int))
    assert not np.asarray(same).any()


def test_batch_std_divides_by_the_std_of_all_rewards():
  rewards = np.array([1.0, 3.0, 0.0, 8.0])
  # Group means 2 and 4; all four: mean 3, squares 4+0+9+25 = 38, 38/3.
  want = np.array([-1, 1, -4, 4]) / np.sqrt(38 / 3)
  got = advantages.batch_std(rewards, np.array([0, 0, 1, 1]), eps=0.0)
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_rloo_of_one_to_six_in_two_groups():
  got = advantages.rloo(np.arange(1.0, 7.0), GROUP)
  np.testing.assert_allclose(got, [-1.5, 0, 1.5] * 2, atol=1e-6)


@pytest.mark.parametrize("name", sorted(advantages.ADVANTAGES))
def test_an_abstaining_reward_leaves_the_others_as_without_it(name):
  advantage = jax.jit(advantages.find(name))
  with_nan = np.array([1.0, np.nan, 0.0, 0.5, np.nan, np.nan])
  got = np.asarray(advantage(with_nan, GROUP))
  keep = [0, 2, 3]
  want = advantage(with_nan[keep], GROUP[keep])
  np.testing.assert_allclose(got[keep], want, atol=1e-6)
  assert got[1] == got[4] == got[5] == 0
  assert got[3] == 0  # alone in its group: nothing to compare with


def test_unknown_advantage_names_what_exists():
  with pytest.raises(UserError, match="batch_std, grpo, mean_only, rloo"):
    advantages.find("gae")


_map_advantages = jax.jit(advantages.map_advantages)


def test_maps_compare_with_their_groups_maps_of_the_same_kind():
  nan = np.nan
  quality = np.array([[0.9, 0.3], [0.5, nan], [0.1, 0.8], [0.7, nan]])
  # Depth is slot 0, segmentation 1. Group 0: three depths (one of them as a
  # second map), two segmentations. Group 1: one depth, alone.
  slot = np.array([[0, 1], [0, -1], [1, 0], [0, -1]])
  group = np.array([0, 0, 0, 1])
  got = np.asarray(_map_advantages(quality, slot, group, 0.0))
  # Depths .9 .5 .8: mean .7333, std .2082; segmentations .3 .1: +-1/sqrt 2.
  depths = (np.array([0.9, 0.5, 0.8]) - 2.2 / 3) / np.std(
    [0.9, 0.5, 0.8], ddof=1
  )
  np.testing.assert_allclose(
    [got[0, 0], got[1, 0], got[2, 1]], depths, rtol=1e-5
  )
  np.testing.assert_allclose(
    [got[0, 1], got[2, 0]], np.array([1, -1]) / np.sqrt(2), rtol=1e-5
  )
  assert got[1, 1] == 0 and got[3, 0] == 0


def test_two_maps_of_one_rollout_are_no_comparison():
  quality = np.array([[0.9, 0.1], [np.nan, np.nan]])
  slot = np.array([[0, 0], [-1, -1]])
  got = _map_advantages(quality, slot, np.array([0, 0]))
  assert not np.asarray(got).any()


def test_codes_know_their_map():
  code = np.array([[0, 1, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1]])
  want = [[0, 1, 1, 0, 0, 2, 2], [0, 0, 0, 0, 0, 1, 1]]
  np.testing.assert_array_equal(advantages.map_index(code, 2), want)


def test_only_a_maps_own_codes_feel_its_quality():
  answer = np.array([1.0, -1.0])
  maps = np.array([[0.5, -0.25], [2.0, 0.0]])
  index = np.array([[0, 1, 1, 0, 2], [0, 0, 1, 0, 0]])
  got = advantages.per_segment(answer, maps, index, map_weight=2.0)
  want = [[1, 2, 2, 1, 0.5], [-1, -1, 3, -1, -1]]
  np.testing.assert_allclose(got, want)
  none = advantages.per_segment(answer, maps[:, :0], index)
  np.testing.assert_allclose(none, np.broadcast_to(answer[:, None], (2, 5)))


def test_summary_counts_groups_that_teach_nothing():
  rewards = np.array([1.0, 1.0, 1.0, 0.0, 1.0, np.nan])
  advantage = advantages.grpo(rewards, GROUP)
  figures = advantages.summary(rewards, GROUP, advantage)
  assert figures["frac_zero_std_groups"] == 0.5
  assert figures["abstained"] == pytest.approx(1 / 6)
  assert figures["advantage_nonzero"] == pytest.approx(2 / 6)
