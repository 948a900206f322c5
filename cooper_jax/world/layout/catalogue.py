"""Catalogue of shapes: each as parts that one ray kernel understands.

A part is a box cut by at most one quadric, both in the part's own frame where
the box is [-1, 1]^3 (x right, y up, z deep):

  qx x^2 + qy y^2 + qz z^2 + l y <= c

Boxes have no quadric. Compounds (pillar, table, shelf) are several parts with
one instance id. All shapes draw their height from one distribution, so that a
name says nothing about a height.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cooper_jax.world.config import SHAPES

# (qx, qy, qz, l, c)
QUADRICS = {
  "box": (0.0, 0.0, 0.0, 0.0, 1.0),
  "ellipsoid": (1.0, 1.0, 1.0, 0.0, 1.0),
  "cylinder": (1.0, 0.0, 1.0, 0.0, 1.0),  # upright
  "wheel": (1.0, 1.0, 0.0, 0.0, 1.0),  # axis points at the viewer
  # x^2 + z^2 <= ((1 - y) / 2)^2, apex at y = 1
  "cone": (1.0, -0.25, 1.0, 0.5, 0.25),
  # x^2 + z^2 + ((1 + y) / 2)^2 <= 1, flat side at y = -1
  "dome": (1.0, 0.25, 1.0, 0.5, 0.75),
}
KINDS = tuple(QUADRICS)
QUADRIC_TABLE = np.array([QUADRICS[kind] for kind in KINDS])


@dataclasses.dataclass(frozen=True)
class Solid:
  """A shape's proportions and its parts as (kind, centre, half size).

  Width and depth are multiples of the height, `vary` a factor either way.
  Centres and half sizes are fractions of the object's half extents.
  """

  width: float
  depth: float
  vary: float
  turn: float  # yaw is drawn within +- this many degrees
  parts: tuple[tuple[str, tuple, tuple], ...]


def _whole(kind: str) -> tuple:
  return ((kind, (0, 0, 0), (1, 1, 1)),)


def _table() -> tuple:
  sides = [("box", (0.86 * x, -0.15, 0), (0.12, 0.85, 0.9)) for x in (-1, 1)]
  return (("box", (0, 0.85, 0), (1, 0.15, 1)), *sides)


def _shelf() -> tuple:
  sides = [("box", (0.9 * x, 0, 0), (0.1, 1, 1)) for x in (-1, 1)]
  boards = [("box", (0, y, 0), (0.9, 0.075, 1)) for y in (-0.88, 0, 0.92)]
  return (*sides, *boards, ("box", (0, 0, 0.95), (0.9, 1, 0.05)))


_PILLAR = (
  ("cylinder", (0, 0, 0), (0.62, 0.84, 0.62)),
  ("box", (0, -0.92, 0), (1, 0.08, 1)),
  ("box", (0, 0.92, 0), (1, 0.08, 1)),
)

CATALOGUE = {
  "box": Solid(0.95, 0.95, 1.2, 45, _whole("box")),
  "ball": Solid(1.0, 1.0, 1.0, 180, _whole("ellipsoid")),
  "can": Solid(0.78, 0.78, 1.15, 180, _whole("cylinder")),
  "cone": Solid(1.0, 1.0, 1.15, 180, _whole("cone")),
  "dome": Solid(1.7, 1.7, 1.15, 180, _whole("dome")),
  "pillar": Solid(0.46, 0.46, 1.1, 45, _PILLAR),
  "disc": Solid(1.0, 0.18, 1.0, 40, _whole("wheel")),
  "plank": Solid(0.5, 0.12, 1.15, 40, _whole("box")),
  "table": Solid(1.45, 0.95, 1.15, 40, _table()),
  "shelf": Solid(0.85, 0.4, 1.15, 40, _shelf()),
}

MAX_PARTS = max(len(shape.parts) for shape in CATALOGUE.values())


def _tables():
  shapes = [CATALOGUE[name] for name in SHAPES]
  count = np.array([len(shape.parts) for shape in shapes])
  kind = np.zeros((len(shapes), MAX_PARTS), np.int64)
  centre = np.zeros((len(shapes), MAX_PARTS, 3))
  half = np.ones((len(shapes), MAX_PARTS, 3))
  for i, shape in enumerate(shapes):
    for j, (name, middle, size) in enumerate(shape.parts):
      kind[i, j] = KINDS.index(name)
      centre[i, j] = middle
      half[i, j] = size
  proportions = np.array([[s.width, s.depth, s.vary, s.turn] for s in shapes])
  return count, kind, centre, half, proportions


PART_COUNT, PART_KIND, PART_CENTRE, PART_HALF, PROPORTIONS = _tables()
