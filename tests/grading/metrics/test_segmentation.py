"""Scores of a confusion matrix against values computed by two routes."""

import json
import pathlib

import numpy as np
import pytest

from cooper_jax.grading.metrics import segmentation
from cooper_jax.modalities.segmentation import confusion, iou

VECTORS = pathlib.Path(__file__).parents[2] / "vectors" / "metrics.json"


def test_scores_match_the_reference():
  case = json.loads(VECTORS.read_text())["miou"]
  matrix = confusion(
    np.array(case["pred"]), np.array(case["gt"]), classes=case["num_classes"]
  )
  np.testing.assert_array_equal(matrix, case["confusion"])
  np.testing.assert_allclose(
    np.nan_to_num(iou(matrix)), case["iou"], rtol=1e-12
  )
  scores = segmentation.scores(matrix)
  for name, value in scores.items():
    assert value == pytest.approx(case[name]), name


def test_one_matrix_is_not_the_mean_of_images():
  # Image 1: class 1 fills 9 of 10 pixels, all right. Image 2: 1 pixel, wrong.
  # One matrix: 9 / 10; the mean of images would say 1/2.
  target = np.array([[1] * 9 + [2], [2] * 9 + [1]])
  prediction = np.array([[1] * 9 + [2], [2] * 10])
  matrix = confusion(prediction, target)
  assert iou(matrix)[1] == pytest.approx(0.9)


def test_no_pixels_give_nan():
  assert np.isnan(segmentation.scores(np.zeros((3, 3)))["pixel_acc"])
