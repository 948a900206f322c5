"""Off-policy corrections, where the sampler's log-probabilities are not ours.

With this project's sampler its log-probabilities are the trainer's (an equality
that is tested), and no correction is needed; they differ in another precision
or with another sampler. `on_policy` also sees that a rollout is of older
parameters. No gradient flows through the weights.
"""

import jax.numpy as jnp
from jax.lax import stop_gradient

from cooper_jax.errors import UserError

# exp(20) = 5e8: far outside every clip, and still finite when squared.
LOG_RATIO_LIMIT = 20.0


def as_float(x):
  """An array [...] of any shape as f32, or as f64 where it is that already."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def log_ratio(log_prob_RT, other_RT, mask_RT):
  """log p - log q [R, T], clamped to +-20, and 0 where masked.

  Masked positions may hold anything, -inf included: they are replaced before
  the difference is taken, since a mask multiplied on afterwards gives inf * 0.
  Outside the clamp the gradient is 0.
  """
  one = as_float(jnp.where(mask_RT, log_prob_RT, 0.0))
  two = as_float(jnp.where(mask_RT, other_RT, 0.0))
  return jnp.clip(one - two, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def known(sampler_log_prob_RT, mask_RT):
  """Mask [R, T] without positions where the sampler's log-probability is NaN.

  There p rounds to 1, which counts as agreement.
  """
  return mask_RT & ~jnp.isnan(sampler_log_prob_RT)


def _sequence(gap_RT):
  total_R1 = gap_RT.sum(1, keepdims=True)
  return jnp.clip(total_R1, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def _inside(ratio, low, high):
  return jnp.where((ratio >= low) & (ratio <= high), ratio, 0.0)


# (gap of logs [R, T], length [R, 1], low, high) -> weights that broadcast.
# Products over a map's codes leave any bounds by rounding alone: for maps take
# the token's or the geometric mean's.
CORRECTIONS = {
  "none": lambda gap, n, low, high: jnp.ones_like(gap),
  "token_truncate": lambda gap, n, low, high: jnp.minimum(jnp.exp(gap), high),
  "token_mask": lambda gap, n, low, high: _inside(jnp.exp(gap), low, high),
  "sequence_truncate": lambda gap, n, low, high: jnp.minimum(
    jnp.exp(_sequence(gap)), high
  ),
  "sequence_mask": lambda gap, n, low, high: _inside(
    jnp.exp(_sequence(gap)), 0.0, high
  ),
  "geometric_mask": lambda gap, n, low, high: (
    _inside(jnp.exp(gap.sum(1, keepdims=True) / n), low, high) > 0
  ).astype(gap.dtype),
}


def importance(
  kind: str, old_log_prob_RT, sampler_log_prob_RT, mask_RT, *, low, high
):
  """Weights [R, T] of the tokens from r = p_old / p_sampler; 1 where masked.

  token_truncate: min(r, high). token_mask (IcePop): r, 0 outside [low, high].
  sequence_truncate, sequence_mask (TRL): the same of the product over the
  sequence, the mask from above only. geometric_mask: 1, or 0 for a sequence
  whose geometric mean leaves [low, high].
  """
  if kind not in CORRECTIONS:
    raise UserError(
      f"rl loss correction is {kind!r}, allowed are {', '.join(CORRECTIONS)}"
    )
  known_RT = known(sampler_log_prob_RT, mask_RT)
  gap_RT = log_ratio(old_log_prob_RT, sampler_log_prob_RT, known_RT)
  length_R1 = jnp.maximum(known_RT.sum(1, keepdims=True), 1)
  weight = CORRECTIONS[kind](gap_RT, length_R1, low, high)
  weight_RT = jnp.broadcast_to(weight, gap_RT.shape)
  return stop_gradient(jnp.where(mask_RT, weight_RT, 1.0))


def on_policy(
  log_prob_RT, sampler_log_prob_RT, advantage_RT, mask_RT, largest: float
):
  """False [R, T] on the tokens of stale sequences that did badly.

  Stale: the mean of log p_sampler - log p over the sequence is above `largest`
  (DeepSeek-V3.2, equation 9); the policy hardly samples such a sequence any
  more, so there is no need to push it away.
  """
  known_RT = known(sampler_log_prob_RT, mask_RT)
  gap_RT = log_ratio(sampler_log_prob_RT, log_prob_RT, known_RT)
  length_R1 = jnp.maximum(known_RT.sum(1, keepdims=True), 1)
  stale_R1 = gap_RT.sum(1, keepdims=True) / length_R1 > largest
  return ~(stale_R1 & (advantage_RT < 0))


def top_entropy(entropy_RT, mask_RT, share: float):
  """True [R, T] on the `share` of the masked tokens with the highest entropy.

  arXiv 2506.01939: a fifth of the tokens, those where the policy has a choice,
  carries the learning. Entropies count in steps of 1/4096: rollouts of a group
  begin with the same one, and rounding must not say which of them are above.
  """
  if share >= 1:
    return mask_RT
  steps_RT = jnp.round(as_float(entropy_RT) * 4096)
  trainable_RT = jnp.where(mask_RT, steps_RT, jnp.nan)
  edge = jnp.nanquantile(trainable_RT, 1 - share)
  return mask_RT & (trainable_RT >= edge)
