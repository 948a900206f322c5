"""Antialiasing where it shows: only pixels on an edge are sampled again.

Four rays are sent through each pixel whose neighbours show another surface.
They are not lit anew: each takes the colour of the nearby pixel that shows
the surface it meets, which is nearly the same and costs nothing.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.render import primitives, raycast
from cooper_jax.world.render.primitives import Parts
from cooper_jax.world.render.raycast import PLANES, View

# A rotated grid: four offsets in pixels, distinct along both axes.
_SAMPLES = np.array(
  [(-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125)],
  np.float32,
)
_UNSEEN = -1  # the ray passes all that shows nearby: the pixel's colour stays


def antialias(layout: Layout, parts: Parts, view: View, colour) -> None:
  """Blends linear RGB, 3 x [B, side*side], in place, at edges of surfaces."""
  scenes = len(layout.index)
  size = view.padded
  surface = view.surface.reshape(scenes, size, size)
  edge = np.zeros(surface.shape, bool)
  across = surface[:, :, 1:] != surface[:, :, :-1]
  edge[:, :, 1:] |= across
  edge[:, :, :-1] |= across
  down = surface[:, 1:] != surface[:, :-1]
  edge[:, 1:] |= down
  edge[:, :-1] |= down
  centre = np.flatnonzero(edge)
  scene = centre // (size * size)
  place = centre - scene * (size * size)
  row, column = place // size, place % size
  around = [centre]
  for step_row, step_column in ((0, -1), (0, 1), (-1, 0), (1, 0)):
    near_row = np.clip(row + step_row, 0, size - 1)
    near_column = np.clip(column + step_column, 0, size - 1)
    around.append((scene * size + near_row) * size + near_column)
  shown = [np.take(view.surface, at, mode="clip") for at in around]
  pixel = (1 / (layout.focal * view.size)).astype(np.float32)[scene]
  middle = np.float32(0.5 - view.size / 2)
  u = (column.astype(np.float32) + middle + _SAMPLES[:, :1]) * pixel
  v = (row.astype(np.float32) + middle + _SAMPLES[:, 1:]) * pixel
  seen = _surfaces(layout, parts, view, shown, scene, u, v)
  source = np.broadcast_to(centre, seen.shape)
  for at, there in zip(around[:0:-1], shown[:0:-1]):
    source = np.where(seen == there, at, source)
  source = np.where(seen == shown[0], centre, source)
  for channel in colour:
    flat = channel.reshape(-1)
    flat[centre] = np.take(flat, source, mode="clip").mean(axis=0)


def _surfaces(layout, parts, view, shown, scene, u, v):
  """The surface [4, rays] that each extra ray meets, of those shown nearby."""
  edge, part = [], []
  for k, there in enumerate(shown):
    new = there >= PLANES
    for earlier in shown[:k]:
      new &= there != earlier
    mine = np.flatnonzero(new)
    edge.append(mine)
    part.append(there[mine] - PLANES)
  edge, part = np.concatenate(edge), np.concatenate(part)
  order = np.argsort(parts.curved[part], kind="stable")
  edge, part = edge[order], part[order]
  flats = len(part) - int(parts.curved[part].sum())
  table = view.forms.ray.astype(np.float32).reshape(-1, 18).T
  table = np.take(np.ascontiguousarray(table), part, axis=1, mode="clip")
  at_u, at_v = (
    np.take(u, edge, axis=1, mode="clip"),
    np.take(v, edge, axis=1, mode="clip"),
  )
  lines = [
    table[3 * i] * at_u + (table[3 * i + 1] * at_v + table[3 * i + 2])
    for i in range(6)
  ]
  with np.errstate(divide="ignore", invalid="ignore"):
    enter, leave = primitives.box_span(lines[:3], lines[3:])
    enter[:, flats:], leave[:, flats:] = primitives.quadric_span(
      [line[:, flats:] for line in lines[:3]],
      [line[:, flats:] for line in lines[3:]],
      view.forms.quadric.T[:, part[flats:]],
      enter[:, flats:],
      leave[:, flats:],
    )
  enter += view.forms.start.astype(np.float32)[part]
  leave += view.forms.start.astype(np.float32)[part]
  sample, pair = np.nonzero((enter < leave) & (enter > raycast.NEAR_PLANE))
  key = (enter[sample, pair].view(np.uint32).astype(np.uint64)) << np.uint64(32)
  key |= part[pair].astype(np.uint64)
  nearest = np.full(u.size, raycast.NOTHING)
  np.minimum.at(nearest, sample * u.shape[1] + edge[pair], key)
  nearest = nearest.reshape(u.shape)
  found = nearest != raycast.NOTHING
  met = (nearest & np.uint64(0xFFFFFFFF)).astype(np.int64) + PLANES
  # Of the room mostly one plane shows nearby; else the ray tells which.
  plane = np.full(len(scene), _UNSEEN)
  several = np.zeros(len(scene), bool)
  for there in shown:
    room = there < PLANES
    several |= room & (plane != there) & (plane != _UNSEEN)
    plane = np.where(room & (plane == _UNSEEN), there, plane)
  plane = np.broadcast_to(plane, u.shape).copy()
  mixed = np.flatnonzero(several)
  plane[:, mixed] = _room(layout, scene[mixed], u[:, mixed], v[:, mixed])
  return np.where(found, met, plane)


def _room(layout, scene, u, v):
  """The plane through which rays [4, rays] leave the room."""
  direction, eye = raycast.room_forms(layout)
  direction = direction.astype(np.float32)[scene]
  low = (layout.room_low - eye).astype(np.float32)[scene]
  high = (layout.room_high - eye).astype(np.float32)[scene]
  depth = plane = None
  for axis, planes in enumerate(raycast.AXIS_PLANES):
    form = direction[:, axis].T
    ray = form[0] * u + (form[1] * v + form[2])
    with np.errstate(divide="ignore"):
      away = np.maximum(low[:, axis] / ray, high[:, axis] / ray)
    side = planes[0] + (ray > 0)
    if depth is None:
      depth, plane = away, side
    else:
      plane = np.where(away < depth, side, plane)
      depth = np.minimum(depth, away)
  return plane
