"""The embedded world: rendered rooms of objects, with questions about them.

`generate(WorldConfig(...), split="train", start=0, count=16)` gives samples;
nothing is downloaded and nothing is stored.
"""

from cooper_jax.world.config import (
  CLASSES,
  COLOURS,
  SHAPES,
  SPLITS,
  WorldConfig,
)
from cooper_jax.world.scenes import generate

__all__ = [
  "CLASSES",
  "COLOURS",
  "SHAPES",
  "SPLITS",
  "WorldConfig",
  "generate",
]
