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
_AMBIENT = 0.48
_LIGHT = 1.2
_FALLOFF = 6.0  # metres at which the lamp gives half of its light
_HAZE = 0.045  # per metre


def paint(layout: Layout, parts: Parts, view: View, *, shaded: bool = True):
  """Linear RGB (None if not shaded) and world normals, each 3 x f32 [B, S*S].

  Arrays are [B, S*S]; what is one number per scene broadcasts as [B, 1].
  """
  scenes = len(layout.index)
  surface = view.surface.reshape(scenes, -1)
  on_part = surface >= PLANES
  inside = np.flatnonzero(on_part)
  part = view.surface[inside] - PLANES
  points = _world_points(layout, view)
  # Room first: everything from small tables by scene and plane.
  plane = np.where(on_part, 0, surface) + PLANES * np.arange(scenes)[:, None]
  tables = _room_tables(layout)
  normals = [np.take(row, plane, mode="clip") for row in tables["normal"]]
  table = _part_table(layout, parts, view.size, tables["colour"])
  row = dict(zip(_PART_ROWS, np.take(table, part, axis=1, mode="clip")))
  local = _local(row, [p.ravel()[inside] for p in points])
  on_parts = _part_normals(row, local)
  for whole, some in zip(normals, on_parts):
    whole.ravel()[inside] = some
  if not shaded:
    return None, normals
  tone = _room_tone(layout, view, tables, points, plane)
  colour = [
    np.take(line, plane, mode="clip") * tone for line in tables["colour"]
  ]
  depth = view.depth.reshape(scenes, -1)
  tone = _part_tone(row, view.depth[inside], local, points[1].ravel()[inside])
  for whole, name in zip(colour, ("red", "green", "blue")):
    whole.ravel()[inside] = row[name] * tone
  light = layout.light.astype(np.float32)
  to_light = [light[:, i, None] - points[i] for i in range(3)]
  square = _dot(to_light, to_light)
  facing = _dot(to_light, normals)
  lit = shadows.lit(layout, parts, view, points, normals, facing)
  lamp = np.maximum(facing, 0)
  lamp /= np.sqrt(square)
  lamp *= lit
  square *= np.float32(1 / _FALLOFF**2)
  square += 1
  lamp /= square
  lamp *= np.float32(_LIGHT)
  total = normals[1] * np.float32(0.2 * _AMBIENT)
  total += np.float32(0.8 * _AMBIENT)
  total += lamp
  total /= 1 + np.float32(_HAZE) * depth
  eye = layout.eye.astype(np.float32)[inside // surface.shape[1]].T
  shine = _shine(
    [eye[i] - points[i].ravel()[inside] for i in range(3)],
    [ray.ravel()[inside] for ray in to_light],
    on_parts,
  )
  shine *= np.minimum(lamp.ravel()[inside], 1)
  for channel in colour:
    channel *= total
    channel.ravel()[inside] += shine
  return colour, normals


def _dot(a, b):
  total = a[0] * b[0]
  total += a[1] * b[1]
  total += a[2] * b[2]
  return total


def _world_points(layout, view):
  """World position of every pixel's surface: three arrays f32 [B, S*S]."""
  u, v = visible.grid(layout, view.size)
  depth = view.depth.reshape(len(layout.index), view.padded, view.padded)
  points = []
  for axis in range(3):
    basis = layout.basis[:, :, axis, None, None]
    along = (basis[:, 0] * u).astype(np.float32)
    down = (basis[:, 1] * v + basis[:, 2]).astype(np.float32)
    point = along + down
    point *= depth
    point += layout.eye[:, axis, None, None].astype(np.float32)
    points.append(point.reshape(len(layout.index), -1))
  return points


def _room_tables(layout):
  """Looks of floor, ceiling and walls by scene and plane, [B * PLANES] each."""
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
  side = wall * 0.97
  ceiling = np.full_like(wall, 0.9)
  colours = np.stack([floor, ceiling, side, side, wall, wall], axis=1) ** 2
  boards = style[:, 4] < 0.4
  scale = np.where(boards, 1 / 0.3, 2.0)  # boards of 30 cm, tiles of 50 cm
  strength = 0.06 + 0.16 * style[:, 5]
  lines = np.where(style[:, 6] < 0.5, 0.05, 0)
  dado = 0.1 + 0.25 * style[:, 7]
  walls = [zero + 2] * 4

  def flat(*planes):
    return np.stack(planes, -1).astype(np.float32).ravel()

  return {
    "normal": normals.reshape(3, -1),
    "colour": np.ascontiguousarray(colours.reshape(-1, 3).T.astype(np.float32)),
    "scale": flat(scale, zero, *walls),
    "strength": flat(strength, zero, *[lines] * 4),
    "dado": flat(zero, zero, *[dado] * 4),
    # Which way the stripes run: along the room's x or along its z.
    "across": flat(zero + 1, zero, zero, zero, zero + 1, zero + 1),
    "checks": flat(np.where(boards, 0, 1), *[zero] * 5),
  }


def _band(phase, blur):
  """A square wave of period 2 in [-1, 1], smoothed over `blur` periods."""
  wave = phase * np.float32(0.5)
  wave += np.float32(0.25)
  wave = np.floor(wave, out=wave)
  wave *= -2
  wave += phase
  wave -= np.float32(0.5)
  wave = np.abs(wave, out=wave)
  wave -= np.float32(0.5)
  wave /= np.maximum(blur, np.float32(0.02))
  wave = np.minimum(np.maximum(wave, -1, out=wave), 1, out=wave)
  fade = np.minimum(np.float32(1.3) - blur, 1)
  wave *= np.maximum(fade, 0, out=fade)
  return wave


def _room_tone(layout, view, tables, points, plane):
  """Brightness of tiles, boards and panels, and of a dado a metre high.

  Their sizes in metres are the same in every room.
  """
  cos = np.cos(layout.room_turn).astype(np.float32)[:, None]
  sin = np.sin(layout.room_turn).astype(np.float32)[:, None]
  x, y, z = points
  across = cos * x - sin * z
  along = sin * x + cos * z
  pixel = (1 / (layout.focal * view.size)).astype(np.float32)[:, None]
  size = view.depth.reshape(len(pixel), -1) * pixel  # metres per pixel
  scale = np.take(tables["scale"], plane, mode="clip")
  blur = size * scale
  stripes = np.where(
    np.take(tables["across"], plane, mode="clip") > 0, across, along
  )
  stripes *= scale
  tone = _band(stripes, blur)
  checked = np.flatnonzero(np.take(tables["checks"], plane, mode="clip"))
  blur = blur.ravel()[checked]
  blur *= np.float32(2.5)  # a floor is seen at a slant
  along = along.ravel()[checked] * scale.ravel()[checked]
  tone.ravel()[checked] *= _band(along, blur)
  tone *= np.take(tables["strength"], plane, mode="clip")
  tone += 1
  dado = (1 - y) / size
  dado = np.minimum(np.maximum(dado, 0, out=dado), 1, out=dado)
  dado *= np.take(tables["dado"], plane, mode="clip")
  tone *= np.subtract(1, dado, out=dado)
  return tone


_PART_ROWS = (
  "cx cy cz ix iy iz cos sin qx qy qz line curved"
  " red green blue strength bands upright object_y object_i blur".split()
)


def _part_table(layout, parts, size, room_colours):
  """What painting a pixel of a part takes: one row per entry of _PART_ROWS."""
  scene, owner = parts.scene, parts.owner
  plinth = parts.object == 0
  named = PAINT[layout.colour[scene, owner]].T ** 2
  colour = np.where(plinth, 0.9 * room_colours[:, scene * PLANES], named)
  kind, strength, repeats, _ = layout.paint[scene, owner].T
  half = layout.half[scene, owner, 1]
  # Two to five bands over the height of the object, whatever its size.
  bands = np.floor(2 + 4 * repeats) / 2
  patterned = (kind > 0.5) & ~plinth
  pixel = 1 / (layout.focal[scene] * size)
  rows = [
    *parts.centre.T,
    *(1 / parts.half).T,
    parts.axes[:, 0, 0],
    parts.axes[:, 0, 2],
    *parts.quadric.T[:4],
    parts.curved,
    *colour,
    np.where(patterned, 0.12 + 0.2 * strength, 0),
    bands,
    np.where(kind > 0.75, bands, 0),
    layout.centre[scene, owner, 1],
    1 / half,
    pixel / half * bands * 2,
  ]
  return np.stack(rows).astype(np.float32)


def _local(row, points):
  """Surface points in their part's frame, in half sizes: [-1, 1]."""
  x, y, z = points[0] - row["cx"], points[1] - row["cy"], points[2] - row["cz"]
  return [
    (row["cos"] * x + row["sin"] * z) * row["ix"],
    y * row["iy"],
    (row["cos"] * z - row["sin"] * x) * row["iz"],
  ]


def _part_normals(row, local):
  """World normals, 3 x [n], of points on parts."""
  size = [np.abs(p) for p in local]
  most = np.maximum(np.maximum(size[0], size[1]), size[2])
  flat = (most > 0.999) | (row["curved"] == 0)
  normal = []
  for i, axis in enumerate("xyz"):
    bend = row["q" + axis] * local[i]
    if axis == "y":
      bend += np.float32(0.5) * row["line"]
    bend *= row["i" + axis]
    face = np.sign(local[i]) * (size[i] == most)
    normal.append(np.where(flat, face, bend))
  length = np.sqrt(_dot(normal, normal))
  x, y, z = (n / np.maximum(length, np.float32(1e-12)) for n in normal)
  cos, sin = row["cos"], row["sin"]
  return [cos * x - sin * z, y, sin * x + cos * z]


def _part_tone(row, depth, local, height):
  """Brightness of the stripes or checks of an object."""
  blur = depth * row["blur"]
  rise = (height - row["object_y"]) * row["object_i"]
  tone = _band(rise * row["bands"] + np.float32(0.5), blur)
  upright = _band(local[0] * row["upright"] + np.float32(0.5), blur)
  tone *= np.where(row["upright"] > 0, upright, 1)
  tone *= row["strength"]
  tone += 1
  return tone


def _shine(to_eye, to_light, normals):
  """Blinn's highlight: the shine that tells a ball from a disc."""
  near = 1 / np.sqrt(_dot(to_eye, to_eye))
  far = 1 / np.sqrt(_dot(to_light, to_light))
  half = [a * near + b * far for a, b in zip(to_eye, to_light)]
  cosine = _dot(half, normals) / np.sqrt(_dot(half, half))
  shine = np.maximum(cosine, 0)
  for _ in range(5):  # to the 32nd power
    shine *= shine
  shine *= np.float32(0.35)
  return shine
