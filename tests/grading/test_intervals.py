"""Intervals: known values, coverage, and the same figures every time."""

import numpy as np
import pytest

from cooper_jax.grading import intervals


def test_wilson_matches_published_values():
  # Newcombe 1998, table I: 81/263 and 0/20.
  assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
  assert intervals.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
  assert intervals.wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_covers_the_mean_about_95_times_in_100():
  rng = np.random.default_rng(0)
  covered = 0
  for trial in range(200):
    low, high = intervals.bootstrap(rng.normal(size=60), draws=300, seed=trial)
    covered += low <= 0 <= high
  # 95 % of 200 with four standard errors of binomial noise, and the
  # percentile bootstrap's known shortness at n = 60.
  assert 0.88 <= covered / 200 <= 1.0


def test_bootstrap_is_the_same_every_time_and_leaves_out_nan():
  values = np.random.default_rng(1).normal(size=50)
  once = intervals.bootstrap(values)
  assert once == intervals.bootstrap([*values, np.nan])
  assert once != intervals.bootstrap(values, seed=1)
  assert np.isnan(intervals.bootstrap([])).all()


def test_pairs_find_a_difference_that_the_means_hide():
  rng = np.random.default_rng(2)
  hard = rng.normal(0, 5, 100)
  better = hard + 0.5 + rng.normal(0, 0.2, 100)
  low, high = intervals.bootstrap_difference(better, hard)
  assert 0.4 < low < high < 0.6
  assert intervals.permutation(better, hard) < 0.01
  # Control: no difference, no finding.
  noise = hard + rng.normal(0, 0.2, 100)
  low, high = intervals.bootstrap_difference(noise, hard)
  assert low < 0.06 and high > -0.06
  assert intervals.permutation(noise, hard) > 0.05
  assert intervals.permutation(hard, hard) == 1.0


def test_pairs_must_be_pairs():
  with pytest.raises(ValueError, match="paired values differ"):
    intervals.bootstrap_difference([1, 2], [1, 2, 3])


def test_every_group_counts_alike_and_the_interval_covers():
  groups = {"many": np.arange(90), "few": np.arange(90, 100)}
  hits = np.r_[np.ones(90), np.zeros(10)]
  found = intervals.macro("a", hits, groups)
  assert found["a"] == 0.5 and found["a/n"] == 100
  rng, covered = np.random.default_rng(0), 0
  for _ in range(400):
    hits = np.r_[rng.random(90) < 0.8, rng.random(10) < 0.3]
    low, high = intervals.macro("a", hits, groups)["a/ci95"]
    covered += low <= 0.55 <= high
  assert 0.92 <= covered / 400 <= 1.0


@pytest.mark.parametrize("statistic", [np.mean, np.median])
@pytest.mark.parametrize("sizes", [(7, 30, 12), (5,)])
def test_draws_in_blocks_are_draws_one_by_one(sizes, statistic, monkeypatch):
  values = np.random.default_rng(len(sizes))
  runs = [values.normal(size=n) for n in sizes]
  rng = np.random.Generator(np.random.Philox(key=3))
  means = []
  for _ in range(50):
    chosen = rng.integers(0, len(runs), len(runs))
    picked = [rng.choice(runs[c], len(runs[c])) for c in chosen]
    means.append(np.mean([statistic(each) for each in picked]))
  expected = np.quantile(means, (0.025, 0.975))
  monkeypatch.setattr(intervals, "_BLOCK", 20 * sum(sizes))
  found = intervals.nested_bootstrap(
    runs, statistic=statistic, draws=50, seed=3
  )
  np.testing.assert_allclose(found, expected, rtol=1e-12)
