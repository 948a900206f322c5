"""What sampling carries from step to step, and how a prompt fills it."""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.models import unified
from cooper_jax.models.cache import Cache, start
from cooper_jax.sampling import grammar


@struct.dataclass
class Rollout:
  """R generated rows of T positions (`grammar.Limits` says where turns lie).

  tokens: ids fed (codes as unified ids); log_prob: under the policy with its
  temperature and allowed set, 0 where forced; state: PAD, TEXT, CODE or
  FORCED; allowed_maps: the bit set that was allowed when the token was drawn;
  trainable: chosen by the policy, so in its gradient. map_modality [R, maps]:
  MODALITY_ID of each map, -1 none; codes [R, maps, N]; stop: EOS or LENGTH.
  """

  tokens: jax.Array
  log_prob: jax.Array
  state: jax.Array
  allowed_maps: jax.Array
  trainable: jax.Array
  map_modality: jax.Array
  codes: jax.Array
  stop: jax.Array
  count: jax.Array  # tokens drawn, a row of codes counting as one


@struct.dataclass
class SamplerState:
  cache: Cache
  rollout: Rollout
  current: jax.Array  # [R] id to feed
  previous: jax.Array
  rope_position: jax.Array
  allowed_maps: jax.Array  # still allowed
  active: jax.Array  # in this turn
  opened: jax.Array  # MODALITY_ID of the map that the turn ended with, -1 none
  seen: jax.Array  # [R, maps, N + 1] ids of the codes and opening of each map
  step: jax.Array


def prefill(params, prompts, model, form, limits, group):
  """Runs the prompts once; returns the empty rollout and what rows read."""
  hidden, features, kv = model.apply(
    params, prompts.tokens, prompts.layout, prompts.images, keep=True
  )
  cell_keys = model.apply(
    params, hidden, prompts.image_at, method=unified.Unified.cell_keys
  )
  spread = functools.partial(jnp.repeat, repeats=group, axis=0)
  rows = prompts.last.shape[0] * group
  positions = limits.positions(form)
  carry = SamplerState(
    cache=start(
      kv,
      prompts.layout.document > 0,
      rows=rows,
      positions=positions,
      unstacked=form.model.unroll,
    ),
    rollout=Rollout(
      tokens=jnp.zeros((rows, positions), jnp.int32),
      log_prob=jnp.zeros((rows, positions), jnp.float32),
      state=jnp.zeros((rows, positions), jnp.int8),
      allowed_maps=jnp.zeros((rows, positions), jnp.int32),
      trainable=jnp.zeros((rows, positions), bool),
      map_modality=jnp.full((rows, max(limits.maps, 1)), -1, jnp.int32),
      codes=jnp.zeros(
        (rows, max(limits.maps, 1), form.model.map_codes), jnp.int32
      ),
      stop=jnp.full(rows, grammar.RUNNING, jnp.int32),
      count=jnp.zeros(rows, jnp.int32),
    ),
    current=spread(prompts.last),
    previous=spread(prompts.previous),
    rope_position=spread(prompts.rope_position),
    allowed_maps=prompts.allowed_maps,
    active=jnp.ones(rows, bool),
    opened=jnp.full(rows, -1, jnp.int32),
    seen=spread(prompts.seen),
    step=jnp.int32(0),
  )
  context = {
    "features": spread(features),
    "keys": spread(cell_keys),
    "exists": spread(prompts.image_at >= 0),
    "cell": spread(prompts.cell),
  }
  if form.model.unroll:
    words, codes = model.apply(params, method=unified.Unified.columns)
    context |= {"words": words, "codes": codes}
  return carry, context
