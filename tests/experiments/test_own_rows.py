"""Rows of one's own file: what they leave is looked for before they run."""

import csv
import re
import types
import unittest.mock

import pytest

from cooper_jax import errors, sweep
from cooper_jax.experiments import (
  comparisons,
  figure,
  jobs,
  results,
  run,
  tables,
)
from cooper_jax.experiments.results import DISTANCE_AND_SIZE
from tests.experiments import fake

OWN = """from configs import paper
ROWS = {"base": "base", "rl": "cooper", "more": "cooper"}
PIPELINE = {}
def get_config(variant):
  row, _, scenes = variant.partition(":")[0].partition("-")
  config = paper.get_config(f"{ROWS[row]}:smoke")
  with config.unlocked():
    config.pipeline = PIPELINE.get(row, config.pipeline)
    config.sft.scenes = int(scenes or 96)
  return config.lock()
"""
SFT_LEFT_OUT = (
  'PIPELINE["rl"] = ("tokenizer", "pretrain", "grpo", "evaluate")\n'
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(run, "POLL_S", 0.0)
  monkeypatch.setenv("COOPER_COMMIT", "c0ffee")


def made(tmp_path, more, rows):
  """Results of rows of such a file, with some more lines, for one seed."""
  file = tmp_path / "own.py"
  file.write_text(OWN + more)
  asked = jobs.Experiment(str(file), tuple(rows), (0,))
  planned = jobs.plan(asked, tmp_path / "out")
  run.run(planned, at_once=1, begin=fake.Machine())
  return results.collect(asked, planned, [])


@pytest.mark.parametrize(
  ("more", "said"),
  [
    ('PIPELINE["rl"] = ("evaluate",)', "row rl has nothing before evaluate"),
    (
      'PIPELINE["rl"] = ("tokenizer", "pretrain", "evaluate")',
      "row rl has pretrain before evaluate",
    ),
    ('PIPELINE["rl"] = ("tokenizer", "sft")', "does not end with evaluate"),
    ('BENCHMARKS = {"rl": "rephrasd"}', 'benchmark "rephrasd"'),
    ('MODES = {"rl": "txt"}', 'mode "txt".*did you mean "text"'),
    # Its SFT draws no single map in the row base.
    ('MODES = {"base": "depth"}', "is asked in text, adaptive"),
    ('CLAIMS = {"it helps": ()}', '"it helps" names no comparison'),
    (
      'STARTS = {"rl": "more", "more": "rl-50"}',
      "rl begins with more begins with rl;",
    ),
    (
      'STARTS = {"more": "rl"}\n' + SFT_LEFT_OUT,
      "the pipeline of row rl has no sft",
    ),
    (
      'STARTS = {"rl": "base"}\n'
      'PIPELINE["rl"] = ("tokenizer", "sft", "evaluate")',
      "the pipeline of row rl has no pretrain",
    ),
  ],
)
def test_a_row_without_results_is_refused(tmp_path, capsys, more, said):
  file = tmp_path / "own.py"
  file.write_text(f"{OWN}{more}\n")
  words = [f"--config={file}", "--rows=base,rl,more", "--seeds=0", "--plan"]
  code = sweep.main([*words, f"--out={tmp_path}/out"])
  shown = capsys.readouterr().err
  assert code == errors.EXIT_USER
  assert re.search(said, shown) and len(shown.splitlines()) == 1


def test_a_point_of_a_curve_is_read_as_its_row_is(tmp_path):
  more = """
BENCHMARKS = {"rl": "rephrased"}
STARTS = {"more": "base"}
COMPARISONS = {"gain": ("rl", "free before", ())}
made = get_config
def get_config(variant):
  config = made(variant)
  with config.unlocked():
    config.evaluate.benchmarks = ("embedded", "rephrased")
  return config.lock()
"""
  found = made(tmp_path, more, ["rl-50", "more-50"])
  tables.write(found, tmp_path)
  with open(tmp_path / "paper.csv", newline="") as file:
    lines = {line["comparison"]: line for line in csv.DictReader(file)}
  # In that benchmark, and not in the test split, all is wrong before GRPO.
  assert float(lines["rl-50 - free before"]["points"]) > 30
  assert lines["gain"]["points"] == ""  # of the row itself, not asked for
  started = {job.stage for job in planned_of(tmp_path, "more-50").values()}
  assert jobs.PACKAGE in started


def planned_of(tmp_path, row):
  asked = jobs.Experiment(str(tmp_path / "own.py"), (row,), (0,))
  return jobs.plan(asked, tmp_path / "out")


def test_reinforcement_without_an_sft_has_a_table(tmp_path):
  more = """
PIPELINE["rl"] = ("tokenizer", "grpo", "evaluate")
COMPARISONS = {
  "gain": ("rl", "before", ()),
  "same": ("rl", "free before", ()),
  "beside": ("rl", "base", ()),
}
"""
  found = made(tmp_path, more, ["rl", "base"])
  assert found.rows[0].modes == () and found.rows[0].values["all"] > 0
  gaps = {each.name: each.gap for each in found.differences}
  assert gaps["gain"] == gaps["same"] == "row rl has no sft of its own"
  assert gaps["beside"] == ""


def test_where_no_mode_is_fixed_none_is_the_best():
  line = {"hit": 1.0, "family": "gap"}
  run_ = types.SimpleNamespace(
    gap="",
    mode="adaptive",
    commits=(),
    config=types.SimpleNamespace(pipeline=("sft", "grpo", "evaluate")),
    answers=lambda stage="": [{"adaptive": {"q": line}}],
  )
  (found,) = comparisons.differences(
    "gain", ("rl", "before"), (), {"rl": run_}, (0,)
  )
  assert found.gap == "row rl was asked in no fixed mode"


def test_minutes_that_nobody_expects_scale_nothing(tmp_path):
  more = """
made = get_config
def get_config(variant):
  config = made(variant)
  with config.unlocked():
    config.tokenizer.expected_minutes = 0.0
  return config.lock()
"""
  (tmp_path / "own.py").write_text(OWN + more)
  planned = planned_of(tmp_path, "base")
  first = next(iter(planned.values()))
  jobs.prepare(first, planned)
  fake.Machine().make(first)
  expected = sum(job.minutes for job in planned.values())
  # The tokenizer took half a minute, and tells nothing of the others.
  assert sum(run.minutes(planned).values()) == pytest.approx(0.5 + expected)


def test_every_curve_is_drawn():
  arms, drawn = [f"arm{i}" for i in range(8)], []
  rows = {
    scenes: types.SimpleNamespace(
      values={DISTANCE_AND_SIZE: 0.5}, bounds=(0, 1)
    )
    for scenes in (100, 1000)
  }
  axis = unittest.mock.MagicMock()
  axis.plot = lambda *_, label, **__: drawn.append(label)
  figure._draw_curves(axis, "scenes", dict.fromkeys(arms, rows))
  assert drawn == arms
