"""Optimisers, schedules and the gradient step.

Weight matrices go to Muon (or AdamW with decay); embeddings, heads, norms and
biases always go to Adam without decay.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from cooper_jax.errors import UserError, nearest
from cooper_jax.parallel.shard import path_name
from cooper_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """One stage's optimiser; rates are peaks, times are optimiser steps."""

  name: str = "adamw"  # optimiser: adamw | muon
  learning_rate: float = 2e-3  # peak rate; muon: of the matrices
  adam_learning_rate: float = 2e-3  # peak rate of all else; muon only
  schedule: str = "cosine"  # how the rate falls: constant | cosine | linear
  warmup_steps: int = 20  # steps in which the rate rises to its peak
  decay_start: float = 0.0  # fraction of the steps after which decay begins
  final_fraction: float = 0.05  # rate at the end, as a fraction of the peak
  clip_norm: float = 1.0  # largest global gradient norm; 0 = no limit
  weight_decay: float = 0.0  # decay of the matrices, times the rate
  beta1: float = 0.9  # decay of Adam's mean gradient, a step
  beta2: float = 0.95  # decay of Adam's mean squared gradient, a step
  epsilon: float = 1e-8  # number that Adam adds to the root of that mean
  momentum: float = 0.95  # decay of Muon's mean gradient, a step
  ema_decay: float = 0.0  # decay of the parameters' average; 0 = none is kept
  micro_batches: int = 1  # pieces that a batch is taken in

  def __post_init__(self):
    for field, allowed in (("name", OPTIMIZERS), ("schedule", DECAYS)):
      value = getattr(self, field)
      if value not in allowed:
        raise UserError(
          f'optim.{field} is "{value}"; allowed: {", ".join(allowed)}'
          f"{nearest(value, allowed)}"
        )
    for field, (low, high, what) in LIMITS.items():
      value = getattr(self, field)
      # So written, nan is refused, too.
      if not low <= value < high:
        raise UserError(f"optim.{field} is {value}; allowed: {what}")


_MORE = (0.0, math.inf, "0 and more")
_SHARE = (0.0, math.nextafter(1.0, 2.0), "0 to 1")
_BELOW = (0.0, 1.0, "0 to below 1")
_ABOVE = (math.ulp(0.0), math.inf, "above 0")
# Field -> (least, below, in words). A rate of 0 is a control: nothing moves.
LIMITS = {
  "learning_rate": _MORE,
  "adam_learning_rate": _MORE,
  "warmup_steps": _MORE,
  "decay_start": _SHARE,
  "final_fraction": _SHARE,
  "clip_norm": (0.0, math.inf, "0 (no limit) and more"),
  "weight_decay": _MORE,
  "beta1": _BELOW,
  "beta2": _BELOW,
  "epsilon": _ABOVE,
  "momentum": _BELOW,
  "ema_decay": (0.0, 1.0, "0 (none) to below 1"),
  "micro_batches": (1, math.inf, "1 and more"),
}


# How the rate falls from 1 to `final` while `progress` goes from 0 to 1.
DECAYS: dict[str, Callable] = {
  "constant": lambda progress, final: jnp.ones_like(progress),
  "linear": lambda progress, final: 1.0 - (1.0 - final) * progress,
  "cosine": lambda progress, final: (
    final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
  ),
}


def schedule(config: OptimConfig, *, steps: int, peak: float | None = None):
  """Gives the learning rate as a function of the steps done."""
  peak = config.learning_rate if peak is None else peak
  start = max(config.warmup_steps, int(config.decay_start * steps))

  def rate(step):
    step = jnp.asarray(step, jnp.float32)
    # Step 0 already moves: (0 + 1) / warmup.
    warm = jnp.minimum(1.0, (step + 1.0) / max(config.warmup_steps, 1))
    progress = jnp.clip((step - start) / max(steps - start, 1), 0.0, 1.0)
    decay = DECAYS[config.schedule](progress, config.final_fraction)
    return peak * warm * decay

  return rate


# A kernel with one of these words in its path is a table: each row is a
# vector of its own.
TABLES = frozenset(["embed", "embedding", "head"])
MATRICES = frozenset(["kernel", "lora_a", "lora_b"])
# Modules whose parameters carry a leading layer axis.
SCANNED = frozenset(["layers", "blocks"])
# Kernels that contract two axes: [heads, head, model].
CONTRACTS_TWO = frozenset(["o", "out", "output"])


def matrix_dimensions(path: str, ndim: int) -> MuonDimensionNumbers | None:
  """Says which axes of a parameter make it a matrix; None if it is none.

  In: "layers/mlp/up/kernel", 3   Out: reduction 1, output 2 (0 is the layer)
  """
  parts = path.lower().split("/")
  words = {word for part in parts for word in part.split("_")}
  # By flax's custom a matrix is a "kernel"; biases, scales, embeddings and
  # learned queries have other names. A and B of LoRA stand beside one.
  if parts[-1] not in MATRICES or TABLES & words:
    return None
  first = 1 if SCANNED & set(parts) else 0
  axes = tuple(range(first, ndim))
  if len(axes) < 2:
    return None
  # 2: [in, out]; 3: [in, heads, head] or [heads, head, out];
  # 4: a convolution [rows, columns, in, out].
  split = 1
  if len(axes) > 3 or (len(axes) == 3 and CONTRACTS_TWO & set(parts)):
    split = len(axes) - 1
  return MuonDimensionNumbers(axes[:split], axes[split:])


def matrix_tree(params):
  """Applies `matrix_dimensions` to every parameter."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: matrix_dimensions(path_name(path), leaf.ndim), params
  )


def decay_mask(params):
  """True where weight decay applies: the matrices."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: (
      matrix_dimensions(path_name(path), leaf.ndim) is not None
    ),
    params,
  )


def _adamw(config: OptimConfig, steps: int):
  return optax.adamw(
    schedule(config, steps=steps),
    b1=config.beta1,
    b2=config.beta2,
    eps=config.epsilon,
    weight_decay=config.weight_decay,
    mask=decay_mask,
  )


def _muon(config: OptimConfig, steps: int):
  return optax.contrib.muon(
    schedule(config, steps=steps),
    beta=config.momentum,
    eps=config.epsilon,
    weight_decay=config.weight_decay,
    adam_b1=config.beta1,
    adam_b2=config.beta2,
    adam_learning_rate=schedule(
      config, steps=steps, peak=config.adam_learning_rate
    ),
    muon_weight_dimension_numbers=matrix_tree,
  )


OPTIMIZERS: dict[str, Callable] = {"adamw": _adamw, "muon": _muon}


def make_optimizer(config: OptimConfig, *, steps: int):
  """Builds the chain: clip by global norm, then the optimiser."""
  clip = (
    optax.clip_by_global_norm(config.clip_norm)
    if config.clip_norm > 0
    else optax.identity()
  )
  return optax.chain(clip, OPTIMIZERS[config.name](config, steps))


def update_ema(ema, params, decay: float):
  """Moves the average towards the parameters."""
  return jax.tree.map(
    lambda mean, new: decay * mean + (1.0 - decay) * new, ema, params
  )


def apply_gradients(
  state: TrainState, grads, *, optimizer, ema_decay: float = 0.0
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Takes one optimiser step; leaves the state be if grads aren't finite.

  The step counter goes on either way, so that data and randomness stay in
  step; metric `skipped` says that it happened, and the loop counts it.
  """
  grad_norm = optax.tree.norm(grads)
  finite = jnp.isfinite(grad_norm)

  def step(params, opt_state, ema):
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    if ema is not None:
      ema = update_ema(ema, params, ema_decay)
    return params, opt_state, ema, optax.tree.norm(updates)

  def leave(*kept):
    return *kept, jnp.zeros_like(grad_norm)

  # A choice between two trees would write both: a third of the time and of the
  # temporaries of this function (135 M parameters, AdamW, CPU).
  params, opt_state, ema, update_norm = jax.lax.cond(
    finite, step, leave, state.params, state.opt_state, state.ema
  )
  metrics = {
    "grad_norm": grad_norm,
    "update_norm": update_norm,
    "param_norm": optax.tree.norm(params),
    "skipped": 1.0 - finite.astype(jnp.float32),
  }
  state = state.replace(
    step=state.step + 1, params=params, opt_state=opt_state, ema=ema
  )
  return state, metrics
