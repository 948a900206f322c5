"""How far apart the surfaces of two objects are.

An object is taken as its convex hull, which is a core (a point, or a
rectangle for shapes with corners) widened by a radius that depends on height.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.data.scenes import config as worlds
from cooper_jax.data.scenes.facts import Facts
from cooper_jax.data.scenes.layout import Layout

_LEVELS = 12
_ROUND = ("ball", "can", "cone", "dome")
NOT_A_PRISM = worlds.SHAPES.index("disc")  # neither: no question about its gap


def _profiles():
  """Radius over half the width, per shape and level from bottom to top."""
  level = np.linspace(-1, 1, _LEVELS)
  table = np.zeros((len(worlds.SHAPES), _LEVELS))
  curves = {
    "ball": np.sqrt(1 - level**2),
    "can": np.ones(_LEVELS),
    "cone": (1 - level) / 2,
    "dome": np.sqrt(1 - ((1 + level) / 2) ** 2),
  }
  for name, curve in curves.items():
    table[worlds.SHAPES.index(name)] = curve
  return table


_PROFILE = _profiles()
_IS_ROUND = np.array([name in _ROUND for name in worlds.SHAPES])


_FIRST, _SECOND = np.triu_indices(worlds.MAX_OBJECTS, 1)


def gaps(layout: Layout, facts: Facts) -> np.ndarray:
  """Distance between the hulls of each two objects [B, N, N], metres."""
  core = _core_distances(layout, _IS_ROUND[layout.shape])
  core = core[:, _FIRST, _SECOND]
  radius = _PROFILE[layout.shape] * layout.half[..., :1]
  half, y = layout.half[..., 1], layout.centre[..., 1]
  height = y[..., None] + half[..., None] * np.linspace(-1, 1, _LEVELS)
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
    place = (there - low) / (2 * half[:, other, None]) * (_LEVELS - 1)
    below = np.clip(np.floor(place).astype(np.int64), 0, _LEVELS - 2)
    share = place - below
    profile = radius[:, other]
    matched = np.take_along_axis(profile, below, -1) * (1 - share)
    matched += np.take_along_axis(profile, below + 1, -1) * share
    beside = np.maximum(core[..., None] - radius[:, one] - matched, 0)
    rise = there - mine
    square = np.minimum(square, (beside * beside + rise * rise).min(-1))
  gap = np.zeros((len(y), worlds.MAX_OBJECTS, worlds.MAX_OBJECTS))
  gap[:, _FIRST, _SECOND] = gap[:, _SECOND, _FIRST] = np.sqrt(square)
  return gap


def _core_distances(layout, round_BN):
  """Horizontal distance between cores: points or rectangles [B, N, N]."""
  cos, sin = np.cos(layout.turn), np.sin(layout.turn)
  x, z = layout.centre[..., 0], layout.centre[..., 2]
  half_x = np.where(round_BN, 0, layout.half[..., 0])
  half_z = np.where(round_BN, 0, layout.half[..., 2])
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
