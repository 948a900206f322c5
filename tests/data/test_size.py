"""A large built set starts soon, and no split of it is held in memory."""

import time
import tracemalloc

import numpy as np
import pytest

from cooper_jax.data import build, map_examples, mixture, pipeline, show, splits
from cooper_jax.data.sources import built
from cooper_jax.eval import questions
from cooper_jax.sample import Question, Sample

SIDE = 512
MINUTE = 60.0  # seconds
TRAINING = 50_000


class Blank:
  """Samples of one grey, which compress to little; each with two questions."""

  def __init__(self, split, count):
    self.split, self.count = split, count
    self.maps = {
      "depth": np.full((SIDE, SIDE), 2.5, np.float32),
      "segmentation": np.ones((SIDE, SIDE), np.uint8),
    }
    self.image = np.full((SIDE, SIDE, 3), 99, np.uint8)

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    return Sample(
      id=f"{self.split} {index}",
      source="blank",
      image=self.image,
      maps=self.maps,
      questions=tuple(
        Question(f"own_{kind}", f"Is {index} {kind} ?", "yes", "yes_no")
        for kind in "ab"
      ),
    )

  def __repr__(self):
    return f"Blank({self.split}, {self.count})"


def written(out, count, monkeypatch):
  """A folder built of blank samples, and the config that reads it."""
  sizes = {"train": count, "validation": 20, "test": 200}
  monkeypatch.setattr(
    mixture, "open_split", lambda config, split: Blank(split, sizes[split])
  )
  config = show.config_of("parquet", "unused", size=SIDE)
  build.build(config, out, workers=1, say=lambda line: None)
  monkeypatch.undo()
  return show.config_of("built", str(out))


def start(config):
  """All that a run does with its data before and up to its first batches."""
  assert len(mixture.survey(config)) == 4
  opened = {n: mixture.open_tolerant(config, n) for n in splits.NAMES}
  asked = sum(1 for _ in built.asked(config, "train"))
  modules = {n: m for n, m in config.modalities.items()}
  modules = {n: modules[n] for n in ("depth", "segmentation")}
  places = map_examples.places(opened["train"], modules)
  items = questions.items_of(opened["test"], 40, seed=0)
  make = map_examples.Build(tuple(modules), opened["train"], places)
  with pipeline.make_batches(
    opened["train"], build=make, batch_size=4, seed=0
  ) as batches:
    shape = next(batches)["depth"].shape
  return asked, len(items), shape, len(places["depth"])


def test_a_start_holds_few_samples(tmp_path, monkeypatch):
  config = written(tmp_path / "out", 400, monkeypatch)
  tracemalloc.start()
  found = start(config)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert found == (800, 40, (4, SIDE, SIDE), 400)
  # 40 questions of 38 samples or so, 4 batches ahead of 4 maps, and no split:
  # the 400 of training are 840 MB, the 200 of the test 420.
  assert peak < 200e6


@pytest.mark.slow
def test_fifty_thousand_samples_start_in_a_minute(tmp_path, monkeypatch):
  config = written(tmp_path / "out", TRAINING, monkeypatch)
  begun = time.process_time()
  found = start(config)
  assert found == (2 * TRAINING, 40, (4, SIDE, SIDE), TRAINING)
  assert time.process_time() - begun < MINUTE
