"""Claims about the terms that have no vectors: values by hand, gradients."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.rl import losses, off_policy
from cooper_jax.rl.losses import LossConfig

VECTORS = json.loads(
  (pathlib.Path(__file__).parents[1] / "vectors/rl.json").read_text()
)
NEW, OLD, MASK = (
  np.array(VECTORS["inputs"][name], np.float64)
  for name in ("logps", "old_logps", "mask")
)
MASK = MASK.astype(bool)
ROWS = len(MASK)
LENGTH = MASK.sum(1, keepdims=True)
X = np.where(MASK, NEW - OLD, 0.0)
R = np.exp(X)
A = np.broadcast_to(
  np.array(VECTORS["advantages"]["grpo_ddof1_eps1e-4 (TRL)"])[:, None], R.shape
)
SEQUENCE = np.exp(X.sum(1, keepdims=True) / LENGTH)  # GSPO's ratio


def value_and_gradient(config, advantage=A, old=OLD, mask=MASK, **more):
  def loss(log_prob):
    (total, weight), metrics = losses.policy_loss(
      log_prob,
      config,
      old_log_prob_RT=jnp.asarray(old, jnp.float32),
      advantage_RT=advantage,
      mask_RT=mask,
      **more,
    )
    return total / weight, metrics

  made = jax.value_and_grad(loss, has_aux=True)
  (value, metrics), slope = jax.jit(made)(jnp.asarray(NEW, jnp.float32))
  metrics = {name: float(a / b) for name, (a, b) in metrics.items()}
  return float(value), np.asarray(slope), metrics


def check(config, value, slope):
  got, gradient, metrics = value_and_gradient(config)
  np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(gradient, slope, rtol=2e-5, atol=1e-6)
  return metrics


def tokens(x):
  return np.where(MASK, x, 0.0)


def sequences(x):
  return tokens(x) / LENGTH / ROWS


def test_sapo_gates_by_a_sigmoid_with_a_temperature_for_each_sign():
  tau = np.where(A > 0, 1.0, 1.05)
  gate = 1 / (1 + np.exp(-tau * (R - 1)))
  metrics = check(
    LossConfig("sapo"),
    sequences(-4 / tau * gate * A).sum(),
    sequences(-A * 4 * gate * (1 - gate) * R),
  )
  assert metrics["clip_low"] == metrics["clip_high"] == 0


def test_vespo_weighs_by_the_ratio_of_the_whole_sequence():
  w = np.exp(X.sum(1, keepdims=True))
  k = np.where(A >= 0, 2.0, 3.0)
  scale = np.where(A >= 0, 3.0, 2.0)
  phi = np.exp(scale + k * np.log(w) - scale * w)
  check(
    LossConfig("vespo"),
    tokens(-phi * A * NEW).sum() / MASK.sum(),
    tokens(-phi * A) / MASK.sum(),
  )


def test_dppo_drops_tokens_whose_probability_moved_too_far():
  moved = np.exp(NEW) - np.exp(OLD)
  low, high = 0.05, 0.03
  dropped = ((A > 0) & (moved > high)) | ((A <= 0) & (moved < -low))
  assert 0 < (dropped & MASK).sum() < MASK.sum()
  weight = np.where(dropped, 0.0, np.minimum(R, 20))
  metrics = check(
    LossConfig("dppo_tv", clip_low=low, clip_high=high),
    tokens(-weight * A * NEW).sum() / MASK.sum(),
    tokens(-weight * A) / MASK.sum(),
  )
  share = (dropped & MASK).sum() / MASK.sum()
  np.testing.assert_allclose(
    metrics["clip_low"] + metrics["clip_high"], share, rtol=1e-6
  )


def test_two_sided_cispo_holds_the_weight_from_both_sides():
  held = np.clip(R, 0.8, 1.28)
  assert (held[MASK] != R[MASK]).any()
  check(
    LossConfig("cispo_two_sided", clip_high=0.28),
    tokens(-held * A * NEW).sum() / MASK.sum(),
    tokens(-held * A) / MASK.sum(),
  )


def _gspo(advantage, factor):
  clip = np.clip(SEQUENCE, 0.8, 1.2)
  free = SEQUENCE * advantage <= clip * advantage
  value = sequences(
    -np.minimum(SEQUENCE * advantage, clip * advantage) * factor
  )
  slope = sequences(np.where(free, -advantage * SEQUENCE, 0.0) * factor)
  return value.sum(), slope


def test_gspo_token_has_gspos_value_and_with_one_advantage_its_gradient():
  value, slope = _gspo(A, 1.0)
  check(LossConfig("gspo_token"), value, slope)


def test_gspo_token_takes_an_advantage_for_each_token():
  rng = np.random.default_rng(0)
  advantage = rng.normal(size=A.shape)
  value, slope = _gspo(advantage, 1.0)
  got, gradient, _ = value_and_gradient(LossConfig("gspo_token"), advantage)
  np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(gradient, slope, rtol=2e-5, atol=1e-6)


def test_luspo_is_gspo_times_the_length_of_the_sequence():
  value, slope = _gspo(A, LENGTH)
  check(LossConfig("luspo"), value, slope)


def test_bnpo_is_dapo_where_a_step_is_one_batch():
  bnpo, dapo = (value_and_gradient(LossConfig(k)) for k in ("bnpo", "dapo"))
  assert bnpo[0] == dapo[0]
  np.testing.assert_array_equal(bnpo[1], dapo[1])


def test_delta_bounds_the_free_ratio():
  wild = OLD - np.linspace(0, 3, OLD.size).reshape(OLD.shape)
  ratio = np.exp(np.where(MASK, NEW - wild, 0.0))
  held = np.clip(ratio, 0.8, 1.2)
  loss = -np.minimum(np.minimum(ratio, 4.0) * A, held * A)
  assert ((ratio > 4) & MASK & (A < 0)).any()
  value, slope, _ = value_and_gradient(LossConfig("dapo", delta=4.0), old=wild)
  np.testing.assert_allclose(value, tokens(loss).sum() / MASK.sum(), rtol=1e-5)
  np.testing.assert_array_equal(slope[(ratio > 4) & MASK & (A < 0)], 0)


def test_dual_clip_bounds_the_loss_of_bad_tokens():
  wild = OLD - np.linspace(0, 3, OLD.size).reshape(OLD.shape)
  ratio = np.exp(np.where(MASK, NEW - wild, 0.0))
  plain = -np.minimum(ratio * A, np.clip(ratio, 0.8, 1.2) * A)
  loss = np.where(A < 0, np.minimum(plain, -3 * A), plain)
  assert (loss != plain)[MASK].any()
  value, slope, _ = value_and_gradient(
    LossConfig("dapo", dual_clip=3.0), old=wild
  )
  np.testing.assert_allclose(value, tokens(loss).sum() / MASK.sum(), rtol=1e-5)
  np.testing.assert_array_equal(slope[(loss != plain) & MASK], 0)


@pytest.mark.parametrize(
  "kind", [k for k in losses.LOSSES if k not in ("dr_grpo", "luspo")]
)
def test_on_policy_every_loss_pushes_the_same_way(kind):
  """At ratio 1 the gradient is -A of each token in the loss, normalised."""
  config = LossConfig(kind, clip_high=5.0 if kind == "cispo" else 0.2)
  _, slope, metrics = value_and_gradient(config, old=NEW)
  by_token = losses.LOSSES[kind][1] == "token"
  want = tokens(-A) / MASK.sum() if by_token else sequences(-A)
  np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-7)
  assert metrics["clip_low"] == metrics["clip_high"] == 0


@pytest.mark.parametrize("kind", losses.BY_SEQUENCE)
def test_sequences_count_as_clipped_though_they_begin_masked(kind):
  """A rollout's first positions are forced, so the first column is masked."""
  mask = MASK & (np.arange(MASK.shape[1]) > 0)
  config = LossConfig(kind, clip_low=0.01, clip_high=0.01)
  _, _, metrics = value_and_gradient(config, mask=mask)
  ratio = np.exp(
    np.where(mask, NEW - OLD, 0).sum(1) / np.maximum(mask.sum(1), 1)
  )
  high = (ratio > 1.01) & (A[:, 0] > 0)
  low = (ratio < 0.99) & (A[:, 0] < 0)
  np.testing.assert_allclose(metrics["clip_high"], high.mean(), rtol=1e-6)
  np.testing.assert_allclose(metrics["clip_low"], low.mean(), rtol=1e-6)
  assert high.any() or low.any()


def test_tokens_of_low_entropy_have_no_gradient():
  entropy = np.random.default_rng(3).uniform(size=MASK.shape)
  config = LossConfig(top_entropy=0.3)
  _, slope, _ = value_and_gradient(config, entropy_RT=entropy)
  _, plain, _ = value_and_gradient(LossConfig())
  kept = np.asarray(off_policy.top_entropy(jnp.asarray(entropy), MASK, 0.3))
  np.testing.assert_allclose(slope, np.where(kept, plain, 0), atol=1e-7)
  assert np.abs(plain[~kept]).max() > 0
  with pytest.raises(UserError, match="needs the tokens' entropies"):
    value_and_gradient(config)


def test_bad_sequences_that_are_stale_have_no_gradient():
  bad, stale = A[:, 0] < 0, np.zeros(ROWS, bool)
  stale[[np.flatnonzero(bad)[0], np.flatnonzero(~bad)[0]]] = True
  sampler = NEW + np.where(stale, 0.4, -0.1)[:, None]
  dropped = stale & bad
  more = {"sampler_log_prob_RT": sampler.astype(np.float32)}
  config = LossConfig(off_policy_max=0.25)
  _, slope, metrics = value_and_gradient(config, **more)
  _, plain, _ = value_and_gradient(LossConfig(), **more)
  want = np.where(dropped[:, None], 0, plain)
  np.testing.assert_allclose(slope, want, atol=1e-7)
  share = MASK[dropped].sum() / MASK.sum()
  np.testing.assert_allclose(metrics["stale"], share, rtol=1e-6)
