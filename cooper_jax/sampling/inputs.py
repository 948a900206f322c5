"""Inputs of a sampling step: the tokens that each row feeds, as they are read.

R rows; the same fields of `unified.Tokens` as packed documents have in
training, made from the sampler's state.
"""

import jax
import jax.numpy as jnp

from cooper_jax.models import token_kinds, unified
from cooper_jax.sampling.state import SamplerContext, SamplerState
from cooper_jax.sequences import segments


def text_tokens(
  state: SamplerState, context: SamplerContext, form: segments.Format
) -> unified.Tokens:
  """The current token of each row as the model reads it, [R, 1]."""
  location = state.current - form.vocabulary.locations_start
  points = (location >= 0) & (location < form.model.locations)
  none = jnp.full_like(state.current, -1)
  fields = unified.Tokens(
    ids=state.current,
    kind=jnp.full_like(state.current, token_kinds.TEXT),
    row=state.rope_position,
    column=state.rope_position,
    time=state.rope_position,
    cell=jnp.where(points, context.cell + location, -1),
    query=none,
    opening=jnp.zeros_like(state.current),
    previous=state.previous,
    read=_read(state.seen, location, points, form),
  )
  return jax.tree.map(lambda x: x[:, None], fields)


def _read(seen, location, points, form):
  """The codes [R, M, 2] under a location token, with their openings."""
  under = jnp.asarray(segments.cells_under(form.model))
  cell = under[jnp.where(points, location, 0)][:, None, None]
  code = jnp.take_along_axis(seen[..., :-1], cell, axis=-1)
  both = jnp.concatenate([code, seen[..., -1:]], axis=-1)
  return jnp.where(points[:, None, None], both, -1)


def map_tokens(
  state: SamplerState,
  context: SamplerContext,
  form: segments.Format,
  held,
  opening,
  places,
  step,
) -> unified.Tokens:
  """The g positions of one step of a map as the model reads them, [R, g].

  held: ids [R, g] of the codes before; opening: [R]; places: of `map_layout`,
  [steps, g] each.
  """
  place = {
    name: jax.lax.dynamic_index_in_dim(x, step, keepdims=False)[None]
    for name, x in places.items()
  }
  fill = lambda x: jnp.broadcast_to(x, held.shape)  # noqa: E731
  cell = place["cell"] + context.cell[:, None]
  sees = jnp.any(context.exists, axis=1)[:, None]  # has an image
  return unified.Tokens(
    ids=held,
    kind=fill(token_kinds.CODE),
    row=state.rope_position[:, None] + place["row"],
    column=state.rope_position[:, None] + place["column"],
    time=fill(state.rope_position[:, None]),
    cell=jnp.where(sees & (place["cell"] >= 0), cell, -1),
    query=fill(place["query"]),
    opening=fill(opening[:, None]),
    previous=fill(-1),
    read=jnp.full((*held.shape, form.model.max_maps, 2), -1),
  )
