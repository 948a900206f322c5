"""Placement of objects: each stands where it fits, is seen and hides no other.

Apparent size and distance are drawn independently of each other and of the
shape: otherwise "the larger is closer" or a name would answer questions.
"""

from __future__ import annotations

import numpy as np

from cooper_jax.world.config import MAX_OBJECTS
from cooper_jax.world.layout import catalogue

PLACES = 10  # candidates of each object
PER_SLOT = 32  # uniforms of an object
PER_TRY = 6  # and of each place that it tries
SLOTS = MAX_OBJECTS
_SURE_SIZE = 0.22  # of the image height
_SURE_DISTANCE = 1.6  # metres


def between(uniform, low, high):
  """Uniforms in [0, 1) as values from low to high, of any one shape."""
  return low + (high - low) * uniform


def log_between(uniform, low, high):
  """As `between`, even in the logarithm."""
  return np.exp(between(uniform, np.log(low), np.log(high)))


def turned(points, angle):
  """Turns points [B, 3] about the vertical axis."""
  cos, sin = np.cos(angle), np.sin(angle)
  x, y, z = points[..., 0], points[..., 1], points[..., 2]
  return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def place(config, camera, room, shape, wanted, header, slots):
  """Puts the objects of each scene one by one where they fit.

  Every slot has PLACES candidate places [B, PLACES]; the first that lies in
  the room and in the picture, runs into no earlier object and hides none is
  taken.
  """
  count = len(shape)
  rows = np.arange(count)
  eye, basis, focal = camera["eye"], camera["basis"], camera["focal"]
  edge = 0.5 / focal
  tallest = np.array([0.6, 0.55, 0.5, 0.46, 0.43, 0.4, 0.37])[wanted]
  crowded = header[:, 14] < 0.5
  overlap_limit = np.where(crowded, 0.45, 0.1)[:, None, None]
  state = {
    "present": np.zeros((count, SLOTS), bool),
    "centre": np.zeros((count, SLOTS, 3)),
    "half": np.full((count, SLOTS, 3), 0.1),
    "turn": np.zeros((count, SLOTS)),
    "plinth": np.zeros((count, SLOTS), bool),
  }
  solid = np.zeros((count, SLOTS, 5))  # x, z, radius, bottom, top
  screen = np.zeros((count, SLOTS, 5))  # u low, u high, v low, v high, foot
  for slot in range(SLOTS):
    own = slots[:, slot]
    tries = own[:, PER_SLOT:].reshape(count, PLACES, PER_TRY)
    proportions = catalogue.PROPORTIONS[shape[:, slot]]
    vary = np.exp((2 * own[:, 11:13] - 1) * np.log(proportions[:, 2:3]))
    width = (proportions[:, 0] * vary[:, 0])[:, None]
    # Shapes that may turn all the way are round, and stay so.
    round_B = proportions[:, 3] == 180
    depth = (proportions[:, 1] * vary[np.arange(count), 1 - round_B])[:, None]
    turn = (2 * own[:, 13] - 1) * proportions[:, 3] * (np.pi / 180)
    # Two draws of apparent size and distance, five places for each: a shape
    # that is hard to place keeps nearly the sizes of the others.
    size = log_between(own[:, 14:16], 0.2, tallest[:, None])
    size = size * config.object_size
    furthest = np.minimum(config.far, room["room_high"][:, 2])[:, None]
    # Far places are often refused (walls, ceiling): they are tried more often.
    distance = log_between(own[:, 16:18] ** 0.65, config.near, furthest)
    size = np.repeat(size, PLACES // 2, axis=1)
    distance = np.repeat(distance, PLACES // 2, axis=1)
    # The last place is one that fits in every empty room.
    size[:, -1], distance[:, -1] = _SURE_SIZE, _SURE_DISTANCE
    height = size * distance / focal[:, None]
    half = np.stack([width * height, height, depth * height], -1) / 2
    radius = np.sqrt(half[..., 0] ** 2 + half[..., 2] ** 2)
    # The depth that counts is the front's: a deep object moves back.
    distance = distance + 0.7 * half[..., 2]
    half_u = half[..., 0] / distance
    half_v = half[..., 1] / distance
    free_u = edge[:, None] * 0.98 - half_u
    free_v = edge[:, None] * 0.98 - half_v
    u = (2 * tries[..., 0] - 1) * free_u
    u[:, -1] *= 0.5
    # Heights that the picture allows, then heights that the room allows.
    level = eye[:, 1:2] + distance * (u * basis[:, 0, 1:2] + basis[:, 2, 1:2])
    drop = distance * -basis[:, 1, 1:2]
    lowest = np.maximum(level - free_v * drop, half[..., 1])
    ceiling = room["room_high"][:, 1:2]
    highest = np.minimum(level + free_v * drop, 0.97 * ceiling - half[..., 1])
    fits = (lowest <= highest) & (free_u > 0) & (free_v > 0)
    y = between(tries[..., 1], lowest, highest)
    grounded = (lowest == half[..., 1]) & (tries[..., 2] < 0.55)
    y = np.where(grounded, half[..., 1], y)
    v = (level - y) / drop
    centre = eye[:, None] + distance[..., None] * (
      u[..., None] * basis[:, None, 0]
      + v[..., None] * basis[:, None, 1]
      + basis[:, None, 2]
    )
    bottom = y - half[..., 1]
    plinth = (bottom > 0.05) & (bottom < 2.2) & (tries[..., 3] < 0.65)
    fits &= distance - radius - 0.25 > 0
    inside = turned(centre, -room["room_turn"][:, None])
    for axis in (0, 2):
      low = room["room_low"][:, axis, None] + radius + 0.03
      high = room["room_high"][:, axis, None] - radius - 0.03
      fits &= (inside[..., axis] > low) & (inside[..., axis] < high)
    # The foot: the lowest point on screen, plinth included.
    base = np.where(plinth, 0.0, bottom)
    foot = v + (y - base) / drop
    body = np.stack(
      [
        centre[..., 0],
        centre[..., 2],
        radius,
        base,
        y + half[..., 1],
      ],
      -1,
    )
    view = np.stack([u - half_u, u + half_u, v - half_v, v + half_v, foot], -1)
    if slot:
      others = state["present"][:, None, :slot]
      clear = _apart(body[:, :, None], solid[:, None, :slot])
      clear &= _visible(
        view[:, :, None],
        distance[:, :, None],
        screen[:, None, :slot],
        _depth(state["centre"][:, :slot], eye, basis)[:, None],
        overlap_limit,
      )
      fits &= np.all(clear | ~others, axis=-1)
    first = np.argmax(fits, axis=1)
    found = fits[rows, first] & (slot < wanted)
    state["present"][:, slot] = found
    state["centre"][:, slot] = centre[rows, first]
    state["half"][:, slot] = half[rows, first]
    state["turn"][:, slot] = turn
    state["plinth"][:, slot] = plinth[rows, first] & found
    solid[:, slot] = body[rows, first]
    screen[:, slot] = view[rows, first]
  return state


def _depth(centre, eye, basis):
  forward = basis[:, 2][:, None]
  return ((centre - eye[:, None]) * forward).sum(-1)


def _apart(body, others):
  """Do two upright cylinders keep clear of each other?"""
  gap_x = body[..., 0] - others[..., 0]
  gap_z = body[..., 1] - others[..., 1]
  reach = body[..., 2] + others[..., 2]
  beside = gap_x * gap_x + gap_z * gap_z > reach * reach
  above = (body[..., 3] > others[..., 4]) | (others[..., 3] > body[..., 4])
  return beside | above


def _visible(view, distance, other_view, other_distance, limit):
  """Does neither hide more than `limit` of the other on screen?"""
  nearer = distance < other_distance
  low = np.where(nearer, view[..., 4], view[..., 3])
  other_low = np.where(nearer, other_view[..., 3], other_view[..., 4])
  across = np.minimum(view[..., 1], other_view[..., 1]) - np.maximum(
    view[..., 0], other_view[..., 0]
  )
  along = np.minimum(low, other_low) - np.maximum(
    view[..., 2], other_view[..., 2]
  )
  shared = np.maximum(across, 0) * np.maximum(along, 0)
  area = (view[..., 1] - view[..., 0]) * (view[..., 3] - view[..., 2])
  other_area = (other_view[..., 1] - other_view[..., 0]) * (
    other_view[..., 3] - other_view[..., 2]
  )
  return shared <= limit * np.where(nearer, other_area, area)
