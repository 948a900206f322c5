"""Training state: step, parameters, optimiser, averages and the random key."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
  """All that an exact resume needs, beside the position in the data."""

  step: jax.Array  # i32, optimiser steps done
  params: Any
  opt_state: Any
  ema: Any  # averaged parameters, or None
  key: jax.Array  # typed PRNG key; fold the step in, never overwrite it
  stale_params: Any = (
    None  # parameters one step ago, where they are sampled from
  )


def create(
  params, optimizer: optax.GradientTransformation, *, key, ema=False,
  stale_params=False,
):  # fmt: skip
  """Makes the state before the first step."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=optimizer.init(params),
    # A copy: the step donates the state, and one buffer can't go twice.
    ema=jax.tree.map(jnp.copy, params) if ema else None,
    key=key,
    stale_params=jax.tree.map(jnp.copy, params) if stale_params else None,
  )


def step_key(state: TrainState) -> jax.Array:
  """Gives the randomness of the coming step, the same after a resume."""
  return jax.random.fold_in(state.key, state.step)
