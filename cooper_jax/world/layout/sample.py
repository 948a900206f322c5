"""Rooms, cameras and objects, drawn at random: a batch of scenes as arrays.

Each scene owns one Philox stream keyed by (seed, split, index), so it is the
same scene in any batch. Apparent size and distance are drawn independently:
otherwise "the larger is closer" would answer most questions about distance.

World frame: origin on the floor below the camera, x right, y up, z forward.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cooper_jax.world.config import COLOURS, SHAPES, SPLITS, WorldConfig
from cooper_jax.world.layout import placement

_HEADER = 64
_LAYOUT = _HEADER + placement.SLOTS * (
  placement.PER_SLOT + placement.PLACES * placement.PER_TRY
)
QUESTION_DRAWS = 1400
_SPLIT_BITS = 3


@dataclasses.dataclass(frozen=True)
class Layout:
  """Scenes before they are drawn; B scenes, object slots, lengths in metres.

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
  present: np.ndarray  # bool [B, objects]
  shape: np.ndarray  # i64 [B, objects]
  colour: np.ndarray  # i64 [B, objects]
  centre: np.ndarray  # [B, objects, 3]
  half: np.ndarray  # [B, objects, 3] half width, height, depth in its own frame
  turn: np.ndarray  # [B, objects] radians about the vertical
  plinth: np.ndarray  # bool [B, objects]: stands on a block of the floor
  paint: np.ndarray  # [B, objects, 2] uniforms: stripes or checks, how strong
  draws: np.ndarray  # [B, QUESTION_DRAWS] uniforms for the questions


def uniforms(config: WorldConfig, split: str, index: int) -> np.ndarray:
  """All random numbers of one scene."""
  split_id = SPLITS.index(split)
  key = np.array(
    [(config.seed << _SPLIT_BITS) | split_id, index], dtype=np.uint64
  )
  generator = np.random.Generator(np.random.Philox(key=key))
  return generator.random(_LAYOUT + QUESTION_DRAWS)


def sample(
  config: WorldConfig, *, split: str, start: int, count: int
) -> Layout:
  """Draws scenes `start` to `start + count` of a split."""
  index = np.arange(start, start + count)
  # [B, uniforms]
  drawn = np.stack([uniforms(config, split, int(i)) for i in index])
  header = drawn[:, :_HEADER]
  slots = drawn[:, _HEADER:_LAYOUT].reshape(count, placement.SLOTS, -1)
  camera = _camera(config, header)
  room = _room(header)
  colour, shape = _names(config, split, header, slots)
  # Few objects may be larger, so that the objects fill the image alike.
  spread = config.max_objects - config.min_objects + 1
  wanted = config.min_objects + np.floor(header[:, 0] * spread)
  wanted = wanted.astype(np.int64)
  placed = placement.place(config, camera, room, shape, wanted, header, slots)
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
    light=placement.turned(light, room["room_turn"]),
    style=header[:, 24:40],
    shape=shape,
    colour=colour,
    **placed,
    paint=slots[:, :, 20:22],
    draws=drawn[:, _LAYOUT:],
  )


def _camera(config, header):
  degrees = np.pi / 180
  fov = placement.between(header[:, 1], *config.field_of_view) * degrees
  pitch = placement.between(header[:, 2], *config.pitch) * degrees
  roll = placement.between(header[:, 3], -config.roll, config.roll) * degrees
  height = placement.between(header[:, 4], *config.camera_height)
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
  turn = placement.between(header[:, 5], -0.5, 0.5)
  back = placement.log_between(header[:, 6], 4.5, 14.5)
  left = -np.maximum(placement.log_between(header[:, 7], 1.6, 6.5), 0.42 * back)
  right = np.maximum(placement.log_between(header[:, 8], 1.6, 6.5), 0.42 * back)
  height = np.maximum(placement.log_between(header[:, 9], 2.6, 6.0), 0.4 * back)
  zero = np.zeros_like(turn)
  return {
    "room_turn": turn,
    "room_low": np.stack([left, zero, zero - 1.5], -1),
    "room_high": np.stack([right, height, back], -1),
  }


def _names(config, split, header, slots):
  """Colours and shapes, each pair once a scene, as ids [B, objects]."""
  count = len(header)
  rows = np.arange(count)
  order = np.argsort(header[:, 40:48], axis=1)
  palette = 2 + (header[:, 10] < 0.4)  # colours of a scene that repeats them
  repeats = header[:, 11] < 0.6
  pick = np.floor(slots[:, :, 0] * palette[:, None]).astype(np.int64)
  pick = np.where(repeats[:, None], pick, np.arange(placement.SLOTS))
  colour = order[rows[:, None], pick]
  # Half of the scenes prefer two or three shapes, so that counts exceed one.
  favourites = np.argsort(header[:, 48:58], axis=1)[:, :3]
  bonus = np.zeros((count, len(SHAPES)))
  bonus[rows[:, None], favourites] = np.where(header[:, 12] < 0.55, 0.7, 0.0)[
    :, None
  ]
  taken = np.zeros((count, len(COLOURS), len(SHAPES)))
  held_out = [(COLOURS.index(c), SHAPES.index(s)) for c, s in config.held_out]
  shape = np.zeros((count, placement.SLOTS), np.int64)
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
  for slot in range(first, placement.SLOTS):
    wish = slots[:, slot, 1:11] + bonus - taken[rows, colour[:, slot]]
    shape[:, slot] = np.argmax(wish, axis=1)
    taken[rows, colour[:, slot], shape[:, slot]] = 10
  return colour, shape
