"""The world can't be cheated: what words, cues, constants and boxes achieve.

Measured on some 16,000 questions (1,000 and more in nearly every family), so
that a rate is known to about a point and a half.
"""

import pathlib
import runpy
import shutil

import numpy as np
import pytest

from cooper_jax import world
from cooper_jax.sample import Question
from cooper_jax.world.questions import families
from cooper_jax.world.tools import calibrate, classifiers, shortcuts

FEWEST = 4000  # questions


@pytest.fixture(scope="module")
def measured():
  config = world.WorldConfig(shaded=False)
  samples = world.generate(config, split="train", start=50_000, count=1600)
  assert sum(len(s.questions) for s in samples) > 3 * FEWEST
  return shortcuts.measure(samples)


@pytest.mark.parametrize("family", shortcuts.choices())
def test_the_question_alone_does_not_tell_the_answer(measured, family):
  assert measured[f"n/{family}"] > 500
  assert abs(measured[f"blind/{family}"] - 0.5) <= 0.05
  assert measured[f"majority/{family}"] <= 0.55


@pytest.mark.parametrize("cue", ["area", "lower_edge"])
def test_no_picture_cue_tells_what_is_closer(measured, cue):
  assert 0.35 <= measured[f"cue/{cue}"] <= 0.65


def test_no_constant_is_a_good_length(measured):
  assert measured["constant/all/mra"] <= 0.2
  assert measured["constant/all/factor_2"] <= 0.5


@pytest.mark.parametrize("family", families.lengths())
def test_no_constant_is_a_good_length_within_a_family(measured, family):
  # Log-uniform over a ratio of 24 the best constant reaches .18 and .44; the
  # best of many constants on some 500 questions gains a few points of luck.
  assert measured[f"constant/{family}/mra"] <= 0.24
  assert measured[f"constant/{family}/factor_2"] <= 0.52


def test_no_count_dominates(measured):
  assert measured["constant/count"] <= 0.35


@pytest.mark.parametrize("family", shortcuts.comparisons())
def test_depth_beats_boxes(measured, family):
  assert measured[f"boxes/{family}"] <= 0.62
  assert measured[f"depth/{family}"] - measured[f"boxes/{family}"] >= 0.2


def test_the_blind_classifier_would_find_a_leak():
  # The control: when names decide the answer, it must notice.
  rng = np.random.default_rng(0)
  found = []
  for _ in range(400):
    a, b = rng.permutation(["ball", "table", "cone", "shelf"])[:2]
    tall = {"ball": 0, "cone": 1, "table": 2, "shelf": 3}
    names = (f"red {a}", f"blue {b}")
    question = Question(
      family="taller",
      text=f"Which is taller , the {names[0]} or the {names[1]} ?",
      answer=names[0 if tall[a] > tall[b] else 1],
      answer_type="choice",
      options=names,
    )
    found.append((None, question))
  assert shortcuts.question_only(found) > 0.9


def test_the_perceptron_learns_what_is_not_linear():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(800, 2))
  truth = x[:, 0] * x[:, 1] > 0
  decided = classifiers.perceptron(x[:400], truth[:400], x[400:])
  assert (decided == truth[400:]).mean() > 0.9


def test_best_constant_on_a_log_uniform_ratio_of_24():
  # Factor 2: ln 4 / ln 24 = .436. MRA: mean of ln((1 + e) / (1 - e)) over the
  # ten tolerances e = .5 .. .05 is .5785; over ln 24 = 3.178 it is .182.
  values = 0.5 * 24 ** np.linspace(0, 1, 4001)
  best = shortcuts.constant(values)
  assert best["factor_2"] == pytest.approx(0.436, abs=0.01)
  assert best["mra"] == pytest.approx(0.182, abs=0.01)


def test_calibration_writes_rates_that_can_be_read_back(tmp_path, monkeypatch):
  before = {}
  for name in families.names():
    before[name] = families.find(name).RATES
    monkeypatch.setattr(families.find(name), "RATES", {})  # nothing balanced
  seen = calibrate.observe(320, start=70_000)
  calibrate.fit(seen, 1.0)
  calibrate.fit_shares(seen, 320)
  for name, there in before.items():
    file = families.find(name)
    path = shutil.copy(pathlib.Path(file.__file__), tmp_path / f"{name}.py")
    calibrate.write(path, file.RATES)
    read = runpy.run_path(str(path))
    assert set(read["RATES"]) == set(there), name
    assert read["TEMPLATES"] == file.TEMPLATES
    assert read["RATES"] != there
  # Without balance the lower edge tells what is closer: it must be noticed.
  # In closer, features 2 and 4 are the foot of the box and its square.
  weights = families.find("closer").RATES["weights"]
  assert weights[2] + 2 * weights[4] > 0.5
