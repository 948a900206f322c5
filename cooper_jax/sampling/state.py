"""Sampler state: what goes from step to step, and how a prompt fills it.

`SamplerState` changes with every token, `SamplerContext` holds what a row
reads and nothing writes; `prefill` fills both from the prompts. R = P * G
rows, T generated positions of a row (`grammar.Limits` says where the turns
are), M maps of a row, Q codes of a map, C codes, S prompt positions, D width,
J image cells of a row.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from cooper_jax.models import unified
from cooper_jax.models.cache import Cache, start
from cooper_jax.sampling import grammar


@struct.dataclass
class Rollout:
  """R generated rows of T positions, each token at the position it was fed."""

  tokens: jax.Array  # [R, T] i32 ids, codes as ids of the whole vocabulary
  # [R, T] f32, of the distribution that was drawn from (temperature, allowed
  # tokens); of a map's tokens each its own; 0 where forced.
  log_prob: jax.Array
  state: jax.Array  # [R, T] i8 kind of token: PAD, TEXT, CODE or FORCED
  allowed_maps: jax.Array  # [R, T] i32 bit set of maps that could be opened
  trainable: jax.Array  # [R, T] bool, chosen by the policy: in its gradient
  map_modality: jax.Array  # [R, M] i32 MODALITY_ID of each map, -1 none
  codes: jax.Array  # [R, M, Q] i32 codes 0..C-1 of each map, 0 where none
  stop: jax.Array  # [R] i32 why it ended: grammar.EOS or LENGTH; RUNNING before
  count: jax.Array  # [R] i32 draws so far, one for each step of a map
  # [R, T] i32 how many of the likeliest each token was drawn from; None where
  # nothing is truncated (`sequences.truncation`).
  kept: jax.Array | None = None
  # [R] i32 shape of the image that locations point at; None = all are squares.
  image_shape: jax.Array | None = None


@struct.dataclass
class SamplerState:
  """R rows between two tokens: what the loops of `sampler` pass on."""

  cache: Cache  # keys and values of prompts and rows, see `models.cache`
  rollout: Rollout  # what has been generated so far
  current: jax.Array  # [R] i32 id that is fed next
  previous: jax.Array  # [R] i32 id before `current`, -1 after an image or map
  rope_position: jax.Array  # [R] i32 position of `current` for RoPE
  allowed_maps: jax.Array  # [R] i32 bit set of maps that may still be opened
  active: jax.Array  # [R] bool, the row takes part in this turn or map
  # [R] i32 MODALITY_ID of the map whose opening ended the turn, -1 none.
  opened: jax.Array
  # [R, M, Q + 1] i32 ids of the codes, then of the opening, of the maps that
  # places read, the oldest first, -1 none; here M = config.model.max_maps.
  seen: jax.Array
  step: jax.Array  # [] i32 tokens fed in this turn of text


@struct.dataclass
class SamplerContext:
  """What each of R rows reads of its prompt, the same in every step."""

  features: jax.Array  # [R, J, D] image features, of `Unified.see`
  keys: jax.Array  # [R, J, D] f32 what locations point at, of `cell_keys`
  exists: jax.Array  # [R, J] bool, the prompt has this image cell
  cell: jax.Array  # [R] i32 first cell of the image that locations point at
  # The head's rows of text and specials and of codes, of `Unified.laid_out`,
  # made once where layers are called one by one; None = the tables.
  words: jax.Array | None = None
  codes: jax.Array | None = None
  # [R] i32 shape of that image; None = all are squares.
  image_shape: jax.Array | None = None


@struct.dataclass
class Prefilled:
  """What the model makes of P prompts, whatever is then sampled of them."""

  features: jax.Array  # [P, J, D] as those of `SamplerContext`
  keys: jax.Array  # [P, J, D] f32
  kv: tuple[jax.Array, jax.Array]  # keys and values [layers, P, S, K, H]


def run_prompts(params, prompts, model) -> Prefilled:
  """Runs P prompts once."""
  hidden_PSD, features_PJD, kv = model.apply(
    params, prompts.tokens, prompts.layout, prompts.images, keep=True
  )
  keys_PJD = model.apply(
    params, hidden_PSD, prompts.image_at, method=unified.Unified.cell_keys
  )
  return Prefilled(features_PJD, keys_PJD, kv)


def prefill(
  params, prompts, model, form, limits, group, prefilled=None
) -> tuple[SamplerState, SamplerContext]:
  """State and context of P * G rows; runs the P prompts if none `prefilled`."""
  prefilled = prefilled or run_prompts(params, prompts, model)
  spread = functools.partial(jnp.repeat, repeats=group, axis=0)
  rows = prompts.last.shape[0] * group
  positions = limits.positions(form)
  state = SamplerState(
    cache=start(
      prefilled.kv,
      prompts.layout.document > 0,
      rows=rows,
      rungs=[stop - first for first, stop in limits.ladder(form)],
      unstacked=form.model.unroll,
    ),
    rollout=_empty(rows, positions, limits, form),
    current=spread(prompts.last),
    previous=spread(prompts.previous),
    rope_position=spread(prompts.rope_position),
    allowed_maps=prompts.allowed_maps,
    active=jnp.ones(rows, bool),
    opened=jnp.full(rows, -1, jnp.int32),
    seen=spread(prompts.seen),
    step=jnp.int32(0),
  )
  context = SamplerContext(
    features=spread(prefilled.features),
    keys=spread(prefilled.keys),
    exists=spread(prompts.image_at >= 0),
    cell=spread(prompts.cell),
    image_shape=None
    if prompts.image_shape is None
    else spread(prompts.image_shape),
  )
  state = state.replace(
    rollout=state.rollout.replace(image_shape=context.image_shape)
  )
  if form.model.unroll:
    words, codes = model.apply(params, method=unified.Unified.laid_out)
    context = context.replace(words=words, codes=codes)
  return state, context


def _empty(rows: int, positions: int, limits, form) -> Rollout:
  """A rollout in which nothing has been drawn."""
  maps = max(limits.maps, 1)
  return Rollout(
    tokens=jnp.zeros((rows, positions), jnp.int32),
    log_prob=jnp.zeros((rows, positions), jnp.float32),
    state=jnp.zeros((rows, positions), jnp.int8),
    allowed_maps=jnp.zeros((rows, positions), jnp.int32),
    trainable=jnp.zeros((rows, positions), bool),
    map_modality=jnp.full((rows, maps), -1, jnp.int32),
    codes=jnp.zeros((rows, maps, form.model.map_codes), jnp.int32),
    stop=jnp.full(rows, grammar.RUNNING, jnp.int32),
    count=jnp.zeros(rows, jnp.int32),
  )
