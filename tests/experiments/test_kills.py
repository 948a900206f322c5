"""A sweep that is killed ten times at random gives the same table."""

import csv
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tests import compiling

ROOT = pathlib.Path(__file__).parents[2]
ROWS = "base,amg"
KILLS = 10


def start(out):
  words = ["--config=configs/paper.py:smoke", f"--rows={ROWS}", "--seeds=0"]
  return subprocess.Popen(
    [sys.executable, "-m", "cooper_jax.sweep", *words, f"--out={out}"],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": compiling.QUICK},  # of one device
    start_new_session=True,  # so that the jobs can be killed with it
  )


def figures(out):
  """paper.csv less what tells who made it, and table.md less its commands."""
  with (out / "paper.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    del row["command"], row["commit"]
  table = (out / "table.md").read_text(encoding="utf-8")
  return rows, [line for line in table.splitlines() if line.startswith("|")]


@pytest.mark.slow
def test_ten_kills_change_no_digit(tmp_path):
  begun = time.monotonic()
  assert start(tmp_path / "whole").wait() == 0
  most_s = (time.monotonic() - begun) / KILLS  # so that no other run ends
  rng, kills, out = random.Random(0), 0, tmp_path / "killed"
  while True:
    running = start(out)
    try:
      waits = rng.uniform(0.2, 1.0) * most_s if kills < KILLS else None
      code = running.wait(timeout=waits)
      break
    except subprocess.TimeoutExpired:
      kills += 1
      os.killpg(
        running.pid,
        rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]),
      )
      running.wait()
  assert code == 0
  assert kills == KILLS
  rows, table = figures(out)
  assert (rows, table) == figures(tmp_path / "whole")
  assert rows and table
