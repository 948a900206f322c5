"""Mean relative accuracy against the official figures."""

import json
import pathlib

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.grading.metrics import mra

VECTORS = json.loads(
  (pathlib.Path(__file__).parents[2] / "vectors/answers.json").read_text()
)["mra"]


@pytest.mark.parametrize("row", VECTORS["rows"])
def test_both_rules_match_the_official_figures(row):
  for rule, column in (("vsi", "vsi_le"), ("sibench", "sibench_lt")):
    got = mra.mra(row["pred"], row["target"], rule)
    assert got == pytest.approx(row[column]), rule


def test_the_rules_differ_somewhere():
  assert any(row["vsi_le"] != row["sibench_lt"] for row in VECTORS["rows"])


def test_unread_and_zero():
  assert mra.mra(None, 2.0) == 0 and mra.mra(float("nan"), 2.0) == 0
  assert mra.mra(0.0, 0.0) == 1 and mra.mra(1.0, 0.0) == 0
  assert mra.mra(-2.0, -2.0) == 1
  with pytest.raises(UserError, match="sibench, vsi"):
    mra.mra(1.0, 1.0, "exact")


def test_best_constant_beats_mean_and_median():
  targets = np.exp(np.random.default_rng(0).uniform(0, np.log(16), 400))
  constant, score = mra.best_constant(targets)
  assert score == pytest.approx(
    np.mean([mra.mra(constant, t) for t in targets])
  )
  for other in (targets.mean(), np.median(targets)):
    assert score >= np.mean([mra.mra(other, t) for t in targets])
