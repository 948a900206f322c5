"""Gradients of the GRPO loss of some packed rows of rollouts.

The trainer scores the sampled tokens anew and puts their log-probabilities
where the sampler has its own, by position [R, T]; losses.py does the rest.
What the loss is divided by is known beforehand, of all rollouts of the step, so
that the gradients of pieces add up to those of the whole.
"""

import jax
import jax.numpy as jnp

from cooper_jax.models import lora
from cooper_jax.rl.losses import combine, interleaved_loss, mismatch, normaliser
from cooper_jax.rl.targets import TokenTargets
from cooper_jax.sequences import scoring


def masks_of(targets: TokenTargets) -> dict[str, jax.Array]:
  """The masks [R, T] of the loss, by kind of token: "text" and "code"."""
  return {"text": targets.text_RT, "code": targets.code_RT}


def normalisers(targets: TokenTargets, *, configs):
  """What the loss of text and of codes is divided by: of all R rollouts."""
  masks = masks_of(targets)
  return {
    name: normaliser(masks[name], config) for name, config in configs.items()
  }


def gradients(
  params,
  packed,
  targets,
  held_R,
  weights,
  reference,
  frozen=None,
  *,
  policy,
  configs,
  temperatures,
  bins,
  on_policy,
  truncated=(True, True),
  shardings=None,
):
  """(gradients, metrics) of some of a step's rollouts; they add up over all.

  packed, held_R, bins: of a `PackedRows`; targets: TokenTargets [R, T] of all
  rollouts; weights: of `normalisers`; reference: parameters of the KL penalty,
  or None; frozen: what LoRA trains beside, None without; configs: LossConfig of
  "text" and of "code"; temperatures: those that text and codes were sampled
  with; on_policy: the sampler's parameters are these; truncated: whether text
  and codes were drawn from a part of their distributions, where the targets say
  from how much; shardings: of the parameters, and so of their gradients; None
  leaves that to the compiler.
  """
  shape = targets.log_prob_RT.shape
  masks = {
    kind: mask_RT & held_R[:, None]
    for kind, mask_RT in masks_of(targets).items()
  }

  kept = None
  if targets.kept_RT is not None:  # at the targets of the packed rows, [B, X]
    flat = targets.kept_RT.ravel()
    kept = tuple(
      flat[jnp.maximum(packed[f"{kind}_source"], 0)] if is_part else None
      for kind, is_part in zip(("text", "code"), truncated)
    )

  def by_position(params):
    """Log-probabilities and entropies [R, T], by position of their tokens."""
    scores = scoring.score(
      policy.model,
      params,
      packed,
      form=policy.form,
      sampled=True,
      bins=bins,
      text_temperature=temperatures[0],
      code_temperature=temperatures[1],
      kept=kept,
    )
    out = []
    for name in ("log_prob", "entropy"):
      flat = jnp.zeros(shape[0] * shape[1])
      for kind in ("text", "code"):
        source = packed[f"{kind}_source"]
        # Padding has source -1: sent beyond the end and dropped.
        at = jnp.where(source >= 0, source, flat.size).ravel()
        found = getattr(scores, f"{kind}_{name}").ravel()
        flat = flat.at[at].set(found, mode="drop")
      out.append(flat.reshape(shape))
    return out

  reference_RT = None if reference is None else by_position(reference)[0]

  def loss_of(params):
    whole = lora.laid_over(frozen, params)
    log_prob_RT, entropy_RT = by_position(whole)
    old_RT = targets.log_prob_RT
    if on_policy:
      old_RT = jax.lax.stop_gradient(log_prob_RT)
    found = interleaved_loss(
      log_prob_RT,
      configs,
      masks=masks,
      rows_R=held_R,
      old_log_prob_RT=old_RT,
      advantage_RT=targets.advantage_RT,
      sampler_log_prob_RT=targets.log_prob_RT,
      reference_log_prob_RT=reference_RT,
      entropy_RT=entropy_RT,
    )
    # How far the sampler is from these parameters, whatever is the old one.
    gaps = {
      kind: mismatch(
        jax.lax.stop_gradient(log_prob_RT), targets.log_prob_RT, masks[kind]
      )
      for kind in found
    }
    metrics = {
      f"{name}/{kind}": value
      for kind, (_, values) in found.items()
      for name, value in (values | gaps[kind]).items()
    }
    for kind, mask_RT in masks.items():
      total = jnp.sum(jnp.where(mask_RT, entropy_RT, 0.0))
      metrics[f"entropy/{kind}"] = (total, jnp.sum(mask_RT, dtype=jnp.float32))
    parts = {name: pair for name, (pair, _) in found.items()}
    return combine(parts, configs, weights), metrics

  grads, metrics = jax.grad(loss_of, has_aux=True)(params)
  if shardings is not None:
    grads = jax.lax.with_sharding_constraint(grads, shardings)
  return grads, metrics
