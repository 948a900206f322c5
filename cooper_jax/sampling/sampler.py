"""Sampler: one compiled function that samples interleaved text and maps.

Each prompt is prefilled once and shared by its G rows. Turns of text (loops
that end when every active row has closed) and maps (a `scan` over steps of g
codes; rows that asked for none stay inactive) alternate. Only sizes are static.
Position s of a row holds the token that was fed there, and every per-token
result is at the position of its token.

Of each rung of the positions (`grammar.Limits.ladder`) there is a loop of its
own: which keys and values a step reads is static, and no more than may be held.

A row's randomness is fold_in(its key, tokens drawn so far): the same sample id
gives the same tokens in any batch, order or bucket.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from cooper_jax.models import rounding, token_kinds, transformer, unified
from cooper_jax.models.cache import aligned
from cooper_jax.sampling import grammar, inputs
from cooper_jax.sampling.prompts import Prompts
from cooper_jax.sampling.state import (
  Prefilled,
  Rollout,
  SamplerContext,
  SamplerState,
  prefill,
  run_prompts,
)
from cooper_jax.sequences import distribution, segments, truncation


@functools.partial(jax.jit, static_argnames=("model", "form"))
def read(params, prompts: Prompts, *, model, form) -> Prefilled:
  """Runs prompts, for `sample` to be called several times."""
  return run_prompts(rounding.rounded(params, form.model), prompts, model)


@functools.partial(
  jax.jit,
  static_argnames=("model", "form", "limits", "group", "truncations"),
)
def sample(
  params,
  prompts: Prompts,
  keys,
  *,
  model: unified.Unified,
  form: segments.Format,
  limits: grammar.Limits,
  group: int,
  text_temperature,
  code_temperature,
  truncations=(truncation.NONE, truncation.NONE),
  prefilled: Prefilled | None = None,
) -> Rollout:
  """Samples `group` rows for each prompt.

  Args:
    params: the policy.
    prompts: see `Prompts`.
    keys: R = P * group random keys, one a row, from the row's sample id.
    model: static, like form, limits and group.
    text_temperature, code_temperature: scalars; 0 is greedy.
    truncations: of text and of codes, static; a greedy choice knows none.
    prefilled: of these prompts, from `read`; None reads them here.
  """
  params = rounding.rounded(params, form.model)
  state, context = prefill(
    params, prompts, model, form, limits, group, prefilled
  )
  if any(how != truncation.NONE for how in truncations):
    kept = jnp.zeros_like(state.rollout.tokens)
    state = state.replace(rollout=state.rollout.replace(kept=kept))
  params = transformer.unstack(params, form.model)
  sampler = _Sampler(
    params=params,
    keys=keys,
    model=model,
    form=form,
    limits=limits,
    text_temperature=text_temperature,
    code_temperature=code_temperature,
    truncations=truncations,
    context=context,
    forced=prompts.forced,
  )

  for turn in range(limits.maps + 1):
    state = sampler.text_turn(state, turn)
    if turn < limits.maps:
      state = jax.lax.cond(
        jnp.any(state.opened >= 0),
        functools.partial(sampler.draw_map, index=turn),
        lambda unchanged: unchanged,
        state,
      )
  rollout = state.rollout
  unfinished = rollout.stop == grammar.RUNNING
  return rollout.replace(
    stop=jnp.where(unfinished, grammar.LENGTH, rollout.stop)
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Sampler:
  """The loop bodies; the fields stay constant over a call."""

  params: Any  # unstacked where form.model.unroll
  keys: jax.Array  # [R] random keys
  model: unified.Unified
  form: segments.Format
  limits: grammar.Limits
  text_temperature: jax.Array  # []
  code_temperature: jax.Array  # []
  truncations: tuple  # of text, of codes
  context: SamplerContext
  forced: jax.Array  # [R, turns, script] ids, -1 free

  def draw(self, logits_RLV, count_R, temperature, how, levels=()):
    """Draws from logits that are scaled and restricted; greedily at 0.

    Returns ids, their log-probabilities and of how many each was drawn [R, L].
    """
    every = jnp.full(logits_RLV.shape[:-1], logits_RLV.shape[-1], jnp.int32)

    def at_random():
      step_keys = jax.vmap(jax.random.fold_in)(self.keys, count_R)
      uniform_RL = jax.vmap(
        lambda key: jax.random.uniform(key, logits_RLV.shape[1:-1])
      )(step_keys)
      if how == truncation.NONE:
        return *distribution.draw(logits_RLV, uniform_RL), every
      left_RLV, kept_RL = truncation.truncate(logits_RLV, how)
      return *distribution.draw(left_RLV, uniform_RL), kept_RL

    def greedily():
      ids = distribution.greedy(logits_RLV, levels).astype(jnp.int32)
      return ids, distribution.log_prob(logits_RLV, ids), every

    return jax.lax.cond(temperature > 0, at_random, greedily)

  def feed(self, state, tokens, position, rung):
    """Feeds L tokens to every row; their positions count only where active.

    rung: (first, end), one of `Limits.ladder`, that has the position.
    """
    ladder = self.limits.ladder(self.form)
    index, first = ladder.index(rung), rung[0]
    last = len(ladder) - 1 if self.limits.reads_ahead else index
    read = [valid.shape[1] for valid in state.cache.valid[: last + 1]]
    if not self.form.model.unroll:  # all are in one
      index, first, read = 0, 0, [aligned(ladder[last][1])]
    hidden, cache = self.model.apply(
      self.params,
      tokens,
      self.context.features,
      state.cache,
      position - first,
      state.active,
      rung=index,
      read=read,
      method=unified.Unified.step,
    )
    return hidden, state.replace(cache=cache)

  def text_turn(self, state: SamplerState, turn: int) -> SamplerState:
    """Generates one turn of text in every active row."""
    start = self.limits.text_start(turn, self.form)
    rollout = state.rollout
    # The first token is given: the prompt's last, or the closing of a map.
    rollout = rollout.replace(
      tokens=rollout.tokens.at[:, start].set(
        jnp.where(state.active, state.current, 0)
      ),
      state=rollout.state.at[:, start].set(
        jnp.where(state.active, token_kinds.FORCED, token_kinds.PAD).astype(
          jnp.int8
        )
      ),
    )
    state = state.replace(
      rollout=rollout,
      opened=jnp.full_like(state.opened, -1),
      step=jnp.int32(0),
    )
    for rung in self.limits.text_rungs(turn, self.form):
      state = jax.lax.while_loop(
        lambda at, end=rung[1] - start: (at.step < end) & jnp.any(at.active),
        functools.partial(self.text_step, turn=turn, rung=rung),
        state,
      )
    return state

  def text_step(self, state: SamplerState, turn: int, rung) -> SamplerState:
    """Feeds the current token of each row and draws the next."""
    form, limits = self.form, self.limits
    start = limits.text_start(turn, form)
    position = start + state.step
    tokens = inputs.text_tokens(state, self.context, form)
    hidden, state = self.feed(state, tokens, position, rung)
    logits = self.model.apply(
      self.params,
      hidden,
      self.context.keys,
      self.context.cell[:, None],
      self.context.exists,
      self.context.words,
      method=unified.Unified.text_logits,
    )
    logits = distribution.scale(logits, self.text_temperature)
    # A map needs its turn, and its opening a position of its own to be fed
    # from.
    allowed_maps = state.allowed_maps * (turn < limits.maps)
    logits = distribution.restrict(
      logits,
      allowed_maps[:, None],
      form,
      state.current[:, None],
      sampled=True,
    )
    drawn, drawn_log_prob, kept = self.draw(
      distribution.in_chunks(logits),
      state.rollout.count,
      self.text_temperature,
      self.truncations[0],
    )
    script = jnp.pad(
      self.forced[:, turn],
      ((0, 0), (0, limits.text - self.forced.shape[2])),
      constant_values=-1,
    )
    forced = jax.lax.dynamic_index_in_dim(
      script, state.step, axis=1, keepdims=False
    )
    is_forced = forced >= 0
    token = jnp.where(is_forced, forced, drawn[:, 0])
    just_opened = state.opened >= 0  # its opening was fed in this step
    writes = state.active & ~just_opened & (state.step + 1 < limits.text)
    rollout = self.record(
      state.rollout,
      jnp.minimum(position + 1, start + limits.text - 1),
      writes,
      token,
      jnp.where(is_forced, 0.0, drawn_log_prob[:, 0]),
      jnp.where(is_forced, token_kinds.FORCED, token_kinds.TEXT),
      allowed_maps,
      kept[:, 0],
    )
    opened = jnp.full_like(state.opened, -1)
    for modality in form.modality_ids:
      opens = writes & (token == form.vocabulary.opening(modality))
      opened = jnp.where(opens, modality, opened)
    ended = writes & (token == form.vocabulary.special("<eos>"))
    ran_out = state.active & ~just_opened & ~writes
    stop = jnp.where(ended, grammar.EOS, rollout.stop)
    stop = jnp.where(ran_out, grammar.LENGTH, stop)
    moves = state.active.astype(jnp.int32)
    return state.replace(
      rollout=rollout.replace(stop=stop),
      current=jnp.where(writes, token, state.current),
      previous=jnp.where(writes, state.current, state.previous),
      rope_position=state.rope_position + moves,
      opened=jnp.where(just_opened, state.opened, opened),
      active=state.active & ~just_opened & ~ended & ~ran_out,
      step=state.step + 1,
    )

  def record(
    self, rollout, position, writes, token, log_prob, kind, allowed_maps, kept
  ):
    """Writes one drawn token at a position, in the rows that wrote."""

    def put(array, value):
      old = jax.lax.dynamic_index_in_dim(array, position, 1, keepdims=False)
      new = jnp.where(writes, value.astype(array.dtype), old)
      return jax.lax.dynamic_update_index_in_dim(array, new, position, 1)

    chosen = kind == token_kinds.TEXT
    if rollout.kept is not None:
      rollout = rollout.replace(kept=put(rollout.kept, kept))
    return rollout.replace(
      tokens=put(rollout.tokens, token),
      log_prob=put(rollout.log_prob, log_prob),
      state=put(rollout.state, kind),
      allowed_maps=put(rollout.allowed_maps, allowed_maps),
      trainable=put(rollout.trainable, chosen),
      count=rollout.count + (writes & chosen),
    )

  def draw_map(self, state: SamplerState, index: int) -> SamplerState:
    """Draws the map that each row opened; the others wait."""
    form, model = self.form, self.form.model
    size, groups = model.step_codes, model.map_positions // model.step_codes
    start = self.limits.map_start(index, form)
    rung = start, start + model.map_positions
    places = inputs.map_places(model)
    active = state.opened >= 0
    opening = form.vocabulary.opening(0) + 2 * jnp.maximum(state.opened, 0)

    def body(carried, step):
      # held [R, g]: ids that the g positions of this step hold.
      state, held = carried
      tokens = inputs.map_tokens(
        state, self.context, form, held, opening, places, step
      )
      position = start + step * size
      hidden, state = self.feed(state, tokens, position, rung)
      logits = self.model.apply(
        self.params,
        hidden,
        self.context.codes,
        method=unified.Unified.code_logits,
      )
      logits = distribution.scale(logits, self.code_temperature)
      codes, log_prob, kept = self.draw(
        logits,
        state.rollout.count,
        self.code_temperature,
        self.truncations[1],
        model.code_levels,
      )
      last = step == groups - 1
      draws = state.active & ~last
      rollout = state.rollout.replace(
        count=state.rollout.count + draws.astype(jnp.int32)
      )
      held = form.vocabulary.codes_start + codes
      return (state.replace(rollout=rollout), held), (codes, log_prob, kept)

    rows = active.shape[0]
    state = state.replace(active=active)
    (state, _), drawn = jax.lax.scan(
      body, (state, jnp.zeros((rows, size), jnp.int32)), jnp.arange(groups)
    )
    # The last group only fills the cache; what it would draw is dropped.
    flat = lambda x: jnp.moveaxis(x[:-1], 0, 1).reshape(rows, model.map_codes)  # noqa: E731
    codes, log_prob, kept = map(flat, drawn)
    here = jnp.broadcast_to(active[:, None], codes.shape)
    first = start + size  # the position that holds the first code

    def put(array, value):
      old = jax.lax.dynamic_slice_in_dim(array, first, model.map_codes, 1)
      new = jnp.where(here, value, old).astype(array.dtype)
      return jax.lax.dynamic_update_slice_in_dim(array, new, first, 1)

    rollout = state.rollout
    if rollout.kept is not None:
      rollout = rollout.replace(kept=put(rollout.kept, kept))
    rollout = rollout.replace(
      tokens=put(rollout.tokens, form.vocabulary.codes_start + codes),
      log_prob=put(rollout.log_prob, log_prob),
      state=put(rollout.state, jnp.int8(token_kinds.CODE)),
      trainable=put(rollout.trainable, True),
      map_modality=rollout.map_modality.at[:, index].set(state.opened),
      codes=rollout.codes.at[:, index].set(jnp.where(here, codes, 0)),
    )
    ids = form.vocabulary.codes_start + codes
    drawn = jnp.concatenate([ids, opening[:, None]], axis=-1)[:, None]
    # The first place that is free, for a prompt may have brought maps; where
    # none is, the oldest map is forgotten (`segments.remembered`).
    count = (state.seen[..., -1] >= 0).sum(axis=1)
    full = (count == model.max_maps)[:, None, None]
    seen = jnp.where(full, jnp.roll(state.seen, -1, axis=1), state.seen)
    count = jnp.minimum(count, model.max_maps - 1)
    place = jnp.arange(model.max_maps) == count[:, None]
    seen = jnp.where(place[..., None], drawn, seen)
    bit = jnp.where(active, 1 << jnp.maximum(state.opened, 0), 0)
    advance = jnp.where(active, model.map_advance, 0)
    return state.replace(
      rollout=rollout,
      current=jnp.where(active, opening + 1, state.current),
      previous=jnp.where(active, -1, state.previous),
      rope_position=state.rope_position + advance,
      allowed_maps=state.allowed_maps & ~bit,
      seen=jnp.where(active[:, None, None], seen, state.seen),
    )
