"""The line of a log step: as wide as a terminal, what matters first."""

import io
import time
import types

import numpy as np
import pytest

from cooper_jax.stages import evaluate, grpo, supervised
from cooper_jax.training import log_line, loop, telemetry
from cooper_jax.training.meters import Rate
from tests.training import test_loop

# What a step of GRPO measures, as it is logged.
GRPO = {
  "abstained": 0.0, "advantage_abs_mean": 0.61, "advantage_max": 2.1,
  "advantage_min": -1.9, "advantage_nonzero": 0.75, "answer/drew": 0.7,
  "approx_kl/text": 1e-9, "frac_zero_std_groups": 0.25, "grad_norm": 0.4321,
  "groups": 8.0, "length/codes": 60.2, "length/text": 23.4,
  "maps/drew": 0.43, "maps/each": 0.5, "param_norm": 95.1,
  "reward/answer": 0.6875, "reward/answer/seconds": 1e-3,
  "reward/format": 0.984, "reward/total": 0.7123, "reward/total/std": 0.4,
  "skipped": 0.0, "tokens": 2400.0, "truncated": 0.01, "update_norm": 0.01,
}  # fmt: skip
RATE = {"steps_per_s": 0.31, "cpu_cores": 1.9, "tokens_per_s": 2400.0}


def told(label, message):
  """The line as it is printed, with an ETA of hours."""
  stream = io.StringIO()
  with telemetry.Progress(10**6, label, stream=stream) as bar:
    bar.eta = lambda: 99 * 3600 + 59 * 60.0
    bar.say(message)
  (said,) = stream.getvalue().splitlines()
  return said


def test_the_line_of_grpo_shows_rewards_and_behaviour():
  said = log_line.line(24, 84, GRPO, RATE, grpo._SHOWN)
  assert said == "24/84 reward 0.71 right 69% drew 43% length 23 format 98%"
  assert len(told("grpo", said)) <= 80


@pytest.mark.parametrize("step", [1, 84, 99_999])
@pytest.mark.parametrize("value", [-1234.567, 1e-7, 0.5, 1e30])
@pytest.mark.parametrize("shown", [None, grpo._SHOWN])
def test_no_line_is_wider_than_a_terminal(step, value, shown):
  means = dict.fromkeys(GRPO, value) | {"skipped": 0.5}
  said = log_line.line(step, 99_999, means, RATE, shown)
  assert len(told("tokenizer", said)) <= 80
  assert said.startswith(f"{step}/99999 skipped 0.5")


def test_what_is_not_there_is_left_out():
  means = {"reward/total": float("nan"), "maps/drew": 0.5, "loss": 2.0}
  said = log_line.line(1, 2, means, {}, grpo._SHOWN)
  assert said == "1/2 drew 50%"
  # A stage that names nothing shows its plain names.
  assert log_line.line(1, 2, means, {}) == "1/2 loss 2"


def test_speed_comes_last_and_only_where_there_is_room():
  said = log_line.line(1, 2, {"loss": 2.0}, RATE)
  assert said.startswith("1/2 loss 2 0.31 step/s 2.4k tok/s 1.9/")
  assert "step/s" not in log_line.line(24, 84, GRPO, RATE, grpo._SHOWN)


def test_a_step_that_waits_is_counted_whole(tmp_path):
  """GRPO's steps wait for their rollouts: none is a device's in the back."""

  def step(now, batch):
    time.sleep(0.05)
    return now.replace(step=now.step + 1), {"loss": 1.0}

  _, figures = test_loop.run(tmp_path, step_fn=step)
  lines = telemetry.read_metrics(tmp_path / "metrics.jsonl")
  # Steps take .05 s and more: 20 in a second at most. The first line is of
  # the second step alone, the first having been the compile.
  assert all(0 < row["speed/steps_per_s"] <= 20 for row in lines)
  assert 0 < figures["steps_per_s"] <= 20


def test_the_first_step_is_no_rate(tmp_path, capsys):
  def step(now, batch):
    time.sleep(1.0 if now.step == 0 else 0.01)
    return now.replace(step=now.step + 1), {"loss": 1.0}

  test_loop.run(tmp_path, step_fn=step)
  said = capsys.readouterr().err.splitlines()
  assert said[0].startswith("toy       first step took 1.")
  assert said[0].endswith("(compiling)  eta ?")
  # Four steps of some .01 s are left, and not of .5 s as the mean would say.
  assert said[1].startswith("toy       2/6 loss 1 ")
  assert said[1].endswith(("eta 0s", "eta 1s"))
  assert loop.line is log_line.line


def test_what_has_more_than_a_line_is_wrapped_between_its_parts():
  parts = [f"family_{i} 0.{i:02d}" for i in range(16)]
  lines = log_line.paragraph("evaluate  grpo 0.747", parts).splitlines()
  assert all(len(each) <= 80 for each in lines) and len(lines) > 3
  assert "  ".join(each.strip() for each in lines).split("  ")[2:] == parts
  assert (
    log_line.paragraph("evaluate  grpo 0.747", []) == "evaluate  grpo 0.747"
  )


def test_evaluations_and_model_are_told_in_a_terminals_width(capsys):
  summary = {"qa/accuracy/grpo": 0.5}
  families = [f"a_long_family_{i}" for i in range(16)]
  summary |= {f"qa/accuracy/{name}/grpo": 0.25 for name in families}
  question = types.SimpleNamespace
  items = [
    types.SimpleNamespace(question=question(family=name)) for name in families
  ]
  evaluate.say(summary, ("grpo",), items)
  parts = {f"a_long_part_{i}": np.zeros(10**i) for i in range(8)}
  supervised.overview({"params": parts}, "pretrain")
  said = capsys.readouterr().out.splitlines()
  assert all(len(each) <= 80 for each in said)
  assert sum(each.count("a_long_family") for each in said) == 16
  assert said[-1].startswith(
    "pretrain  11,111,111 parameters: a_long_part_7 90"
  )


def test_pretraining_and_sft_show_each_map():
  modalities = (("depth", 0), ("segmentation", 1))
  markup = types.SimpleNamespace(modalities=modalities)
  shown = supervised.shown(types.SimpleNamespace(markup=markup))
  means = {
    "accuracy/map0": 0.12, "accuracy/map1": 0.34, "accuracy/text": 0.5,
    "loss": 3.2419, "loss/text": 3.0, "grad_norm": 0.6,
  }  # fmt: skip
  said = log_line.line(1050, 1050, means, RATE, shown)
  assert said == "1050/1050 loss 3.24 text 50% depth 12% segmentation 34%"


def test_seconds_without_a_step_are_in_no_rate():
  rate = Rate(None)
  rate._watch = types.SimpleNamespace(read=lambda: (10.0, 8.0))
  rate.count(12.0)
  rate.leave_out(6.0, 2.0)
  # One step and 12 tokens in 10 - 6 seconds, of 8 - 2 of the CPU.
  wanted = {"steps_per_s": 0.25, "tokens_per_s": 3.0, "cpu_cores": 1.5}
  assert rate.read() == wanted
