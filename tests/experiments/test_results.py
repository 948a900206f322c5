"""Results of an experiment: paired, with gaps where a row is not finished."""

import csv
import math
import types

import numpy as np
import pytest

from configs import paper_rows
from cooper_jax.experiments import (
  comparisons,
  figure,
  jobs,
  lengths,
  results,
  run,
  runs,
  tables,
)
from tests.experiments import fake

ARGUMENTS = ["--rows=all", "--out=runs/paper"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(run, "POLL_S", 0.0)
  monkeypatch.setenv("COOPER_COMMIT", "c0ffee")


def made(folder, rows, seeds=(0, 1), **changes):
  asked = fake.asked(rows, seeds)
  planned = jobs.plan(asked, folder)
  run.run(planned, at_once=1, begin=fake.Machine(**changes))
  return results.collect(asked, planned, ARGUMENTS)


@pytest.mark.ci
def test_differences_are_found_where_they_are(tmp_path):
  found = made(tmp_path, ["base", "amg", "amg_exchanged", "cooper", "shuffled"])
  tables.write(found, tmp_path)
  with open(tmp_path / "paper.csv", newline="") as file:
    lines = {line["comparison"]: line for line in csv.DictReader(file)}
  gained = lines["amg - base"]
  assert gained["seeds"] == "0 1" and gained["commit"] == "c0ffee"
  assert gained["command"].endswith("--rows=all --out=runs/paper")
  # 4 of 5 families are of distance and size, 100 questions, two seeds.
  assert gained["n"] == "160"
  # Answers are right in 20 % more of the draws: the same questions, paired.
  assert 10 < float(gained["points"]) < 30
  low, high = float(gained["low"]), float(gained["high"])
  assert 0 < low < float(gained["points"]) < high
  near = lines["amg - base within a factor of 2"]
  assert near["n"] == "120" and float(near["low"]) > 0
  # Wrong lengths are off by 2.5, right ones by 1: base errs more often than
  # not, amg less often, so that the median falls by 1.5, or 150 hundredths.
  median = lines["amg - base median error factor"]
  assert float(median["points"]) == -150 and float(median["low"]) == -150
  assert float(lines["cooper - best fixed mode before"]["low"]) > 0
  assert lines["cooper - sft_more"]["points"] == ""  # a gap
  figure.write(found, tmp_path / "figure.png")
  assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
  text = (tmp_path / "table.md").read_text()
  assert "row sft_more was not asked for" in text
  assert "| cooper | depth |" in text and "| constant |" in text


def test_a_row_is_read_in_its_mode(tmp_path):
  found = made(tmp_path, ["base"], seeds=(0,))
  (row,) = found.rows
  assert row.mode == "text" and row.values["draws"] == 0
  lengths = row.values["within 10 %"]
  # Wrong lengths are off by 5 / 2.
  mean, low, high = row.factors.within[2.0]
  assert low < mean == lengths < high < 1 and row.factors.n == 60
  assert row.factors.within[1.25] == (mean, low, high)
  assert row.factors.median[0] == pytest.approx(2.5)
  assert row.values["held-out pair"] == 0.5 and row.values["AbsRel"] == 0.25
  assert math.isnan(row.values["held-out words"])
  assert found.unlearned["constant"]["distance"] == pytest.approx(0.1)


def test_lengths_are_held_to_the_truth_and_not_to_how_it_is_written():
  line = {"family": "height", "question": "?", "answer": "1.3 m"}
  line["text"] = "<answer> 1.6 m </answer>"
  assert lengths.factor_of(line | {"value": 1.25}) == pytest.approx(1.28)
  assert lengths.factor_of(line | {"value": 1.345}) == pytest.approx(
    1.6 / 1.345
  )
  assert lengths.factor_of(line) == pytest.approx(1.6 / 1.3)  # an older answer


def test_an_unfinished_row_is_a_gap(tmp_path):
  asked = fake.asked(["base", "amg"], (0, 1))
  planned = jobs.plan(asked, tmp_path)
  broken = jobs.evaluation(planned, "amg", 1).name
  run.run(planned, at_once=1, begin=fake.Machine(fail=[broken]))
  found = results.collect(asked, planned, ARGUMENTS)
  base, amg = found.rows
  assert not base.gap and amg.gap == "not finished: seed 1" and not amg.values
  assert all(not each.found for each in found.differences)
  tables.write(found, tmp_path)
  figure.write(found, tmp_path / "figure.png")
  text = (tmp_path / "table.md").read_text()
  assert "| amg | 0 1 | text | not finished: seed 1 |" in text
  assert "amg - base,0 1,,,,," in (tmp_path / "paper.csv").read_text()


def test_points_of_a_curve_are_compared_with_each_other(tmp_path):
  rows = ["base", "amg", "base-50", "amg-50"]
  found = made(tmp_path, rows, seeds=(0,))
  named = [each.name for each in found.differences if each.found]
  assert "amg - base" in named and "amg-50 - base-50" in named
  assert {row.scenes for row in found.rows} == {96, 50}
  figure.write(found, tmp_path / "figure.png")


def test_a_row_is_compared_by_the_benchmark_that_it_is_of(tmp_path):
  found = made(tmp_path, ["words"], seeds=(0,))
  named = {each.name: each for each in found.differences if each.found}
  gained = named["words - best fixed mode before"]
  # As the fake has it: no answer in new words is right before GRPO.
  assert gained.found[0] == pytest.approx(found.rows[0].values["all"])
  assert gained.found[0] > 0.2 and gained.found[3] == 100
  assert found.rows[0].mode == "adaptive, rephrased"
  assert named["words - free before"].found == gained.found
  # And in the usual words, where the fake is as right as before.
  usual = named["words in usual words - free before"]
  assert usual.found[:2] == (0.0, 0.0) and usual.found[3] == 100
  assert float(usual.said.removesuffix(" %")) > 20


def test_a_test_split_that_was_not_asked_is_a_gap():
  only = types.SimpleNamespace(
    pipeline=("sft", "grpo", "evaluate"),
    evaluate=types.SimpleNamespace(benchmarks=("rephrased",)),
  )
  run_ = runs.Run("adaptive", "grpo", (), (), only, benchmark="rephrased")
  there = ("words", comparisons.TEST_SPLIT_BEFORE)
  (found,) = comparisons.differences("x", there, (), {"words": run_}, (0,))
  assert found.gap == "row words was not asked the test split"


def test_a_row_is_compared_with_its_own_start_left_free(tmp_path, monkeypatch):
  monkeypatch.setitem(fake.GAINS, "elicit", 0.2)
  found = made(tmp_path, ["elicit"])
  named = {each.name: each for each in found.differences if each.found}
  gained, best = (
    named[f"elicit - {what} before"] for what in ("free", "best fixed mode")
  )
  # The draws of an answer are the same before: those of 0.4 to 0.6 are gained,
  # of the untraced families that were asked about (3 of 5, 100 questions).
  draws = [np.random.default_rng([seed, 3]).random(100) for seed in (0, 1)]
  untraced = [
    [
      d
      for k, d in enumerate(each)
      if fake.FAMILIES[k % 5] in paper_rows.UNTRACED
    ]
    for each in draws
  ]
  there = np.concatenate(untraced)
  won = np.mean((there >= 0.4) & (there < 0.6))
  assert gained.found[0] == pytest.approx(won) and gained.found[3] == len(there)
  assert gained.said == f"{100 * np.mean(there < 0.4):.1f} %"
  assert best.said != gained.said and best.found[0] != gained.found[0]


def test_the_same_answers_give_the_same_table(tmp_path):
  written = []
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
    found = made(tmp_path / name, ["base", "amg"])
    tables.write(found, tmp_path / name)
    figure.write(found, tmp_path / name / "figure.png")
    written.append(
      [
        (tmp_path / name / each).read_bytes()
        for each in ("table.md", "paper.csv", "figure.png")
      ]
    )
  assert written[0] == written[1]
