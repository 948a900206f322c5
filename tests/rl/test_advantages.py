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

# These whiten over the batch, which moves every row a little.
WHITENED = ("gdpo", "reinforce_pp")
TOKENS = np.array([3, 9, 4, 2, 7, 5])


def compute(name, reward, group, tokens=TOKENS):
  """The advantage by this name where the total is all there is."""
  reward = np.asarray(reward, np.float32)
  rewards = advantages.Rewards(
    reward, reward[:, None], np.ones(1, np.float32), tokens[: len(reward)]
  )
  rule = jax.jit(advantages.find(name), static_argnums=2)
  return np.asarray(rule(rewards, group, 1e-4))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_advantages_match_the_vectors(name):
  got = compute(name, REWARDS, GROUP)
  np.testing.assert_allclose(
    got, VECTORS["advantages"][EXPECTED[name]], atol=1e-6
  )


@pytest.mark.parametrize("name", sorted(advantages.ADVANTAGES))
def test_advantages_follow_the_group_id_not_the_position(name):
  order = np.array([3, 0, 5, 1, 4, 2])
  straight = compute(name, REWARDS, GROUP)
  # Ids may be any integers, and jit must not change that.
  ids = np.array([70001, 12])[GROUP]
  mixed = compute(name, REWARDS[order], ids[order], TOKENS[order])
  np.testing.assert_allclose(mixed, np.asarray(straight)[order], atol=1e-6)


def test_a_group_of_equal_rewards_has_advantage_zero_exactly():
  values = VECTORS["advantages"]["zero_variance_group_rewards"]
  got = advantages.grpo(np.array(values), GROUP)
  want = VECTORS["advantages"]["zero_variance_group_ddof1_eps1e-4"]
  np.testing.assert_allclose(got, want, atol=1e-6)
  # 0.1 has no exact float: the mean of seven of them is not 0.1.
  for name in advantages.ADVANTAGES:
    same = compute(name, np.full(7, 0.1), np.zeros(7, int), np.arange(1, 8))
    assert not same.any(), name


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
  with_nan = np.array([1.0, np.nan, 0.0, 0.5, np.nan, np.nan])
  got = compute(name, with_nan, GROUP)
  keep = [0, 2, 3]
  want = compute(name, with_nan[keep], GROUP[keep], TOKENS[keep])
  np.testing.assert_allclose(got[keep], want, atol=1e-6)
  assert got[1] == got[4] == got[5] == 0
  if name not in WHITENED:
    assert got[3] == 0  # alone in its group: nothing to compare with


def test_reinforce_pp_whitens_over_tokens():
  """By hand: every token of a rollout is one value of the batch."""
  centred = REWARDS - np.repeat([REWARDS[:3].mean(), REWARDS[3:].mean()], 3)
  values = np.repeat(centred, TOKENS)
  want = (centred - values.mean()) / (values.std(ddof=1) + 1e-4)
  got = compute("reinforce_pp", REWARDS, GROUP)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  assert abs(values.mean()) > 1e-3  # or the lengths would not matter


def test_gdpo_gives_small_rewards_their_say():
  """Two rewards of very different range, normalised before they are added."""
  rng = np.random.default_rng(0)
  parts = np.stack([rng.normal(size=6), 1e-3 * rng.normal(size=6)], 1)
  weights = np.array([1.0, 0.5])
  each = [np.asarray(advantages.grpo(p, GROUP, 0.0)) for p in parts.T]
  total = weights[0] * each[0] + weights[1] * each[1]
  want = (total - total.mean()) / total.std(ddof=1)
  got = advantages.gdpo(parts, weights, GROUP, 0.0)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  drowned = advantages.grpo(parts @ weights, GROUP, 0.0)
  assert np.abs(got - np.asarray(drowned)).max() > 0.1


def test_gdpo_lets_a_reward_abstain_for_some():
  parts = np.array([[1.0, np.nan], [0.0, 3.0], [0.5, 1.0], [np.nan, np.nan]])
  group = np.zeros(4, int)
  got = np.asarray(advantages.gdpo(parts, np.ones(2), group))
  assert np.isfinite(got).all() and got[3] == 0 and got[:3].any()


def test_unknown_advantage_names_what_exists():
  with pytest.raises(
    UserError, match="batch_std, gdpo, grpo, mean_only, reinforce_pp, rloo"
  ):
    advantages.find("gae")


_map_advantages = jax.jit(advantages.map_advantages)


def test_maps_compare_with_their_groups_maps_of_the_same_kind():
  nan = np.nan
  quality = np.array([[0.9, 0.3], [0.5, nan], [0.1, 0.8], [0.7, nan]])
  # Depth is modality 0, segmentation 1. Group 0: three depths (one of them as a
  # second map), two segmentations. Group 1: one depth, alone.
  modality = np.array([[0, 1], [0, -1], [1, 0], [0, -1]])
  group = np.array([0, 0, 0, 1])
  got = np.asarray(_map_advantages(quality, modality, group, 0.0))
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
  modality = np.array([[0, 0], [-1, -1]])
  got = _map_advantages(quality, modality, np.array([0, 0]))
  assert not np.asarray(got).any()


def test_maps_that_hardly_differ_have_advantages_as_small_where_rewards_do():
  """Divided by their std, ten thousandths would count as much as halves."""
  quality = np.array([[0.5], [0.5001], [0.4999], [0.5]], np.float32)
  modality, group = np.zeros((4, 1), int), np.zeros(4, int)
  for name, most in (("grpo", 1.0), ("mean_only", 1.1e-4), ("rloo", 1.5e-4)):
    got = advantages.map_advantages(
      quality, modality, group, rule=advantages.find(name)
    )
    np.testing.assert_allclose(np.sum(got), 0.0, atol=1e-3)
    largest = np.abs(got).max()
    assert largest < most and (largest > 0.4) == (name == "grpo")


@pytest.mark.parametrize("name", sorted(advantages.ADVANTAGES))
def test_maps_of_a_kind_follow_the_rule_as_rewards_do(name):
  rng = np.random.default_rng(0)
  quality = rng.random((12, 2)).astype(np.float32)
  quality[rng.random((12, 2)) < 0.2] = np.nan
  quality[:, 1] *= 10  # a kind on another scale changes nothing of the first
  modality = np.tile([0, 5], (12, 1))
  group = np.repeat([3, 9], 6)
  rule = advantages.find(name)
  run = jax.jit(
    advantages.map_advantages, static_argnames=("rule", "modality_ids")
  )
  got = np.asarray(
    run(quality, modality, group, 1e-4, rule=rule, modality_ids=(0, 5))
  )
  for kind in (0, 1):
    alone = compute(name, quality[:, kind], group, np.ones(12))
    np.testing.assert_allclose(got[:, kind], alone, rtol=1e-5, atol=1e-6)
  every = run(quality, modality, group, 1e-4, rule=rule)
  np.testing.assert_allclose(every, got, rtol=1e-5, atol=1e-6)


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


def test_summary_counts_groups_that_have_no_gradient():
  rewards = np.array([1.0, 1.0, 1.0, 0.0, 1.0, np.nan])
  advantage = advantages.grpo(rewards, GROUP)
  figures = advantages.summary(rewards, GROUP, advantage)
  assert figures["frac_zero_std_groups"] == 0.5
  assert figures["abstained"] == pytest.approx(1 / 6)
  assert figures["advantage_nonzero"] == pytest.approx(2 / 6)


def test_summary_leaves_out_what_is_filtered():
  rewards = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.5])
  cut = np.array([False, False, True, False, False, True])
  advantage = np.asarray(advantages.grpo(rewards, GROUP))
  whole = advantages.summary(rewards, GROUP, advantage)
  assert whole["frac_zero_std_groups"] == 0
  figures = advantages.summary(rewards, GROUP, advantage, cut)
  assert figures["frac_zero_std_groups"] == 0.5
  assert figures["advantage_nonzero"] == pytest.approx(4 / 6)
  assert figures["advantage_min"] == pytest.approx(advantage[3])
  assert figures["abstained"] == 0
