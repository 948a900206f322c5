"""Surrogates: a token's share of the policy loss, by the name of the method.

Every term is a function (log ratio, advantage, log prob, mask, config) -> Term
of arrays [R, T]; how the tokens are averaged is losses.py's business. `config`
is its LossConfig. The gradient flows through the log ratio and the log prob.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from cooper_jax.rl.off_policy import LOG_RATIO_LIMIT, as_float

LARGEST_RATIO = 20.0  # of the ratio that DPPO weighs with


class Term(NamedTuple):
  """Loss [R, T], and which tokens were clipped from below and above."""

  loss_RT: jax.Array
  low_RT: jax.Array
  high_RT: jax.Array


def _clip(ratio_RT, advantage_RT, config) -> Term:
  """-min(r A, clip(r) A), with the two optional bounds for large ratios."""
  low, high = 1 - config.clip_low, 1 + config.clip_high
  held_RT = jnp.clip(ratio_RT, low, high)
  free_RT = jnp.minimum(ratio_RT, config.delta) if config.delta else ratio_RT
  loss_RT = -jnp.minimum(free_RT * advantage_RT, held_RT * advantage_RT)
  if config.dual_clip:
    most_RT = jnp.minimum(loss_RT, -config.dual_clip * advantage_RT)
    loss_RT = jnp.where(advantage_RT < 0, most_RT, loss_RT)
  return Term(
    loss_RT,
    (ratio_RT < low) & (advantage_RT < 0),
    (ratio_RT > high) & (advantage_RT > 0),
  )


def _unheld(loss_RT) -> Term:
  none_RT = jnp.zeros(loss_RT.shape, bool)
  return Term(loss_RT, none_RT, none_RT)


def _mean(log_ratio_RT, mask_RT):
  """The mean log ratio of each sequence [R, 1]; masked tokens hold 0."""
  length_R1 = jnp.maximum(mask_RT.sum(1, keepdims=True), 1)
  return log_ratio_RT.sum(1, keepdims=True) / length_R1


def _masked(log_prob_RT, mask_RT):
  return as_float(jnp.where(mask_RT, log_prob_RT, 0.0))


def clipped(log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config) -> Term:
  """PPO's clipped ratio of each token (GRPO, arXiv 2402.03300)."""
  del log_prob_RT, mask_RT
  return _clip(jnp.exp(log_ratio_RT), advantage_RT, config)


def sequence_clipped(
  log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config
) -> Term:
  """One ratio per sequence, exp(mean log ratio) (GSPO, arXiv 2507.18071).

  The gradient of a sequence goes through its one ratio, so an advantage of its
  own on a map's codes is spread over the sequence; `sequence_token` keeps it.
  """
  del log_prob_RT
  mean_RT = jnp.broadcast_to(_mean(log_ratio_RT, mask_RT), mask_RT.shape)
  return _clip(jnp.exp(mean_RT), advantage_RT, config)


def sequence_token(
  log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config
) -> Term:
  """GSPO's value with a gradient per token, for advantages per token."""
  del log_prob_RT
  mean_R1 = stop_gradient(_mean(log_ratio_RT, mask_RT))
  ratio_RT = jnp.exp(mean_R1 + log_ratio_RT - stop_gradient(log_ratio_RT))
  return _clip(ratio_RT, advantage_RT, config)


def weighted(log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config) -> Term:
  """-sg(min(r, clip_high)) A log p (CISPO as in TRL): no token is dropped."""
  ratio_RT = jnp.exp(log_ratio_RT)
  held_RT = stop_gradient(jnp.minimum(ratio_RT, config.clip_high))
  term = _unheld(-held_RT * advantage_RT * _masked(log_prob_RT, mask_RT))
  high_RT = (ratio_RT > config.clip_high) & (advantage_RT > 0)
  return term._replace(high_RT=high_RT)


def weighted_two_sided(
  log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config
) -> Term:
  """-sg(clip(r, 1 - low, 1 + high)) A log p (CISPO, arXiv 2506.13585)."""
  ratio_RT = jnp.exp(log_ratio_RT)
  low, high = 1 - config.clip_low, 1 + config.clip_high
  held_RT = stop_gradient(jnp.clip(ratio_RT, low, high))
  loss_RT = -held_RT * advantage_RT * _masked(log_prob_RT, mask_RT)
  return Term(loss_RT, ratio_RT < low, ratio_RT > high)


def soft(log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config) -> Term:
  """-(4 / tau) sigmoid(tau (r - 1)) A (SAPO, arXiv 2511.20347)."""
  del log_prob_RT, mask_RT
  positive, negative = config.sapo
  tau_RT = jnp.where(advantage_RT > 0, positive, negative)
  gate_RT = jax.nn.sigmoid(tau_RT * (jnp.exp(log_ratio_RT) - 1))
  return _unheld(-4 / tau_RT * gate_RT * advantage_RT)


def variational(
  log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config
) -> Term:
  """-sg(phi(w)) A log p, w the sequence's ratio (VESPO, arXiv 2602.10693).

  phi(w) = w^k exp(lambda (1 - w)), with (k, lambda) by the advantage's sign.
  """
  total_R1 = log_ratio_RT.sum(1, keepdims=True)
  total_R1 = jnp.clip(total_R1, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
  up_k, up_scale, down_k, down_scale = config.vespo
  k_RT = jnp.where(advantage_RT >= 0, up_k, down_k)
  scale_RT = jnp.where(advantage_RT >= 0, up_scale, down_scale)
  phi_RT = jnp.exp(k_RT * total_R1 + scale_RT * (1 - jnp.exp(total_R1)))
  log_prob_RT = _masked(log_prob_RT, mask_RT)
  return _unheld(-stop_gradient(phi_RT) * advantage_RT * log_prob_RT)


def bounded_change(
  log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config
) -> Term:
  """-sg(r) A log p while p moved by at most clip_low or clip_high (DPPO-TV).

  arXiv 2602.04879: the bound is on the probability, not on the ratio, so that
  a rare token may move freely.
  """
  log_prob_RT = _masked(log_prob_RT, mask_RT)
  moved_RT = jnp.exp(log_prob_RT) - jnp.exp(log_prob_RT - log_ratio_RT)
  high_RT = (moved_RT > config.clip_high) & (advantage_RT > 0)
  low_RT = (moved_RT < -config.clip_low) & (advantage_RT <= 0)
  ratio_RT = stop_gradient(jnp.minimum(jnp.exp(log_ratio_RT), LARGEST_RATIO))
  loss_RT = -ratio_RT * advantage_RT * log_prob_RT
  return Term(jnp.where(high_RT | low_RT, 0.0, loss_RT), low_RT, high_RT)
