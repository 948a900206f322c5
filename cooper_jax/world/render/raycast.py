"""Ray casting: which surface each pixel shows, how far away, what it hides.

Every part is tested only on the 4 x 4 pixel tiles that its outline may touch.
Arrays are [16, tiles]: the pixels of a tile first, tiles of all scenes last,
so that numpy runs over long rows whatever the number of scenes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.render import primitives
from cooper_jax.world.render.primitives import Parts

_TILE = 4
NEAR_PLANE = 0.05  # metres in front of the camera
_CHUNK = 1024  # tiles at once: the working set stays in cache
PLANES = 6  # surfaces 0..5 are the room: floor, ceiling, four walls
AXIS_PLANES = ((2, 3), (0, 1), (4, 5))  # (low, high) sides along x, y, z
NOTHING = np.uint64(np.iinfo(np.uint64).max)


@dataclasses.dataclass(frozen=True)
class Forms:
  """Rays in each part's own frame, as linear forms of the image position.

  `ray` [parts, 6, 3] holds, for (u, v, 1), the direction (first three) and the
  origin moved on to the part's own distance `start` (last three), both in
  units of the part's half sizes: small numbers, so f32 is enough.
  """

  ray: np.ndarray
  start: np.ndarray  # f64 [parts]
  quadric: np.ndarray  # f32 [parts, 5]


@dataclasses.dataclass(frozen=True)
class Hits:
  """Every (part, pixel) where a ray meets a part, nearest or not."""

  pixel: np.ndarray  # i64 [hits] into the batch's flat pixels
  part: np.ndarray  # i64 [hits]


@dataclasses.dataclass(frozen=True)
class View:
  """What the cameras see, on flat pixels [B * side * side].

  S is the image size padded to whole tiles; the padding lies to the right of
  and below the picture, and nothing beyond the renderer sees it.
  """

  size: int  # of the picture
  padded: int  # S
  depth: np.ndarray  # f32 [B*side*side]
  surface: np.ndarray  # i64 [B*side*side]: room plane, or PLANES + part
  forms: Forms
  hits: Hits


def padded_size(size: int) -> int:
  """The image size in whole tiles."""
  return -(-size // _TILE) * _TILE


def ray_forms(layout: Layout, parts: Parts) -> Forms:
  """Prepares every part for the camera of its scene."""
  eye = layout.eye[parts.scene]
  basis = layout.basis[parts.scene]  # [parts, 3 right down forward, 3]
  towards = parts.centre - eye
  start = (towards * basis[:, 2]).sum(-1)
  # direction_i(u, v) = axis_i . (u right + v down + forward) / half_i
  direction = (parts.axes[:, :, None] * basis[:, None]).sum(-1)
  direction = direction / parts.half[:, :, None]
  origin = (parts.axes * -towards[:, None]).sum(-1) / parts.half
  moved = direction * start[:, None, None]
  moved[:, :, 2] += origin
  return Forms(
    ray=np.concatenate([direction, moved], axis=1),
    start=start,
    quadric=parts.quadric.astype(np.float32),
  )


def _rectangles(layout, parts, size, pixel):
  """Tile ranges (column, row, columns, rows) [parts] around each part."""
  signs = np.array(
    [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
  )
  reach = parts.half[:, :, None] * parts.axes  # [parts, 3 axes, 3 world]
  corner = (
    parts.centre[:, None]
    - layout.eye[parts.scene][:, None]
    + (signs[None, :, 0:1] * reach[:, None, 0])
    + (signs[None, :, 1:2] * reach[:, None, 1])
    + (signs[None, :, 2:3] * reach[:, None, 2])
  )
  tiles = padded_size(size) // _TILE
  basis = layout.basis[parts.scene]
  seen = (corner[:, :, None] * basis[:, None]).sum(-1)  # [parts, 8, 3]
  behind = seen[:, :, 2].min(1) < NEAR_PLANE
  far = np.maximum(seen[:, :, 2], NEAR_PLANE)
  ranges = []
  for axis in (0, 1):
    at = seen[:, :, axis] / far / pixel[parts.scene][:, None] / _TILE
    at = at + size / 2 / _TILE
    low = np.where(behind, 0, np.floor(at.min(1) - 0.01))
    high = np.where(behind, tiles, np.ceil(at.max(1) + 0.01))
    low = np.clip(low, 0, tiles).astype(np.int64)
    high = np.clip(high, 0, tiles).astype(np.int64)
    ranges.append((low, high - low))
  return ranges[0][0], ranges[1][0], ranges[0][1], ranges[1][1]


def _tiles(layout, parts, size, pixel):
  """Part, column and row of every tile to test, [tiles] each."""
  column, row, columns, rows = _rectangles(layout, parts, size, pixel)
  number = columns * rows
  part = np.repeat(np.arange(len(number)), number)
  first = np.repeat(np.cumsum(number) - number, number)
  place = np.arange(len(part)) - first
  wide = columns[part]
  down = place // wide
  return part, column[part] + place - down * wide, row[part] + down


def look(layout: Layout, parts: Parts, size: int) -> View:
  """Finds the nearest surface at every pixel centre."""
  scenes = len(layout.index)
  padded = padded_size(size)
  pixel = 1 / (layout.focal * size)  # of u and v
  forms = ray_forms(layout, parts)
  # Curved parts last, so that each chunk of tiles is mostly of one sort.
  part, column, row = _tiles(layout, parts, size, pixel)
  order = np.argsort(parts.curved[part], kind="stable")
  part, column, row = part[order], column[order], row[order]
  nearest = np.full(scenes * padded * padded, NOTHING)
  hit_pixel, hit_part = [], []
  flats = len(part) - int(parts.curved[part].sum())
  bounds = [*range(0, flats, _CHUNK), *range(flats, len(part), _CHUNK)]
  for low, high in zip(bounds, [*bounds[1:], len(part)]):
    if low == high:
      continue
    chunk = slice(low, high)
    p, scene = part[chunk], parts.scene[part[chunk]]
    u = (column[chunk] * _TILE + 0.5 - size / 2) * pixel[scene]
    v = (row[chunk] * _TILE + 0.5 - size / 2) * pixel[scene]
    ray = forms.ray[p]
    step = np.arange(_TILE)[:, None]
    lines = []
    for i in range(6):
      along = (ray[:, i, 0] * u + ray[:, i, 2]) + step * (
        ray[:, i, 0] * pixel[scene]
      )
      down = ray[:, i, 1] * v + step * (ray[:, i, 1] * pixel[scene])
      line = down.astype(np.float32)[:, None] + along.astype(np.float32)[None]
      lines.append(line.reshape(_TILE * _TILE, -1))
    enter, leave = primitives.box_span(lines[:3], lines[3:])
    if low >= flats:
      quadric = forms.quadric[p].T
      enter, leave = primitives.quadric_span(
        lines[:3], lines[3:], quadric, enter, leave
      )
    enter += forms.start[p].astype(np.float32)
    leave += forms.start[p].astype(np.float32)
    met = np.flatnonzero((enter < leave) & (enter > NEAR_PLANE))
    base = (scene * padded + row[chunk] * _TILE) * padded
    base = base + column[chunk] * _TILE
    inner = np.arange(_TILE)[:, None] * padded + np.arange(_TILE)
    flat = (base[None] + inner.reshape(-1, 1)).ravel()[met]
    owner = np.broadcast_to(p, enter.shape).ravel()[met]
    bits = enter.ravel()[met].view(np.uint32).astype(np.uint64)
    key = (bits << np.uint64(32)) | owner.astype(np.uint64)
    np.minimum.at(nearest, flat, key)
    hit_pixel.append(flat)
    hit_part.append(owner)
  depth, surface = room_exit(layout, size)
  depth, surface = depth.ravel(), surface.ravel()
  found = np.flatnonzero(nearest != NOTHING)
  key = nearest[found]
  depth[found] = (key >> np.uint64(32)).astype(np.uint32).view(np.float32)
  surface[found] = (key & np.uint64(0xFFFFFFFF)).astype(np.int64) + PLANES
  empty = [np.zeros(0, np.int64)]
  hits = Hits(
    pixel=np.concatenate(hit_pixel or empty),
    part=np.concatenate(hit_part or empty),
  )
  return View(size, padded, depth, surface, forms, hits)


def room_forms(layout: Layout):
  """Ray direction [B, 3, 3] over (u, v, 1) and eye [B, 3] in the room frame."""
  cos, sin = np.cos(layout.room_turn), np.sin(layout.room_turn)
  zero = np.zeros_like(cos)
  rows = [cos, zero, -sin, zero, zero + 1, zero, sin, zero, cos]
  axes = np.stack(rows, -1).reshape(-1, 3, 3)
  direction = (axes[:, :, None] * layout.basis[:, None]).sum(-1)
  eye = (axes * layout.eye[:, None]).sum(-1)
  return direction, eye


def grid(layout: Layout, size: int):
  """Image positions u [B, 1, side] and v [B, side, 1] of the pixel centres."""
  place = np.arange(padded_size(size)) + 0.5 - size / 2
  at = place / (layout.focal * size)[:, None]
  return at[:, None, :], at[:, :, None]


def room_exit(layout: Layout, size: int):
  """Depth and plane [B, side, side] where each ray leaves the room."""
  direction, eye = room_forms(layout)
  u, v = grid(layout, size)
  depth = None
  for axis, planes in enumerate(AXIS_PLANES):
    form = direction[:, axis, :, None, None]
    along = (form[:, 0] * u).astype(np.float32)
    down = (form[:, 1] * v + form[:, 2]).astype(np.float32)
    ray = along + down
    plane = (ray > 0).astype(np.uint8)
    plane += np.uint8(planes[0])
    # Of the two walls of an axis one lies ahead and one behind.
    low = (layout.room_low[:, axis] - eye[:, axis]).astype(np.float32)
    high = (layout.room_high[:, axis] - eye[:, axis]).astype(np.float32)
    away = np.maximum(low[:, None, None] / ray, high[:, None, None] / ray)
    if depth is None:
      depth, surface = away, plane
    else:
      surface = np.where(away < depth, plane, surface)
      depth = np.minimum(depth, away, out=depth)
  return depth, surface.astype(np.int64)
