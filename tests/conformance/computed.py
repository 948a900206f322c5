"""What this project computes of RL, by the names that files of values use."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.rl import advantages, losses, off_policy
from cooper_jax.rl.rewards import length
from cooper_jax.sequences import distribution
from tests.conformance.cases import OFF_POLICY, loss_cases

MOST = 2.0**31 - 1  # a bound that bounds nothing


class Unknown(Exception):
  """A case that this command has no computation for."""


class Computed:
  """Everything that a file may ask for, from its inputs."""

  def __init__(self, inputs: dict):
    self.given = {
      name: np.array(inputs[name], np.float64)
      for name in (
        "logps old_logps ref_logps sampler_logps mask entropies"
        " rewards_per_func reward_weights rewards logits"
      ).split()
      if name in inputs
    }
    self.mask = self.given["mask"].astype(bool)
    rows = len(self.mask)
    self.group = np.arange(rows) // int(inputs["num_generations"])
    self.targets = np.array(inputs.get("token_ids", ()), int)
    self.longest = int(inputs["max_completion_length"])
    self.gap = np.where(
      self.mask, self.given["old_logps"] - self.given["sampler_logps"], 0.0
    )

  def advantage(self, name, rewards=None, eps=1e-4):
    """Advantages [R] by a name of `advantages.ADVANTAGES`."""
    rewards = self.given["rewards"] if rewards is None else rewards
    parts = self.given.get("rewards_per_func", rewards[:, None])
    weights = self.given.get("reward_weights", np.ones(1))
    tokens = self.mask.sum(1)
    made = advantages.Rewards(rewards, parts, weights, tokens)
    return np.asarray(advantages.find(name)(made, self.group, eps))

  # Sections of a file: name -> a value or an array, {} of it, or Unknown.

  def advantages(self, name, section):
    zero = section.get("zero_variance_group_rewards")
    wrong = np.where(
      np.arange(len(self.mask)) == 1, np.nan, self.given["rewards"]
    )
    made = {
      "grpo_ddof1_eps1e-4 (TRL)": lambda: self.advantage("grpo"),
      "grpo_ddof1_eps1e-6 (verl, Tunix)": lambda: self.advantage(
        "grpo", eps=1e-6
      ),
      "dr_grpo_mean_only": lambda: self.advantage("mean_only"),
      "rloo": lambda: self.advantage("rloo"),
      "batch_std_eps1e-4 (TRL scale_rewards=batch)": lambda: self.advantage(
        "batch_std"
      ),
      "gdpo_eps1e-4 (TRL normalize_then_sum)": lambda: self.advantage("gdpo"),
      "reinforce_pp_baseline_token_whitened (verl)": lambda: self.advantage(
        "reinforce_pp", eps=0.0
      ),
      "nan_reward_row1_rewards_others_same": lambda: self.advantage(
        "grpo", rewards=wrong
      ),
      "zero_variance_group_rewards": lambda: zero,  # an input
      "zero_variance_group_ddof1_eps1e-4": lambda: self.advantage(
        "grpo", rewards=np.array(zero, np.float64)
      ),
      "frac_zero_std_groups": lambda: advantages.summary(
        zero, self.group, np.zeros(len(zero))
      )["frac_zero_std_groups"],
    }
    found = _named(made, name)()
    if np.ndim(section[name]) == 2:  # the same on every live token
      return np.where(self.mask, np.asarray(found)[:, None], 0.0)
    return found

  def kl_per_token_unmasked(self, name, section):
    x = jnp.asarray(self.given["logps"] - self.given["ref_logps"])
    made = dict(losses.ESTIMATORS)
    made |= {
      f"d_{kind}": jax.grad(lambda y, each=each: each(y).sum())
      for kind, each in losses.ESTIMATORS.items()
    }
    return _named(made, name)(x)

  def kl_masked_mean(self, name, section):
    each = np.asarray(self.kl_per_token_unmasked(name, section))
    return each[self.mask].mean()

  def losses(self, name, section):
    case = _named(loss_cases(self.longest), name)
    mask = self.mask.copy()
    if case.empty_row is not None:
      mask[case.empty_row] = False
    inputs = {
      "old_log_prob_RT": self.given["old_logps"],
      "advantage_RT": self.advantage(case.advantage),
      "mask_RT": mask,
    }
    config = case.config
    if config.kl_weight:
      inputs["reference_log_prob_RT"] = self.given["ref_logps"]
    if config.correction != "none" or config.off_policy_max:
      inputs["sampler_log_prob_RT"] = self.given["sampler_logps"]
    if config.top_entropy < 1:
      inputs["entropy_RT"] = self.given["entropies"]

    def loss(log_prob):
      (total, weight), metrics = losses.policy_loss(log_prob, config, **inputs)
      return total / weight, metrics

    found, gradient = jax.value_and_grad(loss, has_aux=True)(
      jnp.asarray(self.given["logps"])
    )
    value, metrics = found
    counted = {k: float(a / b) for k, (a, b) in metrics.items()}
    lengths = np.maximum(mask.sum(1), 1)
    ratio = np.where(mask, self.given["logps"] - self.given["old_logps"], 0.0)
    most = config.clip_high + (config.kind != "cispo")
    least = 0.0 if config.kind == "cispo" else 1 - config.clip_low
    outside = (np.exp(ratio) > most) | (np.exp(ratio) < least)
    return {
      "loss": value,
      "grad_logps": gradient,
      "clip_low": counted["clip_low"],
      "clip_high": counted["clip_high"],
      "kl": counted.get("kl"),
      "seq_ratio": np.exp(ratio.sum(1) / lengths),
      "clipped_any": outside[mask].mean(),
      "clip_trl_metric": counted["clip_high"],
    }

  def sampler_is(self, name, section):
    def weights(kind, low=0.0, high=MOST):
      return off_policy.importance(
        kind,
        self.given["old_logps"],
        self.given["sampler_logps"],
        self.mask,
        low=low,
        high=high,
      )

    def sequence(kind, high):
      made = np.where(self.mask, weights(kind, high=high), 0.0)
      return made.max(1)  # the same on every live token

    total, weight = losses.mismatch(
      self.given["old_logps"], self.given["sampler_logps"], self.mask
    )["mismatch_k3"]
    gaps = np.abs(self.gap[self.mask])
    lengths = np.maximum(self.mask.sum(1), 1)
    made = {
      "token_truncate_2": lambda: weights("token_truncate", high=2.0),
      "token_mask_0.5_2": lambda: weights("token_mask", 0.5, 2.0),
      "sequence_truncate_3": lambda: sequence("sequence_truncate", 3.0),
      "sequence_mask_3": lambda: sequence("sequence_mask", 3.0),
      "geo_mean_ratio": lambda: np.exp(self.gap.sum(1) / lengths),
      "abs_diff_mean": lambda: gaps.mean(),
      "abs_diff_max": lambda: gaps.max(),
      "mismatch_k3_mean": lambda: total / weight,
    }
    return _named(made, name)()

  def logits(self, name, section):
    if name in ("span_allowed", "span_masked_selected_logp"):
      allowed = np.array(section["span_allowed"], bool)
      if name == "span_allowed":
        return section[name]  # an input
      held = jnp.where(allowed, self.given["logits"], -jnp.inf)
      return distribution.log_prob(held, self.targets)
    kind, _, temperature = name.partition("=")
    if kind != "T":
      raise Unknown(name)
    scaled = distribution.scale(
      jnp.asarray(self.given["logits"]), float(temperature)
    )
    chosen = distribution.log_prob(scaled, self.targets)
    keep, mass = top_p(scaled, 0.9)
    return {
      "selected_logp": chosen,
      "entropy": distribution.entropy(
        (scaled,), distribution.normaliser((scaled,))
      ),
      "logsumexp": jax.nn.logsumexp(scaled, axis=-1),
      # Sampling here has no top-p: what it would cost is known all the same.
      "top_p_0.9_keep": keep,
      "top_p_0.9_mass": mass,
      "top_p_0.9_renormalised_logp": chosen - np.log(mass),
    }

  def on_policy(self, threshold: float):
    """Which rows [R] the off-policy mask keeps."""
    fresh = off_policy.on_policy(
      self.given["logps"],
      self.given["sampler_logps"],
      self.advantage("grpo")[:, None],
      self.mask,
      threshold,
    )
    return np.asarray(fresh)[:, 0]

  def alone(self, name, wanted):
    """Entries of a file that are no section."""
    if name == "offpolicy_seq_mask":
      return self.on_policy(OFF_POLICY)
    if name.startswith("entropy_quantile_"):
      share = float(name.split("_")[2])
      kept = off_policy.top_entropy(
        jnp.asarray(self.given["entropies"]), self.mask, 1 - share
      )
      edge = np.nanquantile(
        np.where(self.mask, self.given["entropies"], np.nan), share
      )
      above = self.mask & (self.given["entropies"] >= edge)
      assert (np.asarray(kept) == above).all(), "another choice of tokens"
      return edge
    if name.startswith("overlong("):
      limit, buffer = (
        int("".join(filter(str.isdigit, part))) for part in name.split(",")
      )
      config = length.Config(limit=limit, buffer=buffer)
      return lambda tokens: length.reward(_Lengths(tokens), {}, config)
    raise Unknown(name)


@dataclasses.dataclass(frozen=True)
class _Lengths:
  """What the length reward sees of rollouts."""

  tokens: np.ndarray

  @property
  def text_tokens(self):
    return np.asarray(self.tokens)

  @property
  def truncated(self):
    return np.zeros(len(self.tokens), bool)


def top_p(logits, share: float):
  """(kept, their mass): the fewest tokens whose mass reaches the share."""
  likely = np.asarray(jax.nn.softmax(logits, axis=-1))
  order = np.argsort(-likely, axis=-1, kind="stable")
  ranked = np.take_along_axis(likely, order, axis=-1)
  kept = np.cumsum(ranked, axis=-1) - ranked < share
  keep = np.zeros_like(kept)
  np.put_along_axis(keep, order, kept, axis=-1)
  return keep, np.where(keep, likely, 0.0).sum(-1)


def _named(table, name):
  if name not in table:
    raise Unknown(name)
  return table[name]
