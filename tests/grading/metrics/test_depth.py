"""Depth errors against values computed by two independent routes."""

import json
import pathlib

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.grading.metrics import depth

VECTORS = pathlib.Path(__file__).parents[2] / "vectors" / "metrics.json"


@pytest.fixture(name="case")
def fixture_case():
  return json.loads(VECTORS.read_text())["depth"]


def maps(case):
  shape = case["shape"]
  return (
    np.array(case["pred"]).reshape(shape),
    np.array(case["gt"]).reshape(shape),
    np.array(case["valid"], bool).reshape(shape),
  )


@pytest.mark.parametrize(
  ("align", "bounds", "path"),
  [
    ("none", None, ("none",)),
    ("median", None, ("median_scaling", "metrics")),
    ("lstsq", None, ("least_squares", "metrics_unclipped")),
    ("lstsq", (1.0, 8.0), ("least_squares", "metrics_clipped_1_8")),
    ("mad", None, ("median_mad", "metrics")),
    ("disparity", None, ("disparity_least_squares", "metrics")),
  ],
)
def test_every_alignment_gives_the_reference_errors(case, align, bounds, path):
  expected = case
  for name in path:
    expected = expected[name]
  prediction, target, valid = maps(case)
  found = depth.image_errors(
    prediction, target, valid=valid, align=align, bounds=bounds
  )
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_least_squares_fits_the_truth_from_the_prediction(case):
  prediction, target, valid = maps(case)
  scale, shift = depth.fit(prediction[valid], target[valid])
  assert scale == pytest.approx(case["least_squares"]["scale"])
  assert shift == pytest.approx(case["least_squares"]["shift"])
  # The reverse fit is another line: direction matters.
  reverse, _ = depth.fit(target[valid], prediction[valid])
  assert 1 / reverse != pytest.approx(scale, rel=0.01)


def test_unknown_alignment_and_empty_truth_are_said_in_one_line():
  with pytest.raises(UserError, match=r'median.*did you mean "median"'):
    depth.image_errors(np.ones((2, 2)), np.ones((2, 2)), align="medain")
  with pytest.raises(UserError, match="no valid pixel"):
    depth.image_errors(np.ones((2, 2)), np.zeros((2, 2)))


def test_mean_is_over_images():
  mean = depth.mean_errors([{"abs_rel": 0.1}, {"abs_rel": 0.3}])
  assert mean == {"abs_rel": pytest.approx(0.2)}
