"""Numeric answers within a tolerance."""

import pytest

from cooper_jax.grading.metrics import number


@pytest.mark.parametrize(
  ("prediction", "target", "unit", "hit"),
  [
    (1.1, 1.0, "m", True),
    (0.9, 1.0, "m", True),
    (1.11, 1.0, "m", False),
    (3.0, 3.0, "", True),
    (3.01, 3.0, "", False),
    (None, 3.0, "", False),
    (float("inf"), 3.0, "m", False),
  ],
)
def test_within_ten_per_cent_or_exact(prediction, target, unit, hit):
  got = number.correct(prediction, target, unit=unit, tolerance=0.1)
  assert got is hit
