"""Policy losses: what each token adds to the loss, and how tokens are averaged.

The two are independent: a named loss is a surrogate (surrogates.py) and one of
AVERAGES. Every loss returns a (sum, weight) pair, and a caller adds the pairs
of all micro-batches and devices and divides once per optimiser step: a quotient
taken earlier would depend on how the batch was divided.

Text and map codes are two kinds of token with their own clip, KL, weight and
normaliser; otherwise the hundreds of codes of a map drown the text.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from cooper_jax.errors import UserError, nearest
from cooper_jax.rl import off_policy, surrogates
from cooper_jax.rl.off_policy import as_float, log_ratio


@dataclasses.dataclass(frozen=True)
class LossConfig:
  """Settings of the policy loss of one kind of token, text or codes."""

  kind: str = "dapo"  # policy loss (rl/losses.py: LOSSES)
  clip_low: float = 0.2  # clip below a ratio of 1
  clip_high: float = 0.2  # clip above 1; cispo: the largest ratio, as 5.0
  kl: str = "k3"  # estimate of the KL penalty: k2 | k3 | k3_ratio
  kl_weight: float = 0.0  # weight of the KL penalty; 0 = no reference policy
  delta: float = 0.0  # largest free ratio (INTELLECT-2); 0 = none
  dual_clip: float = 0.0  # largest loss over -A where A < 0; 0 = none
  sapo: tuple[float, float] = (1.0, 1.05)  # tau of sapo for A > 0, else
  # k and lambda of vespo for A >= 0, then for A < 0.
  vespo: tuple[float, float, float, float] = (2.0, 3.0, 3.0, 2.0)
  # Correction for a sampler that disagrees (rl/off_policy.py: CORRECTIONS).
  correction: str = "none"
  correction_min: float = 0.5  # least importance ratio that is corrected by
  correction_max: float = 2.0  # largest importance ratio that is corrected by
  off_policy_max: float = 0.0  # mean log gap of a bad sequence; 0 = any
  # Share of the tokens, by entropy, that count. Below 1 the update takes all
  # rollouts at once, whatever grpo.rows says: a quantile does not add up.
  top_entropy: float = 1.0
  max_length: int = 256  # tokens that dr_grpo divides by
  weight: float = 1.0  # of this kind of token in the sum; 0 switches it off

  def __post_init__(self):
    _known(self.kind, LOSSES, "kind")
    penalty(self.kl)
    if self.kind == "dr_grpo" and self.max_length < 2:
      raise UserError(
        f"dr_grpo divides by max_length, got {self.max_length}; set it to the "
        "largest number of tokens a rollout can have"
      )
    _known(self.correction, off_policy.CORRECTIONS, "correction")
    if self.kind == "cispo" and self.clip_high < 1:
      raise UserError(
        f"cispo's clip_high is the largest ratio itself, got {self.clip_high};"
        " set it to 1 and more, for example 5, or take cispo_two_sided"
      )
    if (self.delta or self.dual_clip) and self.kind not in CLIPPED:
      raise UserError(
        f"delta and dual_clip do nothing in {self.kind}; set them to 0, or take"
        f" one of {', '.join(CLIPPED)}"
      )
    if self.correction_min > self.correction_max or self.off_policy_max < 0:
      raise UserError(
        f"correction_min, correction_max and off_policy_max are"
        f" {self.correction_min}, {self.correction_max}, {self.off_policy_max};"
        " allowed: min up to max, and off_policy_max of 0 (any) and more"
      )
    if self.delta and self.delta <= 1 + self.clip_high:
      raise UserError(
        f"delta is {self.delta}; it must be above the clip, 1 + clip_high ="
        f" {1 + self.clip_high}, or be 0 (none)"
      )
    if self.dual_clip and self.dual_clip <= 1:
      raise UserError(
        f"dual_clip is {self.dual_clip}; allowed: above 1, or 0 (none)"
      )
    if not 0 < self.top_entropy <= 1:
      raise UserError(
        f"top_entropy is {self.top_entropy}; allowed: above 0, up to 1 (all)"
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
      f"{nearest(name, table)}"
    )
  return table[name]


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
  # Sequences by their length (LUSPO, arXiv 2602.05261).
  "length": (_token_sum, _sequence_weight),
}

LOSSES = {
  "grpo": (surrogates.clipped, "sequence"),
  "dr_grpo": (surrogates.clipped, "constant"),
  # The normaliser is always that of the whole optimiser step: BNPO's, the
  # tokens of a micro-batch, would depend on how the batch was divided, and is
  # DAPO's where a step is one micro-batch.
  "bnpo": (surrogates.clipped, "token"),
  "dapo": (surrogates.clipped, "token"),
  "gspo": (surrogates.sequence_clipped, "sequence"),
  "gspo_token": (surrogates.sequence_token, "sequence"),
  "luspo": (surrogates.sequence_clipped, "length"),
  "cispo": (surrogates.weighted, "token"),
  "cispo_two_sided": (surrogates.weighted_two_sided, "token"),
  "sapo": (surrogates.soft, "sequence"),
  "vespo": (surrogates.variational, "token"),
  "dppo_tv": (surrogates.bounded_change, "token"),
}
# Those that delta and dual_clip act on.
CLIPPED = ("grpo", "dr_grpo", "bnpo", "dapo", "gspo", "gspo_token", "luspo")
# Those that clip one ratio a sequence: counted by sequence.
BY_SEQUENCE = ("gspo", "gspo_token", "luspo")

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


def mismatch(old_log_prob_RT, sampler_log_prob_RT, mask_RT):
  """(sum, weight) pairs: how far sampler and trainer disagree, per token.

  `mismatch_k3` estimates KL(sampler | trainer), `mismatch_abs` is the mean
  absolute difference of the log-probabilities.
  """
  known_RT = off_policy.known(sampler_log_prob_RT, mask_RT)
  gap_RT = log_ratio(old_log_prob_RT, sampler_log_prob_RT, known_RT)
  weight = known_RT.sum().astype(jnp.float32)
  return {
    "mismatch_k3": (ESTIMATORS["k3"](-gap_RT).sum(), weight),
    "mismatch_abs": (jnp.abs(gap_RT).sum(), weight),
  }


def normaliser(mask_RT, config: LossConfig, rows_R=None):
  """The weight, a scalar, that `policy_loss` returns, from the mask alone.

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
  entropy_RT=None,
  rows_R=None,
):
  """((sum, weight), metrics) of the policy loss over the masked tokens.

  advantage_RT may also be [R]. rows_R is False on rows that pad the batch.
  On-policy, pass `stop_gradient(log_prob_RT)` as the old one: the ratio is
  exactly 1 and a forward pass is saved. entropy_RT is only needed by
  `top_entropy`. Metrics are (sum, weight) pairs too.
  """
  mask_RT, rows_R = _masks(mask_RT, rows_R)
  advantage_RT = as_float(advantage_RT)
  if advantage_RT.ndim == 1:
    advantage_RT = advantage_RT[:, None]
  # A number that is not finite would leak through the gradient of the mask.
  advantage_RT = jnp.where(mask_RT, advantage_RT, 0.0)
  make_term, average = LOSSES[config.kind]
  old_RT = stop_gradient(old_log_prob_RT)
  log_ratio_RT = log_ratio(log_prob_RT, old_RT, mask_RT)
  term = make_term(log_ratio_RT, advantage_RT, log_prob_RT, mask_RT, config)
  loss_RT = term.loss_RT
  metrics = _clip_metrics(term, mask_RT, rows_R, config)
  tokens = _token_weight(mask_RT, rows_R, config)
  # The tokens are the old policy's, so of KL(old | new).
  metrics["approx_kl"] = (ESTIMATORS["k3"](-log_ratio_RT).sum(), tokens)
  if sampler_log_prob_RT is not None:
    metrics |= mismatch(old_RT, sampler_log_prob_RT, mask_RT)
    if config.correction != "none":
      weight_RT = off_policy.importance(
        config.correction,
        old_RT,
        sampler_log_prob_RT,
        mask_RT,
        low=config.correction_min,
        high=config.correction_max,
      )
      loss_RT = loss_RT * weight_RT
      metrics["correction"] = (jnp.where(mask_RT, weight_RT, 0.0).sum(), tokens)
    if config.off_policy_max:
      fresh_RT = off_policy.on_policy(
        log_prob_RT,
        sampler_log_prob_RT,
        advantage_RT,
        mask_RT,
        config.off_policy_max,
      )
      loss_RT = jnp.where(fresh_RT, loss_RT, 0.0)
      metrics["stale"] = (
        (~fresh_RT & mask_RT).sum().astype(jnp.float32),
        tokens,
      )
  elif config.correction != "none" or config.off_policy_max:
    raise UserError(
      "a correction for the sampler needs the sampler's log-probabilities; set"
      " correction to none and off_policy_max to 0, or hand them over"
    )
  if config.top_entropy < 1:
    if entropy_RT is None:
      raise UserError("top_entropy needs the tokens' entropies; set it to 1")
    chosen_RT = off_policy.top_entropy(entropy_RT, mask_RT, config.top_entropy)
    loss_RT = jnp.where(chosen_RT, loss_RT, 0.0)
  if reference_log_prob_RT is not None:
    x_RT = log_ratio(log_prob_RT, stop_gradient(reference_log_prob_RT), mask_RT)
    kl_RT = jnp.where(mask_RT, penalty(config.kl)(x_RT, log_ratio_RT), 0.0)
    loss_RT = loss_RT + config.kl_weight * kl_RT
    metrics["kl"] = (ESTIMATORS["k3"](x_RT).sum(), tokens)
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


def _clip_metrics(term, mask_RT, rows_R, config):
  """Shares of the tokens, or sequences, that were held back, by side."""
  trainable_RT = mask_RT & rows_R[:, None]
  held = {
    "clip_low": term.low_RT & trainable_RT,
    "clip_high": term.high_RT & trainable_RT,
  }
  if config.kind in BY_SEQUENCE:
    held = {name: held_RT.any(1) for name, held_RT in held.items()}
    trainable_RT = rows_R
  weight = trainable_RT.sum().astype(jnp.float32)
  return {
    name: (some.sum().astype(jnp.float32), weight)
    for name, some in held.items()
  }


def interleaved_loss(log_prob_RT, configs, *, masks, **inputs):
  """{kind: ((sum, weight), metrics)} of the loss of text and of codes.

  `configs` and `masks` map a kind of token ("text", "code") to its LossConfig
  and its [R, T] mask. A kind of weight 0 is left out, so that nothing of it can
  reach the gradient: code weight 0 is text-only reinforcement.
  """
  return {
    name: policy_loss(log_prob_RT, config, mask_RT=masks[name], **inputs)
    for name, config in configs.items()
    if config.weight
  }


def combine(parts, configs, weights=None):
  """The scalar loss: of each kind its weight times its mean over tokens.

  `parts` maps a kind of token to its (sum, weight). `weights`, where given,
  maps it to the `normaliser` of the whole optimiser step, for micro-batches.
  """
  loss = jnp.zeros((), jnp.float32)
  for name, (total, weight) in parts.items():
    weight = weight if weights is None else weights[name]
    loss = loss + configs[name].weight * total / jnp.maximum(weight, 1.0)
  return loss


def configs_of(rl) -> dict[str, LossConfig]:
  """LossConfig of "text" and of "code", from `config.grpo.rl`.

  A setting of `code` that is -1 is that of text.
  """
  text = LossConfig(**rl.loss, weight=1.0)
  own = {name: value for name, value in rl.code.items() if value != -1}
  code = dataclasses.replace(text, **own)
  if rl.text_only:
    code = dataclasses.replace(code, weight=0.0)
  return {"text": text, "code": code}


def needs_reference(rl) -> bool:
  """Whether a KL penalty in `config.grpo.rl` asks for reference parameters."""
  return any(each.kl_weight for each in configs_of(rl).values())
