"""Which traces hide the image behind their maps (view dropout)."""

import dataclasses

import numpy as np
import pytest

from cooper_jax.data import tasks
from cooper_jax.models import masks
from cooper_jax.sequences.segments import Map
from tests.data.test_tasks import SAMPLES, SHAPE, task


@pytest.mark.parametrize(
  ("mode", "corrupted"),
  [("depth", 0.0), ("segmentation", 0.0), ("text", 0.0), ("depth", 1.0)],
)
def test_the_image_is_hidden_behind_the_maps_that_suffice(mode, corrupted):
  build = task(
    tasks.ReasoningTask,
    shares=((mode, 1.0),),
    corrupted=corrupted,
    view_dropout=1.0,
    shape=dataclasses.replace(SHAPE, hides=True),
  )
  assert not build.codes.counterfactual(SAMPLES[0].id)
  rng = np.random.default_rng(1)
  sample = max(SAMPLES, key=lambda s: len({q.needs for q in s.questions}))
  hidden = set()
  for question in sample.questions:
    branch = build._way(sample, question, mode, rng)
    maps = [each for each in branch if isinstance(each, Map)]
    hides = any(each.hides for each in maps)
    suffices = question.needs and {*question.needs} <= {mode}
    assert hides == bool(maps and suffices and not corrupted)
    hidden.add(hides)
  row = build(sample, rng)
  assert (row["view"] == masks.BLIND).any() == (True in hidden)
