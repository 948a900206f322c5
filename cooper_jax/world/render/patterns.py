"""Colours and patterns of rooms and objects, as tables and brightness.

Patterns have the same size in metres in every scene and on every object, which
gives the picture its scale.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world.render.raycast import PLANES

_BAND = 0.2  # metres: height of a stripe, side of a check of an object

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


def room_tables(layout):
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


def room_tone(layout, view, tables, points, plane):
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


PART_ROWS = (
  "cx cy cz ix iy iz cos sin qx qy qz line curved"
  " red green blue strength upright blur".split()
)


def part_table(layout, parts, size, room_colours):
  """What painting a pixel of a part takes: one row per entry of PART_ROWS."""
  scene, owner = parts.scene, parts.owner
  plinth = parts.object == 0
  named = PAINT[layout.colour[scene, owner]].T ** 2
  colour = np.where(plinth, 0.9 * room_colours[:, scene * PLANES], named)
  kind, strength = layout.paint[scene, owner].T
  upright = np.where(kind > 0.5, parts.half[:, 0] / _BAND, 0)
  pixel = 1 / (layout.focal[scene] * size)
  rows = [
    *parts.centre.T,
    *(1 / parts.half).T,
    parts.axes[:, 0, 0],
    parts.axes[:, 0, 2],
    *parts.quadric.T[:4],
    parts.curved,
    *colour,
    np.where(plinth, 0.1, 0.14 + 0.16 * strength),
    upright,
    pixel / _BAND,
  ]
  return np.stack(rows).astype(np.float32)


def part_tone(row, depth, local, height):
  """Brightness of the stripes or checks of objects and their plinths."""
  blur = depth * row["blur"]
  tone = _band(height * np.float32(1 / _BAND) + np.float32(0.5), blur)
  upright = _band(local[0] * row["upright"] + np.float32(0.5), blur)
  tone *= np.where(row["upright"] > 0, upright, 1)
  tone *= row["strength"]
  tone += 1
  return tone
