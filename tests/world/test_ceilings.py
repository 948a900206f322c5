"""Ceilings: what truth determines is reached, and what nothing tells is not."""

import json

import numpy as np
import pytest

from cooper_jax import errors, world
from cooper_jax.sequences.lens import LENS, told
from cooper_jax.world.questions import families
from cooper_jax.world.tools import ceilings

WITHOUT, WITH = ceilings.WITHOUT, ceilings.WITH


@pytest.fixture(scope="module")
def measured():
  config = world.WorldConfig(shaded=False)
  made = world.generate(config, split="test", start=0, count=600)
  return ceilings.measure(made)


@pytest.mark.ci
def test_every_family_has_a_row_and_beats_its_constant(measured):
  assert list(measured) == list(families.names())
  for family, row in measured.items():
    assert row["n"] > 100, family
    for lens in (WITHOUT, WITH):
      assert list(row[lens]) == [8, 4, 1]
      assert min(row[lens].values()) > row["constant"] + 0.08, family


def test_what_the_maps_determine_is_reached(measured):
  for family in ("closer", "front_behind", "distance", "count", "exists"):
    assert min(measured[family][WITHOUT].values()) == 1
  for family in ("left_right", "above_below"):
    assert measured[family][WITHOUT][1] > 0.99
  # Where a, b and c lie, not how far the lens sees, makes the turn.
  assert measured["viewpoint"][WITHOUT][8] > 0.95


def test_sizes_need_the_lens_and_pixels(measured):
  for family in ("height", "width"):
    row = measured[family]
    assert row[WITH][1] > row[WITHOUT][1] + 0.25
    assert row[WITH][1] > row[WITH][4] > row[WITH][8]


def test_a_lens_is_known_as_a_prompt_tells_it():
  made = world.generate(
    world.WorldConfig(shaded=False), split="test", start=0, count=64
  )
  for sample in made:
    said = LENS.fullmatch(told(sample.camera, 64))[1]
    assert ceilings._focal(sample, told=True) == 64 * float(said)
  exact = ceilings.measure(made)
  known = ceilings.measure(made, told=True)
  for family in ("height", "width"):
    assert known[family][WITHOUT] == exact[family][WITHOUT]
    assert known[family][WITH] != exact[family][WITH]


def test_a_regression_is_judged_by_the_half_that_it_has_not_seen():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(60, 50))  # noise, which fits 30 answers at will
  found = ceilings._regression(x, y := rng.normal(size=60))
  assert np.corrcoef(found, y)[0, 1] < 0.5


def test_the_command_prints_a_table_or_json(capsys):
  words = ["--scenes=40", "--seeds=0,1"]
  assert ceilings.main([*words, "--json"]) == errors.EXIT_DONE
  found = json.loads(capsys.readouterr().out)
  assert found["seeds"] == [0, 1] and "height" in found["rows"]
  assert "viewpoint" in "\n".join(ceilings.lines(measure_of(found)))
  for wrong in (["--seeds=one"], ["--scenes=1"]):
    assert ceilings.main(wrong) == errors.EXIT_USER
    assert len(capsys.readouterr().err.splitlines()) == 1


def measure_of(found):
  """Rows of JSON, whose keys are texts, as they were."""
  return {
    family: row
    | {
      lens: {int(k): v for k, v in row[lens].items()}
      for lens in (WITHOUT, WITH)
    }
    for family, row in found["rows"].items()
  }
