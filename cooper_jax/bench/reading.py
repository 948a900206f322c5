"""Speed of reading a built data set: random records to batches of arrays.

Records have an image with the noise of a photo, depth of millimetres and
classes. They are read in a new order, decompressed, unpacked and stacked, as
training reads them. The goal is of two cores, for one CPU second is half.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from cooper_jax.bench import step_wait
from cooper_jax.bench.subjects import timed
from cooper_jax.data import pipeline
from cooper_jax.sample import Sample

# Pixels a side -> (records that are written and read, goal a second of 2 cores)
READ_SIZES = {64: (1024, 1500), 512: (64, 150)}
_BATCH = 16
CORES = 2


@dataclasses.dataclass(frozen=True)
class Rooms:
  """Samples that compress about as photos and measured depth do."""

  count: int
  size: int

  def __len__(self) -> int:
    return self.count

  def __getitem__(self, index: int) -> Sample:
    rng = np.random.default_rng(index)
    y, x = np.mgrid[: self.size, : self.size] / self.size
    slope = y * rng.uniform(-1, 1) + x * rng.uniform(-1, 1)
    grey = 128 + 90 * slope[..., None] + rng.normal(0, 3, (*slope.shape, 3))
    millimetres = np.rint(1000 * (4 + 2 * slope) + rng.normal(0, 2, y.shape))
    return Sample(
      id=f"room {index}",
      source="bench",
      image=np.clip(grey, 0, 255).astype(np.uint8),
      maps=dict(
        depth=(millimetres / 1000).astype(np.float32),
        segmentation=(8 * x).astype(np.uint8) + (5 * y).astype(np.uint8),
      ),
    )


def example(sample: Sample, rng) -> dict[str, np.ndarray]:
  """What every stage needs of a sample: its arrays."""
  del rng
  return {"image": sample.image, **sample.maps}


def data(asked) -> dict:
  """{"sizes": {pixels: CPU seconds and examples a second}, "wait": ...}."""
  found = {}
  for size, (count, goal) in READ_SIZES.items():
    with tempfile.TemporaryDirectory() as folder:
      source = step_wait.built(Path(folder), Rooms(count, size))
      stored = sum(f.stat().st_size for f in Path(folder).iterdir())
      with pipeline.make_batches(
        source, build=example, batch_size=_BATCH, seed=0
      ) as batches:

        def call(number, batches=batches, count=count):
          del number
          for _ in range(count // _BATCH):
            batch = next(batches)
          return batch

        timing = timed(call, asked.repeats)
    each = timing["cpu_s"] / count
    found[f"{size} px"] = timing | {
      "examples": count,
      "kb_stored": stored / count / 1e3,
      "cpu_ms_an_example": 1e3 * each,
      "examples_a_second_of_2_cores": CORES / each,
      "goal": goal,
    }
  return {"sizes": found, "wait": step_wait.of_packaged()}
