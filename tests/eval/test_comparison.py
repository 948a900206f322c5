"""Two recipes over seeds: paired by question, resampled by seed."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from cooper_jax import compare
from cooper_jax.eval import comparison
from cooper_jax.grading import intervals

FAMILIES = ("closer", "height", "count")


def write(folder, hits, *, families=FAMILIES, times=1, stage="sft"):
  """A run whose k-th question was answered with hits[k].

  times: how often one question is asked about one image.
  """
  path = folder / "evaluate" / f"{stage}.jsonl"
  path.parent.mkdir(parents=True)
  lines = [
    {
      "sample": f"s{k // times}", "question": "?",
      "family": families[k % len(families)], "mode": "text", "hit": float(hit),
    }
    for k, hit in enumerate(hits)
  ]  # fmt: skip
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return str(folder)


@pytest.fixture
def runs(tmp_path):
  rng = np.random.default_rng(0)
  better, worse = [], []
  for seed in range(3):
    plain = rng.random(300) < 0.5
    gained = plain.copy()
    gained[0::3] |= rng.random(100) < 0.4  # only "closer" gains
    worse.append(write(tmp_path / f"a{seed}", plain))
    better.append(write(tmp_path / f"b{seed}", gained))
  return better, worse


def test_the_gain_is_found_where_it_is(runs):
  found = comparison.differences(comparison.pairs(*runs, "sft", "text"))
  mean, low, high, count = found["closer"]
  assert 0.1 < low < mean < high < 0.35 and count == 300
  assert found["height"][:3] == found["count"][:3] == (0, 0, 0)
  both = found["distance and size"]
  assert both[0] == pytest.approx((mean + 0) / 2) and both[3] == 600
  assert found["all"][3] == 900


def test_the_command_prints_points(runs, capsys):
  better, worse = runs
  assert compare.main([*better, "--against", *worse, "--mode=text"]) == 0
  shown = capsys.readouterr().out
  assert "3 pairs" in shown and "distance and size" in shown
  assert compare.main([*worse, "--against", *better, "--mode=text"]) == 0
  assert re.search(r"closer +-\d", capsys.readouterr().out)


@pytest.mark.parametrize(
  ("more", "said"),
  [
    (["--mode=depth"], "--mode one of text"),
    (["--stage=grpo"], "grpo.jsonl can't be read"),
  ],
)
def test_what_is_not_there_is_named(runs, capsys, more, said):
  better, worse = runs
  arguments = [*better, "--against", *worse, "--mode=text", *more]
  assert compare.main(arguments) == 2
  assert said in capsys.readouterr().err


def test_runs_must_be_pairs_of_the_same_questions(runs, tmp_path, capsys):
  better, worse = runs
  assert compare.main([better[0], "--against", *worse]) == 2
  assert "one pair a seed" in capsys.readouterr().err
  other = write(tmp_path / "other", [1] * 10)
  assert compare.main([other, "--against", worse[0], "--mode=text"]) == 2
  assert "not asked the same questions" in capsys.readouterr().err


def test_seeds_that_differ_widen_the_interval():
  rng = np.random.default_rng(1)
  same = [rng.normal(0.2, 1, 400) for _ in range(3)]
  apart = [x - x.mean() + m for x, m in zip(same, (-0.2, 0.2, 0.6))]
  low, high = intervals.nested_bootstrap(same)
  wide_low, wide_high = intervals.nested_bootstrap(apart)
  assert wide_high - wide_low > 2 * (high - low)


def test_a_family_does_not_stand_in_for_the_group_of_its_name(tmp_path):
  families = ("distance", "closer", "all")
  one = write(tmp_path / "a", [1, 0, 1] * 40, families=families)
  other = write(tmp_path / "b", [0, 0, 0] * 40, families=families)
  found = comparison.differences(
    comparison.pairs([one], [other], "sft", "text")
  )
  assert (
    found["distance"][0] == pytest.approx(0.5) and found["distance"][3] == 80
  )
  assert found["distance (family)"][0] == 1 and found["closer"][0] == 0
  assert found["all"][3] == 120 and found["all (family)"][3] == 40


def test_a_question_that_is_asked_twice_counts_twice(tmp_path):
  one = write(tmp_path / "a", [1, 0, 1, 1], times=2)
  other = write(tmp_path / "b", [0, 0, 1, 1], times=2)
  found = comparison.differences(
    comparison.pairs([one], [other], "sft", "text")
  )
  assert found["all"][0] == pytest.approx(0.25) and found["all"][3] == 4


LINE = '{"mode": "text", "sample": "s", "question": "?"'


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("", "holds no answer"),
    (LINE + ', "hit": 1}', "can't be read (KeyError: 'family')"),
    (LINE + ', "family": "gap"}', "can't be read (KeyError: 'hit')"),
    (LINE + ', "family": "gap", "hit": null}', "can't be read (TypeError: "),
    (
      LINE + ', "family": "gap", "hit": NaN}',
      "can't be read (ValueError: a hit",
    ),
    (LINE, "can't be read"),
  ],
)
def test_answers_that_are_none_are_told_of(tmp_path, capsys, text, said):
  run = write(tmp_path / "a", [1])
  (tmp_path / "a/evaluate/sft.jsonl").write_text(text)
  assert compare.main([run, "--against", run, "--mode=text"]) == 2
  told = capsys.readouterr().err
  assert told.count("error:") == told.count("\n") == 1 and said in told


def test_a_reader_that_goes_ends_the_command_in_peace(runs):
  better, worse = runs
  words = [*better, "--against", *worse, "--mode=text"]
  read, write_ = os.pipe()
  os.close(read)
  done = subprocess.run(
    [sys.executable, "-m", "cooper_jax.compare", *words],
    stdout=write_, stderr=subprocess.PIPE, text=True, check=False,
  )  # fmt: skip
  os.close(write_)
  assert (done.returncode, done.stderr) == (0, "")
