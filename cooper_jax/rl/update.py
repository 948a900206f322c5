"""From scored rollouts to new parameters: the pure half of a GRPO step."""

import functools

import jax
import jax.numpy as jnp

from cooper_jax.models import token_kinds
from cooper_jax.policy import param_shardings
from cooper_jax.rl import advantages
from cooper_jax.rl.losses import combine, interleaved_loss, mismatch, normaliser
from cooper_jax.sequences import scoring
from cooper_jax.training import optim


def compiled(policy, optimizer, configs, *, ema_decay: float):
  """The jitted parts of an update: (normalisers, gradients, add, apply)."""
  shardings = param_shardings(policy)
  return (
    jax.jit(functools.partial(normalisers, configs=configs)),
    jax.jit(
      functools.partial(
        gradients, policy=policy, configs=configs, shardings=shardings
      ),
      static_argnames=("bins", "on_policy"),
    ),
    jax.jit(add, donate_argnums=0),
    jax.jit(
      functools.partial(apply, optimizer=optimizer, ema_decay=ema_decay),
      static_argnames="remember",
      donate_argnames="state",
    ),
  )


def loss_mask(trainable_RT, truncated_R, overlong_filter: bool):
  """Which tokens are learned from; the filter leaves out rollouts cut off.

  They stay in their group's baseline (DAPO, arXiv 2503.14476).
  """
  return (
    trainable_RT & ~truncated_R[:, None] if overlong_filter else trainable_RT
  )


def token_advantages(
  rewards, quality_RM, modality_RM, state_RT, group_R,
  *, rule, eps, map_weight, codes, modality_ids,
):  # fmt: skip
  """Returns the answer's advantage [R] and that of every modality_id [R, T]."""
  answer_R = rule(rewards, group_R, eps)
  map_RM = advantages.map_advantages(
    quality_RM, modality_RM, group_R, eps, rule=rule, modality_ids=modality_ids
  )
  index_RT = advantages.map_index(state_RT == token_kinds.CODE, codes)
  return answer_R, advantages.per_segment(
    answer_R, map_RM, index_RT, map_weight
  )


def normalisers(rolled, *, configs):
  """What each modality's loss is divided by: of all rollouts of a step."""
  return {
    name: normaliser(rolled[name], config) for name, config in configs.items()
  }


def gradients(
  params,
  batch,
  rolled,
  here_R,
  weights,
  reference,
  *,
  policy,
  configs,
  temperatures,
  bins,
  on_policy,
  shardings=None,
):
  """(gradients, metrics) of some of a step's rollouts; they add up over all.

  batch: packed rollouts; here_R: which they are; rolled: [R, T] arrays of all
  rollouts, by position; weights: of `normalisers`; reference: parameters of the
  KL penalty, or None; configs: LossConfig of "text" and of "code";
  temperatures: those that text and codes were sampled with; shardings: how the
  parameters lie, and so their gradients; None leaves that to the compiler.
  """
  shape = rolled["log_prob"].shape
  masks = {kind: rolled[kind] & here_R[:, None] for kind in ("text", "code")}

  def by_position(params):
    """Log-probabilities and entropies [R, T], by position of their tokens."""
    scores = scoring.score(
      policy.model,
      params,
      batch,
      form=policy.form,
      bins=bins,
      text_temperature=temperatures[0],
      code_temperature=temperatures[1],
    )
    out = []
    for name in ("log_prob", "entropy"):
      flat = jnp.zeros(shape[0] * shape[1])
      for kind in ("text", "code"):
        source = batch[f"{kind}_source"]
        # Padding has source -1: sent beyond the end and dropped.
        at = jnp.where(source >= 0, source, flat.size).ravel()
        found = getattr(scores, f"{kind}_{name}").ravel()
        flat = flat.at[at].set(found, mode="drop")
      out.append(flat.reshape(shape))
    return out

  reference_RT = None if reference is None else by_position(reference)[0]

  def loss_of(params):
    log_prob_RT, entropy_RT = by_position(params)
    old_RT = rolled["log_prob"]
    if on_policy:
      old_RT = jax.lax.stop_gradient(log_prob_RT)
    found = interleaved_loss(
      log_prob_RT,
      configs,
      masks=masks,
      rows_R=here_R,
      old_log_prob_RT=old_RT,
      advantage_RT=rolled["advantage"],
      sampler_log_prob_RT=rolled["log_prob"],
      reference_log_prob_RT=reference_RT,
      entropy_RT=entropy_RT,
    )
    # How far the sampler is from these parameters, whatever is the old one.
    gaps = {
      kind: mismatch(
        jax.lax.stop_gradient(log_prob_RT), rolled["log_prob"], masks[kind]
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


def together(figures: list[dict]) -> dict:
  """The metrics of a step's updates as one: averages, and each by its number.

  A mismatch is the first update's, before which the parameters were those that
  sampled; later ones would tell how far the updates have come. `skipped` is
  the share of the updates that were. Of norms the largest is told, those of
  skipped updates left out: an average would hide a step that went far off.
  """
  if len(figures) == 1:
    return figures[0]
  kept = [
    {k: v for k, v in each.items() if not (i and k.startswith("mismatch"))}
    for i, each in enumerate(figures)
  ]
  out = {}
  for name in kept[0]:
    values = [each[name] for each in kept if name in each]
    if isinstance(values[0], tuple):
      out[name] = tuple(map(sum, zip(*values, strict=True)))
    elif name.endswith("_norm"):
      out[name] = functools.reduce(jnp.fmax, values)
    else:
      out[name] = sum(values) / len(values)
  for i, each in enumerate(kept):
    out |= {f"update{i + 1}/{name}": value for name, value in each.items()}
  return out


def apply(state, grads, *, optimizer, ema_decay, remember=False):
  """One optimiser step: (state, metrics).

  remember: whether state.stale_params becomes the parameters before this step.
  """
  if remember:
    state = state.replace(stale_params=state.params)
  return optim.apply_gradients(
    state, grads, optimizer=optimizer, ema_decay=ema_decay
  )


def add(one, other):
  """The sum of two trees."""
  return jax.tree.map(jnp.add, one, other)
