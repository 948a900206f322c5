"""Inputs of a sampling step: the tokens that each row feeds, as they are read.

R rows; the same fields of `unified.Tokens` as packed documents have in
training, made from the sampler's state.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.models import config, token_kinds, unified
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
    read=_read(state.seen, location, points, context, form),
    place=_places(location, points, context, form),
  )
  return jax.tree.map(lambda x: x[:, None], fields)


def _places(location, points, context, form):
  """`unified.Tokens.place` [R]."""
  if context.image_shape is None:
    return None
  return _of_shape(segments.squares_under, location, points, context, form)


def _of_shape(table, location, points, context, form):
  """Of each row [R] what a table of its image's shape has at its location."""
  at, model = jnp.where(points, location, 0), form.model
  if context.image_shape is None:
    return jnp.asarray(table(model))[at]
  shapes = range(len(model.vision.grids))
  tables = jnp.asarray(np.stack([table(model, shape) for shape in shapes]))
  return tables[context.image_shape, at]


def _read(seen, location, points, context, form):
  """The codes [R, M, 2] under a location token, with their openings."""
  cell = _of_shape(segments.cells_under, location, points, context, form)
  cell = cell[:, None, None]
  code = jnp.take_along_axis(seen[..., :-1], cell, axis=-1)
  both = jnp.concatenate([code, seen[..., -1:]], axis=-1)
  return jnp.where(points[:, None, None], both, -1)


def map_places(model: config.ModelConfig) -> dict[str, jax.Array]:
  """`map_layout` by steps [steps, g]; its cells [shapes, steps, g]."""
  by_step = (model.map_positions // model.step_codes, model.step_codes)
  shapes = range(len(model.vision.grids))
  layouts = [segments.map_layout(model, shape) for shape in shapes]
  places = {
    name: jnp.asarray(each).reshape(by_step)
    for name, each in layouts[0].items()
  }
  cells = np.stack([each["cell"] for each in layouts])
  return places | {"cell": jnp.asarray(cells).reshape(-1, *by_step)}


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

  held: ids [R, g] of the codes before; opening: [R]; places: `map_places`.
  """
  places = dict(places)
  cells = places.pop("cell")
  place = {
    name: jax.lax.dynamic_index_in_dim(x, step, keepdims=False)[None]
    for name, x in places.items()
  }
  fill = lambda x: jnp.broadcast_to(x, held.shape)  # noqa: E731
  under = jax.lax.dynamic_index_in_dim(cells, step, axis=1, keepdims=False)
  if context.image_shape is not None:
    under = under[context.image_shape]
  cell = under + context.cell[:, None]
  sees = jnp.any(context.exists, axis=1)[:, None]  # has an image
  return unified.Tokens(
    ids=held,
    kind=fill(token_kinds.CODE),
    row=state.rope_position[:, None] + place["row"],
    column=state.rope_position[:, None] + place["column"],
    time=fill(state.rope_position[:, None]),
    cell=jnp.where(sees & (under >= 0), cell, -1),
    query=fill(place["query"]),
    opening=fill(opening[:, None]),
    previous=fill(-1),
    read=jnp.full((*held.shape, form.model.max_maps, 2), -1),
  )
