"""Parts of objects, as boxes cut by quadrics, and where a ray meets them.

Everything here that decides which surface a pixel shows uses only + - * /,
sqrt, min, max and comparisons on f32 arrays; IEEE fixes their results, so the
maps agree between machines (trigonometry is done in f64 and rounded).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cooper_jax.world.layout import catalogue
from cooper_jax.world.layout.sample import Layout

PLINTH_WIDTH = 0.8


@dataclasses.dataclass(frozen=True)
class Parts:
  """All parts of a batch of scenes, P of them; `object` 0 is a plinth."""

  scene: np.ndarray  # i64 [parts]
  object: np.ndarray  # i64 [parts]: 1 + slot, 0 for plinths
  centre: np.ndarray  # f64 [parts, 3]
  half: np.ndarray  # f64 [parts, 3]
  axes: np.ndarray  # f64 [parts, 3, 3]: rows are the part's axes in the world
  quadric: np.ndarray  # f64 [parts, 5]
  curved: np.ndarray  # bool [parts]: has a quadric
  owner: np.ndarray  # i64 [parts]: slot, for plinths the slot that stands on it


def expand(layout: Layout) -> Parts:
  """Lists the parts of every present object and its plinth."""
  count = catalogue.PART_COUNT[layout.shape]
  places = np.arange(catalogue.MAX_PARTS)
  used = layout.present[..., None] & (places < count[..., None])
  scene, slot, part = np.nonzero(used)
  shape = layout.shape[scene, slot]
  kind = catalogue.PART_KIND[shape, part]
  half = layout.half[scene, slot]
  offset = catalogue.PART_CENTRE[shape, part] * half
  axes = _axes(layout.turn[scene, slot])
  centre = layout.centre[scene, slot] + np.stack(
    [
      axes[:, 0, 0] * offset[:, 0] + axes[:, 2, 0] * offset[:, 2],
      offset[:, 1],
      axes[:, 0, 2] * offset[:, 0] + axes[:, 2, 2] * offset[:, 2],
    ],
    axis=-1,
  )
  plinth_scene, plinth_slot = np.nonzero(layout.plinth & layout.present)
  owner_half = layout.half[plinth_scene, plinth_slot]
  owner_centre = layout.centre[plinth_scene, plinth_slot]
  rise = (owner_centre[:, 1] - owner_half[:, 1]) / 2
  plinth_centre = np.stack([owner_centre[:, 0], rise, owner_centre[:, 2]], -1)
  plinth_half = np.stack(
    [PLINTH_WIDTH * owner_half[:, 0], rise, PLINTH_WIDTH * owner_half[:, 2]],
    axis=-1,
  )
  zeros = np.zeros(len(plinth_scene), np.int64)
  kind = np.concatenate([kind, zeros])
  return Parts(
    scene=np.concatenate([scene, plinth_scene]),
    object=np.concatenate([slot + 1, zeros]),
    centre=np.concatenate([centre, plinth_centre]),
    half=np.concatenate([catalogue.PART_HALF[shape, part] * half, plinth_half]),
    axes=np.concatenate([axes, _axes(layout.turn[plinth_scene, plinth_slot])]),
    quadric=catalogue.QUADRIC_TABLE[kind],
    curved=kind > 0,
    owner=np.concatenate([slot, plinth_slot]),
  )


def _axes(turn):
  cos, sin, zero = np.cos(turn), np.sin(turn), np.zeros_like(turn)
  rows = [cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos]
  return np.stack(rows, axis=-1).reshape(-1, 3, 3)


def box_span(direction, origin):
  """Where rays origin + t direction run inside [-1, 1]^3.

  Takes and returns lists over x, y, z; returns entry and exit t. An entry
  beyond the exit is a miss.
  """
  enter = leave = None
  for d, e in zip(direction, origin):
    inverse = np.float32(1) / d
    middle = -e * inverse
    reach = np.abs(inverse)
    low, high = middle - reach, middle + reach
    if enter is None:
      enter, leave = low, high
    else:
      np.maximum(enter, low, out=enter)
      np.minimum(leave, high, out=leave)
  return enter, leave


def quadric_span(direction, origin, quadric, enter, leave):
  """Cuts the spans of `box_span` down to the inside of a quadric."""
  dx, dy, dz = direction
  ex, ey, ez = origin
  qx, qy, qz, line, limit = quadric
  half_line = line * np.float32(0.5)
  fx, fy, fz = qx * dx, qy * dy, qz * dz
  a = fx * dx + fy * dy + fz * dz
  b = fx * ex + fy * ey + fz * ez + half_line * dy
  c = qx * ex * ex + qy * ey * ey + qz * ez * ez + line * ey - limit
  square = b * b - a * c
  real = square >= 0
  root = np.sqrt(np.maximum(square, 0))
  a = np.where(np.abs(a) < 1e-12, np.float32(1e-12), a)
  first = (-b - root) / a  # the larger of the two where a < 0
  second = (-b + root) / a
  # a > 0: inside between the roots. a < 0 (steep rays through a cone): inside
  # outside of them; the box keeps the lower nappe, so one side is met.
  opens = a < 0
  before = opens & (enter <= second)
  after = opens & ~before
  cut_enter = np.where(
    before, enter, np.where(after, np.maximum(enter, first), 0)
  )
  cut_leave = np.where(before, np.minimum(leave, second), leave)
  cut_enter = np.where(opens, cut_enter, np.maximum(enter, first))
  cut_leave = np.where(opens, cut_leave, np.minimum(leave, second))
  always = opens & ~real
  cut_enter = np.where(always, enter, cut_enter)
  cut_leave = np.where(always, leave, cut_leave)
  missed = ~real & ~opens
  cut_leave[missed] = -np.inf
  return cut_enter, cut_leave
