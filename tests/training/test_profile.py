"""A trace of some training steps lies where TensorBoard looks for it."""

import numpy as np
import pytest

from cooper_jax import command
from cooper_jax.errors import UserError
from cooper_jax.training import profile
from tests.training import test_loop


def counting(state, batch):
  return state + batch, {}


def traces(folder):
  return list(folder.glob("plugins/profile/*/*.xplane.pb"))


def test_so_many_steps_are_traced_after_the_first(tmp_path, capsys):
  with profile.steps(2):
    step = profile.traced(counting, tmp_path, left=5)
  state, found = 0, []
  for _ in range(5):
    state, _ = step(state, 1)
    found.append(len(traces(tmp_path)))
  assert state == 5
  assert found == [0, 0, 1, 1, 1]  # written after the third, once
  assert f"traced 2 steps into {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize("left", [1, 2])
def test_a_stage_of_few_steps_is_traced_too(tmp_path, left):
  with profile.steps(10):
    step = profile.traced(counting, tmp_path, left=left)
  for _ in range(left):
    step(np.float32(0), 1)
  assert len(traces(tmp_path)) == 1


def test_without_the_flag_the_step_is_as_it_was(tmp_path):
  assert profile.traced(counting, tmp_path, left=5) is counting


def test_the_flag_is_a_number_of_steps():
  config = "--config=configs/grpo.py:smoke"
  assert command.parse([config, "--profile=3"]).profile == 3
  assert command.parse([config]).profile == 0
  with pytest.raises(UserError, match="--profile=some: write a whole number"):
    command.parse([config, "--profile=some"])


def test_the_training_loop_leaves_a_trace_beside_the_curves(tmp_path):
  with profile.steps(2):
    test_loop.run(tmp_path)
  assert len(traces(tmp_path)) == 1
  assert (tmp_path / "metrics.jsonl").exists()
