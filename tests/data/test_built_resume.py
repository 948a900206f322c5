"""Rows of built sets, mixed and packed, go on exactly after a restart."""

import json

import numpy as np
import pytest

from cooper_jax.data import pipeline, shards, tasks
from cooper_jax.data.mixture import Mixture
from tests.data.test_tasks import SAMPLES, task

STEPS, STOP = 5, 2  # 5 = 2, a restart, 3 more


def write(folder, samples):
  """A built set of some samples in two shards; gives its manifest."""
  folder.mkdir()
  ends = (0, len(samples) // 2, len(samples))
  facts = [
    shards.write(folder, samples, shards.ShardJob("train", i, 2, *ends[i:][:2]))
    for i in range(2)
  ]
  return {"source": folder.name, "splits": {"train": {"shards": facts}}}


@pytest.mark.parametrize(
  "workers", [0, pytest.param(4, marks=pytest.mark.slow)]
)
def test_a_restart_goes_on_with_the_very_next_rows(workers, tmp_path):
  sets = {"a": SAMPLES[:4], "b": SAMPLES[4:]}
  manifests = {name: write(tmp_path / name, s) for name, s in sets.items()}
  titles = (("depth", "Depth"), ("segmentation", "Segmentation"))
  build = task(tasks.MapTask, titles=titles, single_object=0.3)

  def opened():
    """As a process that begins opens it: nothing is held of another."""
    found = (
      shards.BuiltSource(tmp_path / name, "train", manifest)
      for name, manifest in manifests.items()
    )
    return pipeline.make_batches(
      Mixture(tuple(found), (3.0, 1.0)),
      build=build,
      batch_size=2,
      seed=1,
      workers=workers,
    )

  with opened() as batches:
    straight = [next(batches) for _ in range(STEPS)]
  with opened() as batches:
    found = [next(batches) for _ in range(STOP)]
    position = json.dumps(batches.state())
  with opened() as batches:
    batches.restore(json.loads(position))
    found += [next(batches) for _ in range(STEPS - STOP)]
  for one, other in zip(straight, found, strict=True):
    assert one.keys() == other.keys()
    for name, each in one.items():
      np.testing.assert_array_equal(each, other[name])
  # Another row each time, several branches packed into each.
  ids = np.concatenate([batch["ids"] for batch in straight])
  assert len(np.unique(ids, axis=0)) == len(ids)
  assert (np.concatenate([b["branch"].max(-1) for b in straight]) > 2).all()
