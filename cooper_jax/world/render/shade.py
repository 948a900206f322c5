"""Shading: from visible surfaces to an RGB picture and surface normals.

Apparent size says nothing about distance in this world, so the picture has to:
floors, many walls and the sides of objects carry patterns of fixed size in
metres, the camera has a lamp of its own whose light falls off with the square
of the distance, and the air is hazy (a fixed share of what is seen turns into
the haze's colour with each metre of depth). A point light in the room casts
shadows, one ray a pixel.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.render import patterns, raycast, shadows
from cooper_jax.world.render.primitives import Parts
from cooper_jax.world.render.raycast import PLANES, View

_AMBIENT = 0.48
_LIGHT = 1.2
_FALLOFF = 6.0  # metres at which the lamp gives half of its light
_FLASH = 0.45  # the camera's own lamp, at the lens
_FLASH_FALLOFF = 1.5  # metres at which it gives half of its light
_SIGHT = 7.0  # metres that leave 1/e of what is seen through the haze
_HAZE = (0.42, 0.48, 0.55)  # colour of the haze, linear


def paint(layout: Layout, parts: Parts, view: View, *, shaded: bool = True):
  """Linear RGB (None if not shaded) and world normals, 3 x f32 [B, side*side].

  Arrays are [B, side*side]; what is one number per scene broadcasts as [B, 1].
  """
  scenes = len(layout.index)
  surface = view.surface.reshape(scenes, -1)
  on_part = surface >= PLANES
  inside = np.flatnonzero(on_part)
  part = view.surface[inside] - PLANES
  points = _world_points(layout, view)
  # Room first: everything from small tables by scene and plane.
  plane = np.where(on_part, 0, surface) + PLANES * np.arange(scenes)[:, None]
  tables = patterns.room_tables(layout)
  normals = [np.take(row, plane, mode="clip") for row in tables["normal"]]
  table = patterns.part_table(layout, parts, view.size, tables["colour"])
  row = dict(zip(patterns.PART_ROWS, np.take(table, part, axis=1, mode="clip")))
  local = _local(row, [p.ravel()[inside] for p in points])
  on_parts = _part_normals(row, local)
  for whole, some in zip(normals, on_parts):
    whole.ravel()[inside] = some
  if not shaded:
    return None, normals
  tone = patterns.room_tone(layout, view, tables, points, plane)
  colour = [
    np.take(line, plane, mode="clip") * tone for line in tables["colour"]
  ]
  depth = view.depth.reshape(scenes, -1)
  tone = patterns.part_tone(
    row, view.depth[inside], local, points[1].ravel()[inside]
  )
  for whole, name in zip(colour, ("red", "green", "blue")):
    whole.ravel()[inside] = row[name] * tone
  light = layout.light.astype(np.float32)
  to_light = [light[:, i, None] - points[i] for i in range(3)]
  square = _dot(to_light, to_light)
  facing = _dot(to_light, normals)
  lit = shadows.lit(layout, parts, view, points, normals, facing)
  lamp = _shed(square, facing, _FALLOFF)
  lamp *= lit
  lamp *= np.float32(_LIGHT)
  total = normals[1] * np.float32(0.2 * _AMBIENT)
  total += np.float32(0.8 * _AMBIENT)
  total += lamp
  eye = layout.eye.astype(np.float32)
  to_eye = [eye[:, i, None] - points[i] for i in range(3)]
  flash = _shed(_dot(to_eye, to_eye), _dot(to_eye, normals), _FLASH_FALLOFF)
  flash *= np.float32(_FLASH)
  total += flash
  clear = np.exp(depth * np.float32(-1 / _SIGHT))
  shine = _shine(
    [ray.ravel()[inside] for ray in to_eye],
    [ray.ravel()[inside] for ray in to_light],
    on_parts,
  )
  shine *= np.minimum(lamp.ravel()[inside], 1)
  for channel, haze in zip(colour, _HAZE, strict=True):
    channel *= total
    channel.ravel()[inside] += shine
    channel -= np.float32(haze)
    channel *= clear
    channel += np.float32(haze)
  return colour, normals


def _shed(square, facing, falloff):
  """Light of a lamp: Lambert's cosine, inverse square from `falloff` on.

  `square` is the squared distance, `facing` the product of the way to the lamp
  with the normal; `square` is used up.
  """
  light = np.maximum(facing, 0)
  light /= np.sqrt(square)
  square *= np.float32(1 / falloff**2)
  square += 1
  light /= square
  return light


def _dot(a, b):
  total = a[0] * b[0]
  total += a[1] * b[1]
  total += a[2] * b[2]
  return total


def _world_points(layout, view):
  """World position of every pixel's surface: 3 x f32 [B, side*side]."""
  u, v = raycast.grid(layout, view.size)
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
