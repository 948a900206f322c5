"""Policy losses: the term of a token and the way the tokens are averaged.

The two are independent and stand in two tables; a named loss is a pair of
them. Every loss returns a (sum, weight) pair, and a caller adds the pairs of
all micro-batches and devices and divides once per optimiser step: a quotient
taken earlier would depend on how the batch was cut.

Text and map codes are two modalities with their own clip, KL, weight and
normaliser; otherwise the hundreds of codes of a map drown the text.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from cooper_jax.errors import UserError

# exp(20) = 5e8: far outside every clip, and still finite when squared.
LOG_RATIO_LIMIT = 20.0


@dataclasses.dataclass(frozen=True)
class LossConfig:
  """Settings of the policy loss of one modality."""

  kind: str = "dapo"
  clip_low: float = 0.2
  clip_high: float = 0.2  # cispo: the largest ratio itself, for example 5
  kl: str = "k3"
  kl_weight: float = 0.0
  importance_max: float = 0.0  # 0 = no correction for the sampler's numbers
  max_length: int = 1  # dr_grpo: the constant length it divides by
  weight: float = 1.0  # of this modality in the sum; 0 switches it off

  def __post_init__(self):
    _known(self.kind, LOSSES, "kind")
    penalty(self.kl)
    if self.kind == "dr_grpo" and self.max_length < 2:
      raise UserError(
        f"dr_grpo divides by max_length, got {self.max_length}; set it to the "
        "largest number of tokens a rollout can have"
      )
    if self.clip_low < 0 or self.clip_high < 0 or self.kl_weight < 0:
      raise UserError(
        f"clip_low, clip_high and kl_weight are {self.clip_low}, "
        f"{self.clip_high}, {self.kl_weight}; none may be negative"
      )


def _known(name, table, field):
  if name not in table:
    raise UserError(
      f"rl loss {field} is {name!r}, allowed are {', '.join(sorted(table))}"
    )
  return table[name]


def log_ratio(log_prob_RT, other_RT, mask_RT):
  """log p - log q, clamped to +-20, and 0 where masked.

  Masked slots may hold anything, -inf included: they are replaced before the
  difference is taken, since a mask multiplied on afterwards gives inf * 0.
  Outside the clamp the gradient is 0.
  """
  one = jnp.where(mask_RT, log_prob_RT, 0.0).astype(jnp.float32)
  two = jnp.where(mask_RT, other_RT, 0.0).astype(jnp.float32)
  return jnp.clip(one - two, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


# Terms: (log ratio, advantage, log prob, mask, config) -> (loss, ratio), [R,T].


def _clipped_term(ratio, advantage, config):
  held = jnp.clip(ratio, 1 - config.clip_low, 1 + config.clip_high)
  return -jnp.minimum(ratio * advantage, held * advantage)


def clipped(log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config):
  """-min(r A, clip(r) A) of each token (GRPO, PPO)."""
  del log_prob_RT, mask_RT
  ratio_RT = jnp.exp(log_ratio_RT)
  return _clipped_term(ratio_RT, advantage_RT, config), ratio_RT


def sequence_clipped(log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config):
  """The same with one ratio per sequence, exp(mean log ratio) (GSPO)."""
  del log_prob_RT
  length_R1 = jnp.maximum(mask_RT.sum(1, keepdims=True), 1)
  mean_R1 = log_ratio_RT.sum(1, keepdims=True) / length_R1
  ratio_RT = jnp.broadcast_to(jnp.exp(mean_R1), mask_RT.shape)
  return _clipped_term(ratio_RT, advantage_RT, config), ratio_RT


def weighted_log_prob(log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config):
  """-sg(min(r, clip_high)) A log p: no token is ever dropped (CISPO, TRL)."""
  ratio_RT = jnp.exp(log_ratio_RT)
  held_RT = stop_gradient(jnp.minimum(ratio_RT, config.clip_high))
  log_prob_RT = jnp.where(mask_RT, log_prob_RT, 0.0).astype(jnp.float32)
  return -held_RT * advantage_RT * log_prob_RT, ratio_RT


# Averages: (loss [R,T], mask, rows [R], config) -> sum; (mask, ..) -> weight.


def _sequence_sum(loss_RT, mask_RT, rows_R, config):
  del config
  length_R = jnp.maximum(mask_RT.sum(1), 1)
  return jnp.where(rows_R, loss_RT.sum(1) / length_R, 0.0).sum()


def _sequence_weight(mask_RT, rows_R, config):
  del mask_RT, config
  return rows_R.sum().astype(jnp.float32)


def _token_sum(loss_RT, mask_RT, rows_R, config):
  del mask_RT, config
  return jnp.where(rows_R[:, None], loss_RT, 0.0).sum()


def _token_weight(mask_RT, rows_R, config):
  del config
  return (mask_RT & rows_R[:, None]).sum().astype(jnp.float32)


def _constant_weight(mask_RT, rows_R, config):
  return _sequence_weight(mask_RT, rows_R, config) * config.max_length


# An empty row stays in the mean over sequences (as TRL); a row of padding does
# not, which is what `rows_R` says.
AVERAGES = {
  "sequence": (_sequence_sum, _sequence_weight),
  "token": (_token_sum, _token_weight),
  "constant": (_token_sum, _constant_weight),
}

LOSSES = {
  "grpo": (clipped, "sequence"),
  "dr_grpo": (clipped, "constant"),
  "dapo": (clipped, "token"),
  "gspo": (sequence_clipped, "sequence"),
  "cispo": (weighted_log_prob, "token"),
}

# k1, k2, k3 of x = log p - log ref (Schulman): the value estimates KL(p | ref).
ESTIMATORS = {
  "k1": lambda x: x,
  "k2": lambda x: 0.5 * x**2,
  "k3": lambda x: jnp.exp(-x) + x - 1.0,
}


def _ratio_weighted_k3(x, log_ratio_RT):
  return jnp.exp(log_ratio_RT) * ESTIMATORS["k3"](x)


# In a loss only the gradient counts: k2's is that of KL(p | ref), k3's that of
# the forward KL(ref | p); ratio-weighted k3, with its gradient through the
# ratio, has KL(p | ref)'s off-policy too.
PENALTIES = {
  "k2": lambda x, _: ESTIMATORS["k2"](x),
  "k3": lambda x, _: ESTIMATORS["k3"](x),
  "k3_ratio": _ratio_weighted_k3,
}


def penalty(name: str):
  """The KL penalty of this name; k1 is refused, its mean gradient is zero."""
  if name == "k1":
    raise UserError(
      "KL estimator k1 in the loss has zero gradient on average and only adds "
      "noise; set kl to k3, k3_ratio or k2"
    )
  return _known(name, PENALTIES, "kl")


def importance(old_log_prob_RT, sampler_log_prob_RT, mask_RT, maximum):
  """min(p_old / p_sampler, maximum) of each token, 1 where masked, detached.

  A sampler log-probability that is NaN (p rounds to 1) counts as agreement.
  """
  known_RT = mask_RT & ~jnp.isnan(sampler_log_prob_RT)
  gap_RT = log_ratio(old_log_prob_RT, sampler_log_prob_RT, known_RT)
  return stop_gradient(jnp.minimum(jnp.exp(gap_RT), maximum))


def mismatch(old_log_prob_RT, sampler_log_prob_RT, mask_RT):
  """(sum, weight) pairs that say how far sampler and trainer disagree."""
  known_RT = mask_RT & ~jnp.isnan(sampler_log_prob_RT)
  gap_RT = log_ratio(old_log_prob_RT, sampler_log_prob_RT, known_RT)
  weight = known_RT.sum().astype(jnp.float32)
  return {
    "mismatch_k3": (ESTIMATORS["k3"](-gap_RT).sum(), weight),
    "mismatch_abs": (jnp.abs(gap_RT).sum(), weight),
  }


def normaliser(mask_RT, config: LossConfig, rows_R=None):
  """The weight that `policy_loss` returns, from the mask alone.

  With micro-batches, add this up over all of them first and divide each one's
  sum by the total: the gradients then add up to those of the whole batch.
  """
  mask_RT, rows_R = _masks(mask_RT, rows_R)
  return AVERAGES[LOSSES[config.kind][1]][1](mask_RT, rows_R, config)


def _masks(mask_RT, rows_R):
  mask_RT = jnp.asarray(mask_RT).astype(bool)
  if rows_R is None:
    rows_R = jnp.ones(mask_RT.shape[0], bool)
  return mask_RT, jnp.asarray(rows_R).astype(bool)


def policy_loss(
  log_prob_RT,
  config: LossConfig,
  *,
  old_log_prob_RT,
  advantage_RT,
  mask_RT,
  sampler_log_prob_RT=None,
  reference_log_prob_RT=None,
  rows_R=None,
):
  """((sum, weight), metrics) of the policy loss over the masked tokens.

  advantage_RT may also be [R]. rows_R is False on rows that pad the batch.
  On-policy, pass `stop_gradient(log_prob_RT)` as the old one: the ratio is
  exactly 1 and a forward pass is saved. Metrics are (sum, weight) pairs too.
  """
  mask_RT, rows_R = _masks(mask_RT, rows_R)
  advantage_RT = jnp.asarray(advantage_RT, jnp.float32)
  if advantage_RT.ndim == 1:
    advantage_RT = advantage_RT[:, None]
  # A number that is not finite would leak through the gradient of the mask.
  advantage_RT = jnp.where(mask_RT, advantage_RT, 0.0)
  term, average = LOSSES[config.kind]
  old_RT = stop_gradient(old_log_prob_RT)
  log_ratio_RT = log_ratio(log_prob_RT, old_RT, mask_RT)
  loss_RT, ratio_RT = term(
    log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config
  )
  metrics = _clip_metrics(ratio_RT, advantage_RT, mask_RT, rows_R, config)
  live = _token_weight(mask_RT, rows_R, config)
  metrics["approx_kl"] = (ESTIMATORS["k3"](log_ratio_RT).sum(), live)
  if sampler_log_prob_RT is not None:
    metrics |= mismatch(old_RT, sampler_log_prob_RT, mask_RT)
    if config.importance_max > 0:
      loss_RT = loss_RT * importance(
        old_RT, sampler_log_prob_RT, mask_RT, config.importance_max
      )
  if reference_log_prob_RT is not None:
    x_RT = log_ratio(log_prob_RT, stop_gradient(reference_log_prob_RT), mask_RT)
    kl_RT = jnp.where(mask_RT, penalty(config.kl)(x_RT, log_ratio_RT), 0.0)
    loss_RT = loss_RT + config.kl_weight * kl_RT
    metrics["kl"] = (ESTIMATORS["k3"](x_RT).sum(), live)
  elif config.kl_weight:
    raise UserError(
      f"kl_weight is {config.kl_weight} but there are no reference "
      "log-probabilities; set it to 0 or keep a reference model"
    )
  loss_RT = jnp.where(mask_RT, loss_RT, 0.0)
  add, weigh = AVERAGES[average]
  total = add(loss_RT, mask_RT, rows_R, config)
  metrics = jax.tree.map(stop_gradient, metrics)
  return (total, weigh(mask_RT, rows_R, config)), metrics


def _clip_metrics(ratio_RT, advantage_RT, mask_RT, rows_R, config):
  """Shares of tokens (gspo: of sequences) whose ratio the clip holds."""
  if config.kind == "cispo":
    low_RT = jnp.zeros_like(mask_RT)
    high_RT = (ratio_RT > config.clip_high) & (advantage_RT > 0)
  else:
    low_RT = (ratio_RT < 1 - config.clip_low) & (advantage_RT < 0)
    high_RT = (ratio_RT > 1 + config.clip_high) & (advantage_RT > 0)
  if config.kind == "gspo":
    mask_RT = mask_RT.at[:, 0].set(rows_R).at[:, 1:].set(False)
  mask_RT = mask_RT & rows_R[:, None]
  weight = mask_RT.sum().astype(jnp.float32)
  return {
    "clip_low": ((low_RT & mask_RT).sum().astype(jnp.float32), weight),
    "clip_high": ((high_RT & mask_RT).sum().astype(jnp.float32), weight),
  }


def interleaved_loss(log_prob_RT, configs, *, masks, **inputs):
  """{modality: ((sum, weight), metrics)} of text and codes side by side.

  `configs` and `masks` map a modality ("text", "code") to its LossConfig and
  its [R,T] mask. A modality of weight 0 is left out, so that nothing of it can
  reach the gradient: code weight 0 is text-only reinforcement.
  """
  return {
    name: policy_loss(log_prob_RT, config, mask_RT=masks[name], **inputs)
    for name, config in configs.items()
    if config.weight
  }


def combine(parts, configs, weights=None):
  """The scalar loss: modality weights times sum over weight, divided once.

  `parts` maps a modality to its (sum, weight). `weights`, where given, maps it
  to the `normaliser` of the whole optimiser step, for micro-batches.
  """
  loss = jnp.zeros((), jnp.float32)
  for name, (total, weight) in parts.items():
    weight = weight if weights is None else weights[name]
    loss = loss + configs[name].weight * total / jnp.maximum(weight, 1.0)
  return loss
