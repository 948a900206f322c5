"""Sheets of scenes: picture, depth, classes, instances, normals.

python -m cooper_jax.world.tools.show --out=scenes.png --image_size=128
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np
from PIL import Image

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.sample import Sample
from cooper_jax.world import scenes
from cooper_jax.world.config import SPLITS, WorldConfig
from cooper_jax.world.render import patterns

# Depth colours, near to far: warm to dark blue.
_NEAR_TO_FAR = np.array(
  [
    (255, 247, 214),
    (253, 204, 118),
    (240, 128, 82),
    (186, 60, 110),
    (98, 38, 122),
    (26, 18, 64),
  ]
)
# Rooms in greys, shapes in colours that differ in hue and lightness.
CLASS_COLOURS = np.array(
  [
    (0, 0, 0),
    (120, 112, 104),
    (196, 192, 186),
    (228, 226, 222),
    (214, 66, 58),
    (64, 132, 206),
    (250, 176, 40),
    (92, 176, 88),
    (150, 88, 180),
    (38, 166, 164),
    (240, 120, 170),
    (140, 96, 60),
    (190, 200, 60),
    (60, 70, 150),
  ],
  np.uint8,
)


def depth_picture(depth: np.ndarray, near=0.5, far=16.0) -> np.ndarray:
  """Colours metres on a logarithmic scale, u8 [H, W, 3]."""
  place = np.log(np.maximum(depth, near) / near) / np.log(far / near)
  place = np.clip(place, 0, 1) * (len(_NEAR_TO_FAR) - 1)
  below = np.minimum(place.astype(int), len(_NEAR_TO_FAR) - 2)
  share = (place - below)[..., None]
  mixed = _NEAR_TO_FAR[below] * (1 - share) + _NEAR_TO_FAR[below + 1] * share
  return mixed.astype(np.uint8)


def panels(sample: Sample) -> list[np.ndarray]:
  """The five pictures of a sample."""
  colours = np.concatenate([[(0.9, 0.9, 0.88)], patterns.PAINT[:6]])
  instances = (255 * colours[sample.instances]).astype(np.uint8)
  # Right, up, towards the viewer as red, green, blue: the usual convention.
  towards = sample.maps["normals"] * np.array([1, -1, -1])
  normals = ((towards + 1) * 127.5).astype(np.uint8)
  return [
    sample.image,
    depth_picture(sample.maps["depth"]),
    CLASS_COLOURS[sample.maps["segmentation"]],
    instances,
    normals,
  ]


def sheet(samples: list[Sample], *, columns: int = 1, margin: int = 4):
  """One row of panels per sample, in several columns of rows."""
  rows = []
  for sample in samples:
    padded = [
      np.pad(p, ((0, margin), (0, margin), (0, 0)), constant_values=255)
      for p in panels(sample)
    ]
    rows.append(np.concatenate(padded, axis=1))
  high = -(-len(rows) // columns)
  while len(rows) < high * columns:
    rows.append(np.full_like(rows[0], 255))
  blocks = [
    np.concatenate(rows[c * high : (c + 1) * high]) for c in range(columns)
  ]
  gap = np.full((len(blocks[0]), 3 * margin, 3), 255, np.uint8)
  parts = [blocks[0]]
  for block in blocks[1:]:
    parts += [gap, block]
  return np.concatenate(parts, axis=1)


def main(argv=None) -> int:
  """Writes a sheet; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.world.tools.show",
    description=__doc__.splitlines()[0],
  )
  parser.add_argument("--out", default="scenes.png")
  parser.add_argument("--split", default="train", choices=SPLITS)
  parser.add_argument("--start", type=int, default=0)
  parser.add_argument("--count", type=int, default=12)
  parser.add_argument("--columns", type=int, default=2)
  parser.add_argument("--image_size", type=int, default=128)
  parser.add_argument("--scale", type=int, default=1)
  options = parser.parse_args(argv)
  try:
    write(options)
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  return EXIT_DONE


def write(options) -> None:
  """Writes the sheet that is asked for, and prints some questions."""
  for name in ("count", "columns", "scale"):
    if getattr(options, name) < 1:
      raise UserError(f"--{name}={getattr(options, name)}: give 1 or more")
  if pathlib.Path(options.out).suffix.lower() != ".png":
    raise UserError(f"--out={options.out}: the sheet is a PNG; end it in .png")
  samples = scenes.generate(
    WorldConfig(image_size=options.image_size),
    split=options.split,
    start=options.start,
    count=options.count,
  )
  picture = sheet(samples, columns=options.columns)
  picture = picture.repeat(options.scale, 0).repeat(options.scale, 1)
  Image.fromarray(picture).save(options.out)
  print(f"wrote {options.out}: {picture.shape[1]} x {picture.shape[0]} pixels")
  for sample in samples[:2]:
    for question in sample.questions:
      print(f"{sample.id}  {question.text}  {question.answer}")


if __name__ == "__main__":
  sys.exit(main())
