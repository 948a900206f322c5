"""Measurements of objects: what their pixels and their place say.

Everything a question is about is read here once, for a whole batch, so that
questions only pick and compare.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cooper_jax.world.config import MAX_OBJECTS, SHAPES, WorldConfig
from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.render.render import Pictures

_ROUND = [SHAPES.index(s) for s in ("ball", "can", "cone", "dome")]
_MOST_HIDDEN = 0.5  # an object less than half seen is not asked about


@dataclasses.dataclass(frozen=True)
class Facts:
  """B scenes, object slots; positions in pixels, lengths in metres."""

  named: np.ndarray  # bool [B, objects]: seen well enough to be asked about
  seen: np.ndarray  # i64 [B, objects] visible pixels
  shape: np.ndarray  # i64 [B, objects]
  colour: np.ndarray  # i64 [B, objects]
  present: np.ndarray  # bool [B, objects]
  box: np.ndarray  # i64 [B, objects, 4] rows and columns: top bottom left right
  middle: np.ndarray  # f64 [B, objects, 2] mean row and column
  at: np.ndarray  # i64 [B, objects] flat pixel: visible, nearest the middle
  top: np.ndarray  # i64 [B, objects] flat pixel: the first in the topmost row
  bottom: np.ndarray  # i64 [B, objects] flat pixel: the last in the lowest row
  depth: np.ndarray  # f64 [B, objects] median planar depth of visible pixels
  centre: np.ndarray  # f64 [B, objects, 3] world
  height: np.ndarray  # f64 [B, objects]
  width: np.ndarray  # f64 [B, objects] along the camera's right axis
  hidden: np.ndarray  # i64 [B, objects, objects]: pixels of a that b covers
  focal: np.ndarray  # f64 [B] focal length in image widths
  size: int  # pixels a side


def gather(layout: Layout, pictures: Pictures, config: WorldConfig) -> Facts:
  """Reads the facts of a batch off its maps and its layout."""
  size = config.image_size
  scenes = len(layout.index)
  slots = MAX_OBJECTS
  flat = np.flatnonzero(pictures.instances)
  each = size * size
  scene = flat // each
  pixel = flat - scene * each
  owner = scene * slots + pictures.instances.ravel()[flat] - 1
  row, column = pixel // size, pixel % size
  total = scenes * slots
  seen = np.bincount(owner, minlength=total)
  safe = np.maximum(seen, 1)
  middle_row = np.bincount(owner, row, total) / safe
  middle_column = np.bincount(owner, column, total) / safe
  off = (row - middle_row[owner]) ** 2 + (column - middle_column[owner]) ** 2
  key = np.rint(off * 16).astype(np.int64) * each + pixel
  at = np.full(total, np.iinfo(np.int64).max)
  np.minimum.at(at, owner, key)
  at = np.where(seen > 0, at % each, 0)
  top = np.full(total, each)
  np.minimum.at(top, owner, pixel)
  bottom = np.full(total, -1)
  np.maximum.at(bottom, owner, pixel)
  top, bottom = np.where(seen, top, 0), np.where(seen, bottom, 0)
  left = np.full(total, size)
  np.minimum.at(left, owner, column)
  right = np.full(total, -1)
  np.maximum.at(right, owner, column)
  depth = _medians(owner, pictures.depth.ravel()[flat], seen)
  covered = pictures.hidden[:, 1:, :].sum(-1).reshape(-1)
  shape = (scenes, slots)
  enough = config.pixels_to_name * each / 64**2
  named = (seen >= enough) & (
    covered <= _MOST_HIDDEN / (1 - _MOST_HIDDEN) * seen
  )
  return Facts(
    named=named.reshape(shape),
    seen=seen.reshape(shape),
    shape=layout.shape,
    colour=layout.colour,
    present=layout.present,
    box=np.stack(
      [
        (top // size).reshape(shape),
        (bottom // size).reshape(shape),
        left.reshape(shape),
        right.reshape(shape),
      ],
      axis=-1,
    ),
    middle=np.stack([middle_row, middle_column], -1).reshape(*shape, 2),
    at=at.reshape(shape),
    top=top.reshape(shape),
    bottom=bottom.reshape(shape),
    depth=depth.reshape(shape),
    centre=layout.centre,
    height=2 * layout.half[..., 1],
    width=_widths(layout),
    hidden=pictures.hidden[:, 1:, 1:],
    focal=layout.focal,
    size=size,
  )


def _medians(owner, depth, seen):
  """Median of `depth` per owner, the lower of two; 0 where there is none."""
  order = np.sort(owner * 256.0 + depth)  # depths stay below 256 m
  first = np.cumsum(seen) - seen
  place = np.minimum(first + (np.maximum(seen, 1) - 1) // 2, len(order) - 1)
  if not len(order):
    return np.zeros(len(seen))
  middle = order[place] - np.arange(len(seen)) * 256.0
  return np.where(seen > 0, middle, 0)


def _widths(layout):
  """Extent of each object along the camera's right axis."""
  right = layout.basis[:, 0]
  level = np.sqrt(right[:, 0] ** 2 + right[:, 2] ** 2)[:, None]
  x, z = right[:, 0:1] / level, right[:, 2:3] / level
  cos, sin = np.cos(layout.turn), np.sin(layout.turn)
  half_x, half_z = layout.half[..., 0], layout.half[..., 2]
  turned = (
    np.abs(cos * x + sin * z) * half_x + np.abs(cos * z - sin * x) * half_z
  )
  return 2 * np.where(np.isin(layout.shape, _ROUND), half_x, turned)
