"""Paint and light: from visible surfaces to an RGB picture and normals.

One point light with inverse-square falloff, so brightness tells distance as it
does in a photograph taken with a lamp; one shadow ray a pixel; patterns of
fixed size in metres on floor and walls, which give the picture its scale.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.data.scenes import shadows, visible
from cooper_jax.data.scenes.layout import Layout
from cooper_jax.data.scenes.parts import Parts
from cooper_jax.data.scenes.visible import PLANES, View

# Display values; the light is computed on their squares (gamma 2).
PAINT = np.array(
  [
    (0.86, 0.13, 0.12),  # red
    (0.97, 0.53, 0.08),  # orange
    (0.98, 0.87, 0.16),  # yellow
    (0.16, 0.66, 0.22),  # green
    (0.15, 0.82, 0.85),  # cyan
    (0.16, 0.31, 0.90),  # blue
    (0.52, 0.20, 0.74),  # purple
    (0.98, 0.50, 0.72),  # pink
  ],
  np.float32,
)
_FLOORS = np.array(
  [
    (0.62, 0.50, 0.40),
    (0.52, 0.40, 0.31),
    (0.62, 0.62, 0.62),
    (0.70, 0.66, 0.60),
    (0.50, 0.52, 0.55),
  ],
  np.float32,
)
_WALLS = np.array(
  [
    (0.82, 0.80, 0.76),
    (0.76, 0.79, 0.82),
    (0.80, 0.77, 0.70),
    (0.74, 0.78, 0.74),
    (0.80, 0.75, 0.76),
  ],
  np.float32,
)
_AMBIENT = 0.42
_LIGHT = 1.25
_FALLOFF = 5.0  # metres at which the lamp gives half of its light
_HAZE = 0.045  # per metre


def world_points(layout: Layout, view: View):
  """World position of every pixel's surface: three arrays f32 [B*S*S]."""
  u, v = visible.grid(layout, view.size)
  depth = view.depth.reshape(len(layout.index), view.padded, view.padded)
  points = []
  for axis in range(3):
    basis = layout.basis[:, :, axis, None, None]
    along = (basis[:, 0] * u).astype(np.float32)
    down = (basis[:, 1] * v + basis[:, 2]).astype(np.float32)
    eye = layout.eye[:, axis, None, None].astype(np.float32)
    points.append(((along + down) * depth + eye).ravel())
  return points


def paint(layout: Layout, parts: Parts, view: View, *, shaded: bool = True):
  """Linear RGB f32 [3, B*S*S] and world normals f32 [3, B*S*S]."""
  scenes = len(layout.index)
  each = view.padded * view.padded
  points = world_points(layout, view)
  on_part = view.surface >= PLANES
  inside = np.flatnonzero(on_part)
  # Room: normals and base colours from small tables.
  scene = np.repeat(np.arange(scenes), each)
  plane = np.where(on_part, 0, view.surface) + scene * PLANES
  normal_table, colour_table = _room_tables(layout)
  normals = normal_table[:, plane]
  part = view.surface[inside] - PLANES
  local = _local(parts, part, [p[inside] for p in points])
  normals[:, inside] = _part_normals(parts, part, local)
  if not shaded:
    return None, normals
  colour = colour_table[:, plane]
  room = np.flatnonzero(~on_part)
  colour[:, room] *= _room_pattern(layout, view, points, scene, room)
  colour[:, inside] = _part_colour(
    layout, parts, view, part, scene[inside], inside, local, points
  )
  light = layout.light.astype(np.float32)[scene].T
  to_light = [light[i] - points[i] for i in range(3)]
  square = sum(p * p for p in to_light)
  distance = np.sqrt(square)
  facing = sum(p * n for p, n in zip(to_light, normals))
  lit = shadows.lit(layout, parts, view, points, normals, facing)
  lambert = np.maximum(facing, 0) / distance
  lamp = lit * lambert * (_LIGHT / (1 + square / _FALLOFF**2))
  sky = _AMBIENT * (0.8 + 0.2 * normals[1])
  haze = 1 / (1 + _HAZE * view.depth)
  colour *= (sky + lamp) * haze
  colour[:, inside] += _highlight(
    layout, view, points, to_light, normals, scene, inside, lamp
  )
  return colour, normals


def _room_tables(layout):
  """Normals and colours [3, B * PLANES] of floor, ceiling and walls."""
  cos, sin = np.cos(layout.room_turn), np.sin(layout.room_turn)
  zero = np.zeros_like(cos)
  x = np.stack([cos, zero, -sin])
  z = np.stack([sin, zero, cos])
  y = np.stack([zero, zero + 1, zero])
  normals = np.stack([y, -y, x, -x, z, -z], axis=-1).astype(np.float32)
  style = layout.style
  floor = _FLOORS[np.floor(style[:, 0] * len(_FLOORS)).astype(np.int64)]
  wall = _WALLS[np.floor(style[:, 1] * len(_WALLS)).astype(np.int64)]
  floor = floor * (0.85 + 0.3 * style[:, 2:3])
  wall = wall * (0.85 + 0.25 * style[:, 3:4])
  ceiling = np.full_like(wall, 0.9)
  side, front = wall * 0.97, wall
  colours = np.stack([floor, ceiling, side, side, front, front], axis=1)
  colours = (colours**2).astype(np.float32)
  return normals.reshape(3, -1), colours.reshape(-1, 3).T.copy()


def _band(phase, blur):
  """A square wave of period 2 in [-1, 1], smoothed over `blur` periods."""
  triangle = np.abs(phase - 2 * np.floor(phase * 0.5 + 0.25) - 0.5) - 0.5
  soft = np.maximum(blur, 0.02)
  wave = np.clip(triangle / soft, -1, 1)
  return wave * np.clip(1.3 - blur, 0, 1)


def _footprint(layout, view, scene, pixels):
  """Metres that a pixel spans at its surface."""
  pixel = (1 / (layout.focal * view.size)).astype(np.float32)
  return view.depth[pixels] * pixel[scene[pixels]]


def _room_pattern(layout, view, points, scene, room):
  """Brightness of floor tiles or boards, and of a dado on the walls."""
  owner = scene[room]
  turn = layout.room_turn.astype(np.float32)[owner]
  cos, sin = np.cos(turn), np.sin(turn)
  x, y, z = (p[room] for p in points)
  across = cos * x - sin * z
  along = sin * x + cos * z
  size = _footprint(layout, view, scene, room)
  style = layout.style.astype(np.float32)[owner]
  surface = view.surface[room]
  floor = surface == 0
  wall = surface > 1
  boards = style[:, 4] < 0.4
  scale = np.where(boards, 1 / 0.3, 2.0).astype(np.float32)  # 30 cm or 50 cm
  blur = size * scale
  first = _band(across * scale, blur)
  second = np.where(boards, 1, _band(along * scale, 2.5 * blur))
  strength = 0.06 + 0.16 * style[:, 5]
  tiles = 1 + strength * first * second
  panel = np.where(surface > 3, across, along)
  lines = np.where(style[:, 6] < 0.5, _band(panel * 2, 2 * size), 0)
  dado = np.clip((1.0 - y) / np.maximum(size, 1e-3), 0, 1)
  walls = (1 + 0.05 * lines) * (1 - (0.1 + 0.25 * style[:, 7]) * dado)
  return np.where(floor, tiles, np.where(wall, walls, 1)).astype(np.float32)


def _local(parts, part, points):
  """Surface points in their part's frame, in half sizes: [-1, 1]."""
  table = np.concatenate(
    [parts.centre, 1 / parts.half, parts.axes[:, 0, [0, 2]]], axis=1
  )
  centre_half = table.astype(np.float32).T[:, part]
  rel = [points[i] - centre_half[i] for i in range(3)]
  cos, sin = centre_half[6], centre_half[7]
  return [
    (cos * rel[0] + sin * rel[2]) * centre_half[3],
    rel[1] * centre_half[4],
    (cos * rel[2] - sin * rel[0]) * centre_half[5],
  ]


def _part_normals(parts, part, local):
  """World normals [3, n] of points on parts."""
  inverse = (1 / parts.half).astype(np.float32).T[:, part]
  quadric = parts.quadric.astype(np.float32).T[:, part]
  turn = parts.axes[:, 0, [0, 2]].astype(np.float32).T[:, part]
  size = [np.abs(p) for p in local]
  most = np.maximum(np.maximum(size[0], size[1]), size[2])
  flat = (most > 0.999) | ~parts.curved[part]
  normal = []
  for i in range(3):
    bend = 2 * quadric[i] * local[i]
    if i == 1:
      bend = bend + quadric[3]
    face = np.where(size[i] == most, np.sign(local[i]), 0)
    normal.append(np.where(flat, face, bend * inverse[i]))
  length = np.sqrt(sum(n * n for n in normal))
  scale = 1 / np.maximum(length, 1e-12)
  x, y, z = (n * scale for n in normal)
  cos, sin = turn
  return np.stack([cos * x - sin * z, y, sin * x + cos * z])


def _part_colour(layout, parts, view, part, scene, pixels, local, points):
  """Albedo [3, n]: the named colour under stripes, checks or nothing."""
  owner = parts.owner[part]
  colour = PAINT[layout.colour[scene, owner]].T ** 2
  paint_table = layout.paint.astype(np.float32)[scene, owner].T
  plinth = parts.object[part] == 0
  kind, strength = paint_table[0], 0.12 + 0.2 * paint_table[1]
  half = layout.half.astype(np.float32)[scene, owner].T
  pixel = (1 / (layout.focal * view.size)).astype(np.float32)
  # Three to five bands over the height of the object, whatever its size.
  repeats = np.floor(3 + 3 * paint_table[2])
  base = layout.centre.astype(np.float32)[scene, owner, 1]
  height = (points[1][pixels] - base) / half[1]
  blur = view.depth[pixels] * pixel[scene] / half[1] * repeats
  bands = _band(height * repeats * 0.5 + 0.5, blur)
  upright = _band(local[0] * repeats * 0.5 + 0.5, blur)
  pattern = np.where(
    kind < 0.5, 0, np.where(kind < 0.75, bands, bands * upright)
  )
  tone = 1 + np.where(plinth, 0, strength * pattern)
  floors = _room_tables(layout)[1][:, scene * PLANES]
  return np.where(plinth, 0.9 * floors, colour) * tone.astype(np.float32)


def _highlight(layout, view, points, to_light, normals, scene, inside, lamp):
  """Blinn's highlight on objects: the shine that tells a ball from a disc."""
  eye = layout.eye.astype(np.float32)[scene[inside]].T
  to_eye = [eye[i] - points[i][inside] for i in range(3)]
  towards = [p[inside] for p in to_light]
  eye_length = np.sqrt(sum(p * p for p in to_eye))
  light_length = np.sqrt(sum(p * p for p in towards))
  half = [a / eye_length + b / light_length for a, b in zip(to_eye, towards)]
  length = np.sqrt(sum(p * p for p in half))
  cosine = sum(h * n[inside] for h, n in zip(half, normals)) / length
  shine = np.maximum(cosine, 0)
  for _ in range(5):  # to the 32nd power
    shine = shine * shine
  return 0.35 * shine * np.minimum(lamp[inside], 1)
