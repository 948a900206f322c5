"""The Q-Spatial metric against the official figures."""

import json
import pathlib

import numpy as np
import pytest

from cooper_jax.grading.metrics import ratio

VECTORS = json.loads(
  (pathlib.Path(__file__).parents[2] / "vectors/answers.json").read_text()
)


@pytest.mark.parametrize("row", VECTORS["qspatial"]["rows"])
def test_success_within_a_factor(row):
  prediction, truth = (ratio.centimetres(*row[k]) for k in ("pred", "gt"))
  assert ratio.within(prediction, truth) == row["delta_2"]
  assert ratio.within(prediction, truth, 1.5) == row["delta_1_5"]


@pytest.mark.parametrize("row", VECTORS["qspatial_regex_parse"]["rows"])
def test_the_official_parser(row):
  assert ratio.parse(row["text"]) == pytest.approx(row["cm"])


def test_units_match_the_vectors():
  assert VECTORS["qspatial"]["multipliers_cm"] == ratio.CENTIMETRES
  assert ratio.centimetres(3, "cubits") == 0


def test_unread_lengths_fail():
  assert not ratio.within(None, 1.0)
  assert not ratio.within(float("nan"), 1.0)
  assert not ratio.within(-1.0, 1.0)


def test_best_constant_covers_the_fullest_window():
  # 1 .. 3.9 is a factor below 4, so 2 serves the first four.
  constant, share = ratio.best_constant([1.0, 1.5, 2.0, 3.9, 40.0])
  assert share == pytest.approx(0.8)
  hits = [ratio.within(constant, t) for t in (1.0, 1.5, 2.0, 3.9, 40.0)]
  assert np.mean(hits) == pytest.approx(0.8)
