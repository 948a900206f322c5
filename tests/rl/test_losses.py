"""Claims about the policy losses: vectors, gradients, masks, cut batches."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from cooper_jax.errors import UserError
from cooper_jax.rl import losses
from cooper_jax.rl.losses import LossConfig

VECTORS = json.loads(
  (pathlib.Path(__file__).parents[1] / "vectors/rl.json").read_text()
)
INPUTS = {
  name: np.array(VECTORS["inputs"][name], np.float32)
  for name in ("logps", "old_logps", "ref_logps", "sampler_logps", "mask")
}
MASK = INPUTS["mask"].astype(bool)
GRPO = VECTORS["advantages"]["grpo_ddof1_eps1e-4 (TRL)"]
MEAN_ONLY = VECTORS["advantages"]["dr_grpo_mean_only"]
CASES = {
  "grpo": LossConfig("grpo"),
  "grpo_beta0.04_k3": LossConfig("grpo", kl_weight=0.04),
  "bnpo_or_dapo_token_mean": LossConfig("dapo"),
  "dapo_clip_higher_0.28": LossConfig("dapo", clip_high=0.28),
  "dr_grpo_mean_only_adv": LossConfig("dr_grpo", max_length=8),
  "gspo_eps0.2": LossConfig("gspo"),
  "cispo_trl_max5": LossConfig("cispo", clip_high=5.0),
  "grpo_is_token_truncate_2": LossConfig("grpo", correction="token_truncate"),
  "grpo_row5_fully_masked": LossConfig("grpo"),
}
KINDS = sorted(losses.LOSSES)


def _config(kind):
  high = 5.0 if kind == "cispo" else 0.28
  return LossConfig(kind, max_length=8, clip_high=high)


def _inputs(name="grpo"):
  mask = MASK.copy()
  if name == "grpo_row5_fully_masked":
    mask[5] = False
  inputs = {
    "old_log_prob_RT": INPUTS["old_logps"],
    "advantage_RT": np.array(MEAN_ONLY if name.startswith("dr_") else GRPO),
    "mask_RT": mask,
  }
  if "k3" in name:
    inputs["reference_log_prob_RT"] = INPUTS["ref_logps"]
  if "is_token" in name:
    inputs["sampler_log_prob_RT"] = INPUTS["sampler_logps"]
  return inputs


def _loss(log_prob, config, inputs):
  (total, weight), metrics = losses.policy_loss(log_prob, config, **inputs)
  return total / weight, metrics


_jitted = jax.jit(
  jax.value_and_grad(_loss, has_aux=True), static_argnames="config"
)


def _value_and_gradient(log_prob, config, inputs):
  (value, metrics), gradient = _jitted(jnp.asarray(log_prob), config, inputs)
  return value, metrics, gradient


@pytest.mark.parametrize("name", sorted(CASES))
def test_loss_gradient_and_metrics_match_the_vectors(name):
  want = VECTORS["losses"][name]
  value, metrics, gradient = _value_and_gradient(
    INPUTS["logps"], CASES[name], _inputs(name)
  )
  np.testing.assert_allclose(value, want["loss"], atol=1e-6)
  np.testing.assert_allclose(gradient, want["grad_logps"], atol=1e-6)
  for key in {"clip_low", "clip_high", "kl"} & set(want):
    total, weight = metrics[key]
    np.testing.assert_allclose(total / weight, want[key], atol=1e-6)
  if name == "cispo_trl_max5":
    assert want["clipped_any"] == metrics["clip_high"][0] == 0


def test_every_loss_of_the_vectors_is_tested():
  assert set(CASES) == set(VECTORS["losses"])


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_kl_estimators_and_gradients_match_the_vectors(name):
  x = INPUTS["logps"] - INPUTS["ref_logps"]
  want = VECTORS["kl_per_token_unmasked"]
  estimator = losses.ESTIMATORS[name]
  # 3000 = exp(8) in f32 is good to 3e-4, hence the relative part.
  np.testing.assert_allclose(estimator(x), want[name], rtol=1e-6, atol=1e-6)
  slope = jax.grad(lambda y: estimator(y).sum())(jnp.asarray(x))
  np.testing.assert_allclose(slope, want[f"d_{name}"], rtol=1e-6, atol=1e-6)
  mean = np.asarray(estimator(x))[MASK].mean()
  np.testing.assert_allclose(mean, VECTORS["kl_masked_mean"][name], atol=1e-6)


def test_mismatch_matches_the_vectors():
  total, weight = losses.mismatch(
    INPUTS["old_logps"], INPUTS["sampler_logps"], MASK
  )["mismatch_k3"]
  np.testing.assert_allclose(
    total / weight, VECTORS["sampler_is"]["mismatch_k3_mean"], atol=1e-6
  )


def test_approx_kl_is_the_divergence_of_the_old_policy_from_the_new():
  rng = np.random.default_rng(0)
  old, new = np.log(rng.dirichlet(np.ones(5), 2))
  token = rng.choice(5, (200, 1000), p=np.exp(old))  # the old one's
  _, metrics = _loss(
    jnp.asarray(new[token]),
    LossConfig("dapo"),
    {
      "old_log_prob_RT": old[token],
      "advantage_RT": np.zeros(200),
      "mask_RT": np.ones_like(token, bool),
    },
  )
  total, weight = metrics["approx_kl"]
  there, back = (np.exp(p) @ (p - q) for p, q in ((old, new), (new, old)))
  assert abs(there - back) > 0.1 * there
  assert total / weight == pytest.approx(there, rel=0.03)


def test_k1_in_the_loss_is_refused():
  with pytest.raises(UserError, match="k1 in the loss has zero gradient"):
    LossConfig(kl="k1", kl_weight=0.1)


def test_the_loss_gradients_of_the_kl_estimators_differ_as_claimed():
  # Exact over five arms: sum_a p_a d(estimator)/d(log p_a) d(log p_a) is 0 for
  # k1, grad KL(p|q) for k2 and for ratio-weighted k3, grad KL(q|p) for k3.
  logits = jnp.array([0.3, -1.0, 0.7, 0.0, -0.2])
  other = jax.nn.log_softmax(jnp.array([0.0, 0.5, -0.5, 0.2, 0.1]))

  def expected(term):
    def loss(logits):
      log_prob = jax.nn.log_softmax(logits)
      held = jax.lax.stop_gradient(log_prob)
      return (jnp.exp(held) * term(log_prob - other, log_prob - held)).sum()

    return np.asarray(jax.grad(loss)(logits))

  def kl(one, two):
    return (jnp.exp(one) * (one - two)).sum()

  backward = jax.grad(lambda z: kl(jax.nn.log_softmax(z), other))(logits)
  forward = jax.grad(lambda z: kl(other, jax.nn.log_softmax(z)))(logits)
  k1 = expected(lambda x, _: losses.ESTIMATORS["k1"](x))
  np.testing.assert_allclose(k1, 0, atol=1e-6)
  for name, want in (("k2", backward), ("k3_ratio", backward), ("k3", forward)):
    got = expected(losses.PENALTIES[name])
    np.testing.assert_allclose(got, want, atol=1e-6)
  assert np.abs(forward - backward).max() > 0.05  # or the test says nothing


@pytest.mark.parametrize("kind", KINDS)
def test_masked_tokens_never_leak(kind):
  config = dataclasses.replace(
    _config(kind),
    kl_weight=0.1,
    correction="token_truncate",
    off_policy_max=0.1,
  )
  inputs = _inputs("k3 is_token")
  value, _, gradient = _value_and_gradient(INPUTS["logps"], config, inputs)
  for poison in (-np.inf, np.nan, 50.0):
    dirty = {
      name: np.where(MASK, array, poison)
      if name.endswith("log_prob_RT")
      else array
      for name, array in inputs.items()
    }
    dirty["advantage_RT"] = np.where(
      MASK, inputs["advantage_RT"][:, None], poison
    )
    log_prob = np.where(MASK, INPUTS["logps"], poison)
    got, _, slope = _value_and_gradient(log_prob, config, dirty)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(slope, gradient, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_add_up_to_the_whole(kind):
  config, inputs = _config(kind), _inputs()
  want, _, slope = _value_and_gradient(INPUTS["logps"], config, inputs)
  rows = np.split(np.arange(6), 3)
  cut = [{k: v[index] for k, v in inputs.items()} for index in rows]
  weight = sum(losses.normaliser(part["mask_RT"], config) for part in cut)

  @jax.jit
  @jax.value_and_grad
  def micro(log_prob, part):
    (total, _), _ = losses.policy_loss(log_prob, config, **part)
    return losses.combine(
      {"text": (total, None)}, {"text": config}, {"text": weight}
    )

  values, slopes = zip(
    *(
      micro(jnp.asarray(INPUTS["logps"][index]), part)
      for index, part in zip(rows, cut)
    )
  )
  np.testing.assert_allclose(sum(values), want, atol=1e-6)
  np.testing.assert_allclose(np.concatenate(slopes), slope, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rollouts_changes_nothing(kind):
  config, inputs = _config(kind), _inputs()
  want, _, slope = _value_and_gradient(INPUTS["logps"], config, inputs)
  order = np.array([4, 0, 5, 2, 1, 3])
  value, _, moved = _value_and_gradient(
    np.asarray(INPUTS["logps"])[order],
    config,
    {name: values[order] for name, values in inputs.items()},
  )
  np.testing.assert_allclose(value, want, atol=1e-6)
  np.testing.assert_allclose(moved, slope[order], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_padding_change_nothing(kind):
  config, inputs = _config(kind), _inputs()
  want, metric, _ = _value_and_gradient(INPUTS["logps"], config, inputs)
  padded = {
    k: np.concatenate([v, np.zeros_like(v[:2])]) for k, v in inputs.items()
  }
  padded["mask_RT"][6:] = True  # even where their mask was left on
  padded["rows_R"] = np.arange(8) < 6
  log_prob = np.concatenate([INPUTS["logps"], INPUTS["logps"][:2] + 1])
  got, metrics, _ = _value_and_gradient(log_prob, config, padded)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert metrics["clip_low"][1] == metric["clip_low"][1]


@pytest.mark.parametrize("kind", ["dapo", "cispo"])
def test_on_policy_the_token_losses_have_one_gradient(kind):
  # r = 1: -A dl / (masked tokens), whatever the clip.
  inputs = _inputs() | {"old_log_prob_RT": INPUTS["logps"]}
  config = LossConfig(kind, clip_high=0.2 if kind == "dapo" else 5.0)
  _, metrics, gradient = _value_and_gradient(INPUTS["logps"], config, inputs)
  want = -np.array(GRPO)[:, None] * MASK / MASK.sum()
  np.testing.assert_allclose(gradient, want, atol=1e-6)
  assert metrics["clip_high"][0] == metrics["approx_kl"][0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_masked_gives_zero_and_no_nan(kind):
  inputs = _inputs() | {"mask_RT": np.zeros_like(MASK)}
  log_prob = jnp.full(MASK.shape, -jnp.inf)

  @jax.jit
  @jax.value_and_grad
  def loss(log_prob):
    pair, _ = losses.policy_loss(log_prob, _config(kind), **inputs)
    return losses.combine({"text": pair}, {"text": _config(kind)})

  value, gradient = loss(log_prob)
  assert value == 0
  np.testing.assert_array_equal(gradient, np.zeros(MASK.shape))


def test_a_wild_ratio_stays_finite():
  inputs = _inputs() | {"old_log_prob_RT": INPUTS["old_logps"] - 1e4}
  for kind in KINDS:
    value, _, gradient = _value_and_gradient(
      INPUTS["logps"], _config(kind), inputs
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


CODES = np.zeros_like(MASK)
CODES[:, 2:4] = True
MASKS = {"text": MASK & ~CODES, "code": MASK & CODES}


def _interleaved(log_prob, configs):
  """(value, gradient), compiled once per set of configs."""

  @jax.jit
  @jax.value_and_grad
  def loss(log_prob):
    inputs = _inputs("k3")
    del inputs["mask_RT"]
    parts = losses.interleaved_loss(log_prob, configs, masks=MASKS, **inputs)
    return losses.combine({m: pair for m, (pair, _) in parts.items()}, configs)

  if log_prob.ndim == 2:
    return loss(jnp.asarray(log_prob, jnp.float32))
  return [loss(jnp.asarray(x, jnp.float32)) for x in log_prob]


CONFIGS = {
  "text": LossConfig("dapo", clip_high=0.28),
  "code": LossConfig(
    "grpo", 0.1, 0.1, kl="k3_ratio", kl_weight=0.02, weight=0.5
  ),
}


def test_interleaved_loss_is_the_weighted_sum_of_its_modalities():
  want = 0.0
  for name, config in CONFIGS.items():
    inputs = _inputs("k3") | {"mask_RT": MASKS[name]}
    value, _, _ = _value_and_gradient(INPUTS["logps"], config, inputs)
    want += config.weight * value
  got, _ = _interleaved(INPUTS["logps"], CONFIGS)
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_interleaved_gradient_matches_finite_differences():
  # Central differences in f32: steps of 1e-2, all clear of the clip's edges.
  step = 1e-2
  places = ((0, 1), (1, 2), (2, 2), (4, 3), (5, 0))
  bumps = np.zeros((2 * len(places) + 1, *MASK.shape), np.float32)
  for i, place in enumerate(places):
    bumps[2 * i][place], bumps[2 * i + 1][place] = step, -step
  results = _interleaved(INPUTS["logps"] + bumps, CONFIGS)
  gradient = results[-1][1]
  for i, place in enumerate(places):
    slope = float(results[2 * i][0] - results[2 * i + 1][0]) / (2 * step)
    np.testing.assert_allclose(gradient[place], slope, atol=2e-4)


def test_codes_do_not_drown_the_text():
  # Each modality has its own normaliser: the text's gradient is what it would
  # be without any codes.
  _, gradient = _interleaved(INPUTS["logps"], CONFIGS)
  _, alone = _interleaved(INPUTS["logps"], {"text": CONFIGS["text"]})
  text = MASKS["text"]
  np.testing.assert_allclose(gradient[text], alone[text], atol=1e-7)
  assert np.abs(gradient[MASKS["code"]]).max() > 0


def test_code_weight_zero_is_text_only_and_ignores_broken_codes():
  configs = CONFIGS | {"code": dataclasses.replace(CONFIGS["code"], weight=0.0)}
  broken = np.where(CODES, np.nan, INPUTS["logps"])
  _, gradient = _interleaved(broken, configs)
  gradient = np.asarray(gradient)
  assert np.isfinite(gradient).all()
  assert not gradient[CODES].any()
  assert gradient[MASKS["text"]].any()


def test_bad_settings_are_refused():
  with pytest.raises(UserError, match="allowed are bnpo, cispo, "):
    LossConfig("ppo2")
  with pytest.raises(UserError, match='did you mean "gspo"'):
    LossConfig("gsppo")
  with pytest.raises(UserError, match="clip_high is the largest ratio itself"):
    LossConfig("cispo")
  with pytest.raises(UserError, match="must be above the clip"):
    LossConfig(delta=1.1)
  with pytest.raises(UserError, match="allowed: above 1"):
    LossConfig(dual_clip=0.5)
  with pytest.raises(UserError, match="do nothing in sapo"):
    LossConfig("sapo", dual_clip=3.0)
  with pytest.raises(UserError, match="allowed: min up to max"):
    LossConfig(correction_min=3.0)
  with pytest.raises(UserError, match="allowed: above 0, up to 1"):
    LossConfig(top_entropy=0.0)
  with pytest.raises(UserError, match="allowed are geometric_mask, none"):
    LossConfig(correction="seq")
  with pytest.raises(UserError, match="needs the sampler's"):
    losses.policy_loss(
      INPUTS["logps"], LossConfig(correction="token_mask"), **_inputs()
    )
  with pytest.raises(UserError, match="max_length"):
    LossConfig("dr_grpo", max_length=1)
  with pytest.raises(UserError, match="none may be negative"):
    LossConfig(clip_low=-0.1)
  with pytest.raises(UserError, match="no reference"):
    losses.policy_loss(INPUTS["logps"], LossConfig(kl_weight=0.1), **_inputs())


def test_codes_have_settings_of_their_own():
  rl = base.get_base("long", ("grpo",)).grpo.rl
  rl.loss.clip_low, rl.loss.clip_high = 0.1, 0.3
  rl.code.clip_high, rl.code.kl_weight = 0.5, 0.02
  text, code = losses.configs_of(rl).values()
  assert (text.clip_low, text.clip_high, text.kl_weight) == (0.1, 0.3, 0.0)
  assert (code.clip_low, code.clip_high, code.kl_weight) == (0.1, 0.5, 0.02)
  assert (text.weight, code.weight) == (1.0, rl.code.weight)
  rl.text_only = True
  assert losses.configs_of(rl)["code"].weight == 0
