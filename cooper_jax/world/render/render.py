"""Rendering of a batch of layouts: pictures with exact maps."""

from __future__ import annotations

import dataclasses

import numpy as np

from cooper_jax.world.config import (
  CLASSES,
  MAX_OBJECTS,
  SHAPE_CLASS,
  WorldConfig,
)
from cooper_jax.world.layout.sample import Layout
from cooper_jax.world.render import antialias, primitives, raycast, shade


@dataclasses.dataclass(frozen=True)
class Pictures:
  """A rendered batch: B scenes, pixels a side, object slots."""

  image: np.ndarray  # u8 [B, side, side, 3]
  depth: np.ndarray  # f32 [B, side, side] planar metres
  classes: np.ndarray  # u8 [B, side, side]
  instances: np.ndarray  # u8 [B, side, side]: 1 + slot
  normals: np.ndarray  # f32 [B, side, side, 3] camera frame
  camera: np.ndarray  # f32 [B, 3, 3]
  # i64 [B, objects + 1, objects + 1]: pixels of [., a, b] where b, which shows,
  # hides a; index 0 is a plinth.
  hidden: np.ndarray


def render(layout: Layout, config: WorldConfig) -> Pictures:
  """Draws a batch of scenes; 16 to 32 at once are fastest."""
  scenes, size = len(layout.index), config.image_size
  parts = primitives.expand(layout)
  with np.errstate(divide="ignore", invalid="ignore"):
    view = raycast.look(layout, parts, size)
  shape = (scenes, view.padded, view.padded)
  inside = (slice(None), slice(size), slice(size))
  colour, normals = shade.paint(layout, parts, view, shaded=config.shaded)
  if colour is None:
    image = np.full((scenes, size, size, 3), 128, np.uint8)
  else:
    antialias.antialias(layout, parts, view, colour)
    image = np.empty((*shape, 3), np.uint8)
    for channel, light in enumerate(colour):
      light = np.sqrt(np.minimum(light, 1, out=light), out=light)
      light *= 255
      light += np.float32(0.5)
      image[..., channel] = light.reshape(shape)
    image = np.ascontiguousarray(image[inside])
  # What each surface is: the room's planes, then the parts.
  shown = layout.shape[parts.scene, parts.owner]
  kind = np.where(parts.object > 0, np.array(SHAPE_CLASS)[shown], _FLOOR)
  classes = np.concatenate([_PLANE_CLASS, kind]).astype(np.uint8)
  objects = np.concatenate([np.zeros(raycast.PLANES, np.int64), parts.object])
  instances = objects[view.surface]
  return Pictures(
    image=image,
    depth=view.depth.reshape(shape)[inside],
    classes=classes[view.surface].reshape(shape)[inside],
    instances=instances.reshape(shape)[inside].astype(np.uint8),
    normals=_camera_normals(layout, normals, shape)[inside],
    camera=_intrinsics(layout, size),
    hidden=_hidden(parts, view, instances, scenes),
  )


_FLOOR = CLASSES.index("floor")
_PLANE_CLASS = np.array(
  [_FLOOR, CLASSES.index("ceiling")] + [CLASSES.index("wall")] * 4
)


def _camera_normals(layout, normals, shape):
  x, y, z = (n.reshape(shape) for n in normals)
  turned = np.empty((*x.shape, 3), np.float32)
  basis = layout.basis.astype(np.float32)[:, :, :, None, None]
  for axis in range(3):
    row = basis[:, axis]
    turned[..., axis] = row[:, 0] * x + row[:, 1] * y + row[:, 2] * z
  return turned


def _intrinsics(layout, size):
  camera = np.zeros((len(layout.index), 3, 3), np.float32)
  camera[:, 0, 0] = camera[:, 1, 1] = layout.focal * size
  camera[:, 0, 2] = camera[:, 1, 2] = size / 2
  camera[:, 2, 2] = 1
  return camera


def _hidden(parts, view, instances, scenes):
  """Counts, for each object, the pixels at which another one covers it."""
  number = MAX_OBJECTS + 1
  pixel, part = view.hits.pixel, view.hits.part
  if view.padded != view.size:
    place = pixel % (view.padded * view.padded)
    kept = (place // view.padded < view.size) & (
      place % view.padded < view.size
    )
    pixel, part = pixel[kept], part[kept]
  pair = parts.scene[part] * number + parts.object[part]
  pair = pair * number + instances[pixel]
  counts = np.bincount(pair, minlength=scenes * number * number)
  counts = counts.reshape(scenes, number, number)
  same = np.arange(number)
  counts[:, same, same] = 0
  return counts
