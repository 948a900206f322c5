"""Shadows: one ray from every lit pixel, tested only against what may stop it.

A matrix product of light directions sorts out nearly all (pixel, part) pairs
by the part's bounding sphere; the exact kernel sees the rest.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.render import primitives
from cooper_jax.world.render.primitives import Parts
from cooper_jax.world.render.raycast import View


def lit(
  layout: Layout, parts: Parts, view: View, points, normals, facing
) -> np.ndarray:
  """Share of the lamp's light, 0 to 1, that reaches each pixel [B, side*side].

  The edges are softened over a pixel either way.
  """
  scenes = len(layout.index)
  each = view.padded * view.padded
  pixel, part = _candidates(layout, parts, points, facing, each)
  blocked = _blocked(layout, parts, points, normals, pixel, part)
  light = np.ones(scenes * each, np.float32)
  light[pixel[blocked]] = 0
  light = _soften(light.reshape(scenes, view.padded, view.padded))
  return light.reshape(scenes, each)


def _candidates(layout, parts, points, facing, each):
  """Pairs (pixel, part) whose ray to the light may meet the part."""
  towards = parts.centre - layout.light[parts.scene]
  away = np.sqrt((towards * towards).sum(-1))
  radius = _radii(parts) * 1.01
  sine = np.minimum(radius / away, 1)
  cosine = np.where(radius < away, np.sqrt(1 - sine * sine), -1)
  aim = (towards / away[:, None]).astype(np.float32)
  # From the light, a part counts only before the surface that it may darken.
  near = (away - radius).astype(np.float32)
  cosine = cosine.astype(np.float32)
  pixels, pairs = [], []
  for scene in range(len(layout.index)):
    mine = np.flatnonzero(parts.scene == scene)
    if not len(mine):
      continue
    usable = np.flatnonzero(facing[scene] > 0)
    light = layout.light[scene].astype(np.float32)
    ray = np.stack([np.take(p[scene], usable, mode="clip") for p in points])
    ray -= light[:, None]
    length = np.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
    close = aim[mine] @ ray >= cosine[mine, None] * length
    close &= length > near[mine, None]
    found = np.flatnonzero(close)
    row = found // len(usable)
    pixels.append(usable[found - row * len(usable)] + scene * each)
    pairs.append(mine[row])
  empty = [np.zeros(0, np.int64)]
  return np.concatenate(pixels or empty), np.concatenate(pairs or empty)


def _radii(parts):
  """Radius of a sphere around each part, tight for round ones."""
  x, y, z = parts.half.T
  qx, qy, qz = parts.quadric.T[:3]
  upright = (qx > 0) & (qz > 0)
  level = np.where(upright, np.maximum(x, z), np.sqrt(x * x + z * z))
  radius = np.sqrt(level * level + y * y)
  ball = (qx == 1) & (qy == 1) & (qz == 1)
  return np.where(ball, np.maximum(np.maximum(x, y), z), radius)


def _blocked(layout, parts, points, normals, pixel, part):
  """Does the part stand between the pixel and the light?"""
  table = np.concatenate(
    [
      parts.centre.T,
      (1 / parts.half).T,
      parts.axes[:, 0, [0, 2]].T,
      layout.light[parts.scene].T,
    ]
  ).astype(np.float32)
  row = np.take(table, part, axis=1, mode="clip")
  centre, inverse, (cos, sin), light = row[:3], row[3:6], row[6:8], row[8:]
  start, ray = [], []
  for i in range(3):
    # Off the surface by a hair, so that it does not shade itself.
    point = np.take(normals[i], pixel, mode="clip") * np.float32(2e-3)
    point += np.take(points[i], pixel, mode="clip")
    start.append(point - centre[i])
    ray.append(light[i] - point)
  ray = _turn(ray, cos, sin, inverse)
  start = _turn(start, cos, sin, inverse)
  with np.errstate(divide="ignore", invalid="ignore"):
    enter, leave = primitives.box_span(ray, start)
    curved = np.flatnonzero(parts.curved[part])
    quadric = np.take(parts.quadric.astype(np.float32).T, part[curved], axis=1)
    enter[curved], leave[curved] = primitives.quadric_span(
      [r[curved] for r in ray],
      [s[curved] for s in start],
      quadric,
      enter[curved],
      leave[curved],
    )
  return (enter < leave) & (leave > 0) & (enter < 1) & (leave > 1e-4)


def _turn(vector, cos, sin, inverse):
  x, y, z = vector
  return [
    (cos * x + sin * z) * inverse[0],
    y * inverse[1],
    (cos * z - sin * x) * inverse[2],
  ]


def _soften(light):
  """Averages with weights 1 2 1 along both axes."""
  padded = np.pad(light, ((0, 0), (1, 1), (1, 1)), mode="edge")
  rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
  return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16
