"""Draws rooms, cameras and objects: a batch of scenes as arrays.

Each scene owns one Philox stream keyed by (seed, split, index), so it is the
same scene in any batch. Apparent size and distance are drawn independently:
otherwise "the larger is closer" would answer most questions about distance.

World frame: origin on the floor below the camera, x right, y up, z forward.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cooper_jax.data.scenes import config as worlds
from cooper_jax.data.scenes import shapes

TRIES = 10
SLOTS = worlds.MAX_OBJECTS
_HEADER = 64
_PER_SLOT = 32
_PER_TRY = 6
_LAYOUT = _HEADER + SLOTS * (_PER_SLOT + TRIES * _PER_TRY)
QUESTION_DRAWS = 1400
_SPLIT_BITS = 3
_SURE_SIZE = 0.22  # of the image height
_SURE_DISTANCE = 1.6  # metres


@dataclasses.dataclass(frozen=True)
class Layout:
  """Scenes before they are drawn; B scenes, N object slots, lengths in metres.

  `basis` rows are the camera's right, down and forward axes in the world.
  A slot that holds nothing has `present` False.
  """

  index: np.ndarray  # i64 [B]
  focal: np.ndarray  # [B] in image widths
  eye: np.ndarray  # [B, 3]
  basis: np.ndarray  # [B, 3, 3]
  room_turn: np.ndarray  # [B] radians
  room_low: np.ndarray  # [B, 3] corners in the room's own frame
  room_high: np.ndarray  # [B, 3]
  light: np.ndarray  # [B, 3]
  style: np.ndarray  # [B, 16] uniforms for paint, used by the renderer
  present: np.ndarray  # bool [B, N]
  shape: np.ndarray  # i64 [B, N]
  colour: np.ndarray  # i64 [B, N]
  centre: np.ndarray  # [B, N, 3]
  half: np.ndarray  # [B, N, 3] half width, height, depth in its own frame
  turn: np.ndarray  # [B, N] radians about the vertical
  plinth: np.ndarray  # bool [B, N]: stands on a block of the floor
  paint: np.ndarray  # [B, N, 4] uniforms: texture
  draws: np.ndarray  # [B, QUESTION_DRAWS] uniforms for the questions


def uniforms(config: worlds.WorldConfig, split: str, index: int) -> np.ndarray:
  """All random numbers of one scene."""
  split_id = worlds.SPLITS.index(split)
  key = np.array(
    [(config.seed << _SPLIT_BITS) | split_id, index], dtype=np.uint64
  )
  generator = np.random.Generator(np.random.Philox(key=key))
  return generator.random(_LAYOUT + QUESTION_DRAWS)


def sample(
  config: worlds.WorldConfig, *, split: str, start: int, count: int
) -> Layout:
  """Draws scenes `start` to `start + count` of a split."""
  index = np.arange(start, start + count)
  drawn_BU = np.stack([uniforms(config, split, int(i)) for i in index])
  header = drawn_BU[:, :_HEADER]
  slots = drawn_BU[:, _HEADER:_LAYOUT].reshape(count, SLOTS, -1)
  camera = _camera(config, header)
  room = _room(header)
  colour, shape = _names(config, split, header, slots)
  # Few objects may be larger, so that the objects fill the image alike.
  spread = config.max_objects - config.min_objects + 1
  wanted = config.min_objects + np.floor(header[:, 0] * spread)
  wanted = wanted.astype(np.int64)
  placed = _place(config, camera, room, shape, wanted, header, slots)
  low, high = room["room_low"], room["room_high"]
  light = np.stack(
    [
      low[:, 0] + (high[:, 0] - low[:, 0]) * (0.2 + 0.6 * header[:, 20]),
      high[:, 1] * (0.7 + 0.25 * header[:, 21]),
      -0.5 + (0.5 + 0.4 * high[:, 2]) * header[:, 22],
    ],
    axis=-1,
  )
  return Layout(
    index=index,
    **camera,
    **room,
    light=_turned(light, room["room_turn"]),
    style=header[:, 24:40],
    shape=shape,
    colour=colour,
    **placed,
    paint=slots[:, :, 20:24],
    draws=drawn_BU[:, _LAYOUT:],
  )


def _between(uniform, low, high):
  return low + (high - low) * uniform


def _log_between(uniform, low, high):
  return np.exp(_between(uniform, np.log(low), np.log(high)))


def _turned(points, angle):
  """Turns points [B, 3] about the vertical axis."""
  cos, sin = np.cos(angle), np.sin(angle)
  x, y, z = points[..., 0], points[..., 1], points[..., 2]
  return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def _camera(config, header):
  degrees = np.pi / 180
  fov = _between(header[:, 1], *config.field_of_view) * degrees
  pitch = _between(header[:, 2], *config.pitch) * degrees
  roll = _between(header[:, 3], -config.roll, config.roll) * degrees
  height = _between(header[:, 4], *config.camera_height)
  zero, one = np.zeros_like(pitch), np.ones_like(pitch)
  right = np.stack([one, zero, zero], -1)
  down = np.stack([zero, -np.cos(pitch), -np.sin(pitch)], -1)
  forward = np.stack([zero, -np.sin(pitch), np.cos(pitch)], -1)
  cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
  basis = np.stack(
    [cos * right + sin * down, cos * down - sin * right, forward], 1
  )
  eye = np.stack([zero, height, zero], -1)
  return {"focal": 0.5 / np.tan(fov / 2), "eye": eye, "basis": basis}


def _room(header):
  turn = _between(header[:, 5], -0.5, 0.5)
  back = _log_between(header[:, 6], 4.5, 14.5)
  left = -np.maximum(_log_between(header[:, 7], 1.6, 6.5), 0.42 * back)
  right = np.maximum(_log_between(header[:, 8], 1.6, 6.5), 0.42 * back)
  height = np.maximum(_log_between(header[:, 9], 2.6, 6.0), 0.4 * back)
  zero = np.zeros_like(turn)
  return {
    "room_turn": turn,
    "room_low": np.stack([left, zero, zero - 1.5], -1),
    "room_high": np.stack([right, height, back], -1),
  }


def _names(config, split, header, slots):
  """Colours and shapes, each pair once a scene, as ids [B, N]."""
  count = len(header)
  rows = np.arange(count)
  order = np.argsort(header[:, 40:48], axis=1)
  palette = 2 + (header[:, 10] < 0.4)  # colours of a scene that repeats them
  repeats = header[:, 11] < 0.6
  pick = np.floor(slots[:, :, 0] * palette[:, None]).astype(np.int64)
  pick = np.where(repeats[:, None], pick, np.arange(SLOTS))
  colour = order[rows[:, None], pick]
  # Half of the scenes prefer two or three shapes, so that counts exceed one.
  favourites = np.argsort(header[:, 48:58], axis=1)[:, :3]
  bonus = np.zeros((count, len(worlds.SHAPES)))
  bonus[rows[:, None], favourites] = np.where(header[:, 12] < 0.55, 0.7, 0.0)[
    :, None
  ]
  taken = np.zeros((count, len(worlds.COLOURS), len(worlds.SHAPES)))
  held_out = [
    (worlds.COLOURS.index(c), worlds.SHAPES.index(s))
    for c, s in config.held_out
  ]
  shape = np.zeros((count, SLOTS), np.int64)
  if split == "heldout" and held_out:
    pair = np.floor(header[:, 13] * len(held_out)).astype(np.int64)
    pairs = np.array(held_out)[pair]
    colour[:, 0], shape[:, 0] = pairs[:, 0], pairs[:, 1]
    taken[rows, pairs[:, 0], pairs[:, 1]] = 10
    first = 1
  else:
    for c, s in held_out:
      taken[:, c, s] = 10
    first = 0
  for slot in range(first, SLOTS):
    wish = slots[:, slot, 1:11] + bonus - taken[rows, colour[:, slot]]
    shape[:, slot] = np.argmax(wish, axis=1)
    taken[rows, colour[:, slot], shape[:, slot]] = 10
  return colour, shape


def _place(config, camera, room, shape, wanted, header, slots):
  """Puts the objects of each scene one by one where they fit.

  Every slot has TRIES candidate places [B, K]; the first that lies in the room
  and in the picture, runs into no earlier object and hides none is taken.
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
    tries = own[:, _PER_SLOT:].reshape(count, TRIES, _PER_TRY)
    proportions = shapes.PROPORTIONS[shape[:, slot]]
    vary = np.exp((2 * own[:, 11:13] - 1) * np.log(proportions[:, 2:3]))
    width = (proportions[:, 0] * vary[:, 0])[:, None]
    depth = proportions[:, 1] * vary[:, 1]
    depth = np.where(proportions[:, 2] == 1, proportions[:, 1], depth)[:, None]
    turn = (2 * own[:, 13] - 1) * proportions[:, 3] * (np.pi / 180)
    # Two draws of apparent size and distance, five places for each: a shape
    # that is hard to place keeps nearly the sizes of the others.
    size = _log_between(own[:, 14:16], 0.2, tallest[:, None])
    furthest = np.minimum(config.far, room["room_high"][:, 2])[:, None]
    # Far places are often refused (walls, ceiling): they are tried more often.
    distance = _log_between(own[:, 16:18] ** 0.65, config.near, furthest)
    size = np.repeat(size, TRIES // 2, axis=1)
    distance = np.repeat(distance, TRIES // 2, axis=1)
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
    y = _between(tries[..., 1], lowest, highest)
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
    inside = _turned(centre, -room["room_turn"][:, None])
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
