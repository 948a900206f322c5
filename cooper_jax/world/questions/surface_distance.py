"""Distances between the surfaces of two objects, in metres.

An object is taken as its convex hull, which is a core (a point, or a
rectangle for shapes with corners) widened by a radius that depends on height.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world import config
from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.questions.measure import Facts

_LEVELS = 12
NOT_A_PRISM = config.SHAPES.index("disc")  # neither: no question about its gap


# Levels from bottom to top, dense at both ends where balls and domes curve.
_LEVEL = np.sin(np.pi / 2 * np.linspace(-1, 1, _LEVELS))
# (radius / half width)^2 as a + b level + c level^2; others have corners.
_CURVES = {
  "ball": (1.0, 0.0, -1.0),
  "can": (1.0, 0.0, 0.0),
  "cone": (0.25, -0.5, 0.25),
  "dome": (0.75, -0.5, -0.25),
}
_PROFILE = np.array([_CURVES.get(name, (0.0,) * 3) for name in config.SHAPES])
_IS_ROUND = np.array([name in _CURVES for name in config.SHAPES])


def _radius(curve, level):
  """Radius at a level in [-1, 1] of each object."""
  a, b, c = curve[..., 0:1], curve[..., 1:2], curve[..., 2:3]
  return np.sqrt(np.maximum(a + level * (b + level * c), 0))


_FIRST, _SECOND = np.triu_indices(config.MAX_OBJECTS, 1)


def gaps(layout: Layout, facts: Facts) -> np.ndarray:
  """Metres between the hulls of each two objects [B, objects, objects]."""
  core = _core_distances(layout, _IS_ROUND[layout.shape])
  core = core[:, _FIRST, _SECOND]
  curve = _PROFILE[layout.shape] * layout.half[..., :1] ** 2
  radius = _radius(curve, _LEVEL)
  half, y = layout.half[..., 1], layout.centre[..., 1]
  height = y[..., None] + half[..., None] * _LEVEL
  # Every level of one against every level of the other.
  across = np.maximum(
    core[..., None, None]
    - radius[:, _FIRST, :, None]
    - radius[:, _SECOND, None, :],
    0,
  )
  along = height[:, _FIRST, :, None] - height[:, _SECOND, None, :]
  square = (across * across + along * along).min((-2, -1))
  # Levels of one, matched by the nearest level of the other: exact where two
  # upright sides face each other.
  for one, other in ((_FIRST, _SECOND), (_SECOND, _FIRST)):
    low = (y - half)[:, other, None]
    mine = height[:, one]
    there = np.clip(mine, low, (y + half)[:, other, None])
    level = (there - y[:, other, None]) / half[:, other, None]
    matched = _radius(curve[:, other], level)
    beside = np.maximum(core[..., None] - radius[:, one] - matched, 0)
    rise = there - mine
    square = np.minimum(square, (beside * beside + rise * rise).min(-1))
  gap = np.zeros((len(y), config.MAX_OBJECTS, config.MAX_OBJECTS))
  gap[:, _FIRST, _SECOND] = gap[:, _SECOND, _FIRST] = np.sqrt(square)
  return gap


def _core_distances(layout, is_round):
  """Horizontal metres between cores [B, objects, objects], points or boxes."""
  cos, sin = np.cos(layout.turn), np.sin(layout.turn)
  x, z = layout.centre[..., 0], layout.centre[..., 2]
  half_x = np.where(is_round, 0, layout.half[..., 0])
  half_z = np.where(is_round, 0, layout.half[..., 2])
  best = None
  for side_x, side_z in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
    corner_x = x + cos * half_x * side_x - sin * half_z * side_z
    corner_z = z + sin * half_x * side_x + cos * half_z * side_z
    # Corner of the first in the frame of the second.
    rel_x = corner_x[:, :, None] - x[:, None]
    rel_z = corner_z[:, :, None] - z[:, None]
    c, s = cos[:, None], sin[:, None]
    out_x = np.abs(c * rel_x + s * rel_z) - half_x[:, None]
    out_z = np.abs(c * rel_z - s * rel_x) - half_z[:, None]
    out_x, out_z = np.maximum(out_x, 0), np.maximum(out_z, 0)
    square = out_x * out_x + out_z * out_z
    best = square if best is None else np.minimum(best, square)
  return np.sqrt(np.minimum(best, np.swapaxes(best, 1, 2)))
