"""Validation keeps the best parameters, exactly so after a stop, too."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from cooper_jax.errors import UserError
from cooper_jax.eval import ridge, validation
from cooper_jax.settings import checks
from cooper_jax.trained import load_stage
from cooper_jax.training import json_files, settings_version
from cooper_jax.training.checkpoint import Checkpoints
from tests.rl import toy

ACCURACY = {0: 0.5, 2: 0.7, 4: 0.7, 6: 0.9, 8: 0.8, 10: 0.95}
SAVED_EVERY = 4


@pytest.fixture
def make(monkeypatch, tmp_path):
  """Validations whose accuracy is a function of the step that is in params."""
  monkeypatch.setattr(validation, "open_items", lambda config, count: [])

  def measure(self, params):
    return ACCURACY[int(params["step"])], 0.25

  monkeypatch.setattr(validation.Validation, "_measure", measure)
  return lambda: validation.Validation(toy.CONFIG, None, {}, tmp_path)


def go(watched, steps):
  """Measures at some steps; the newest checkpoint is of every fourth."""
  for step in steps:
    state = types.SimpleNamespace(params={"step": jnp.float32(step)})
    saved = max(0, (step - 1) // SAVED_EVERY * SAVED_EVERY)
    yield watched(step, state, saved=saved)


def kept(folder):
  found = Checkpoints(folder / "best" / "checkpoints")
  here = {each: found.meta(each)["accuracy"] for each in found.steps()}
  best = found.restore_part("params", {"step": jnp.float32(0)})
  found.close()
  return here, float(best["step"])


def test_the_best_is_kept_and_the_earlier_of_two_alike(make, tmp_path):
  watched = make()
  watched.begin(0)
  said = list(go(watched, (0, 2, 4)))
  values, line = said[-1]
  assert values == {"validation/accuracy": 0.7, "validation/drew": 0.25}
  assert "step 4: validation 70.0% right" in line and "step 2" in line
  assert kept(tmp_path)[1] == 2
  list(go(watched, (6, 8)))
  # That of step 2 stays: a stop would go back to step 4, of which it was best.
  assert kept(tmp_path) == ({2: 0.7, 6: 0.9}, 6)
  list(go(watched, (10,)))
  assert kept(tmp_path) == ({6: 0.9, 10: 0.95}, 10)
  watched.close()


def test_after_a_stop_it_is_as_if_there_had_been_none(make, tmp_path):
  watched = make()
  watched.begin(0)
  list(go(watched, (0, 2, 4, 6)))
  watched.close()
  again = make()
  again.begin(4)  # of 6 nothing is left: the run may go on otherwise
  assert again.best == (0.7, 2) and kept(tmp_path)[0] == {2: 0.7}
  again.close()
  again = make()
  again.begin(4)
  list(go(again, (6, 8, 10)))
  assert kept(tmp_path) == ({6: 0.9, 10: 0.95}, 10)
  again.close()


def test_it_needs_room_for_two_and_the_one_that_is_written(make):
  watched = make()
  watched.begin(0)
  state = types.SimpleNamespace(params={"step": jnp.zeros(2**18)})  # 1 MiB
  assert watched.room(state) / 2**20 == pytest.approx(3 * 2.2)
  list(go(watched, (0, 2)))
  assert watched.room(state) / 2**20 == pytest.approx(2.2)
  watched.close()


@pytest.mark.ci
def test_the_stage_may_end_with_its_best(tmp_path):
  config = toy.CONFIG.copy_and_resolve_references()
  for folder, seed in (("", 1), ("best", 2)):
    params = toy.fresh(seed=seed).params
    saved = Checkpoints(tmp_path / "grpo" / folder / "checkpoints")
    saved.save(1, {"params": params}, data_state={}, meta={})
    saved.close()
  about = {"finished": True, "digest": "", "settings": {}}
  about["version"] = settings_version.SETTINGS_VERSION
  json_files.write_json(tmp_path / "grpo" / "stage.json", about)
  for result, seed in (("last", 1), ("best", 2)):
    config.grpo.result = result
    found = load_stage(toy.POLICY, config, tmp_path, "grpo")
    stage, looked_at = ridge._load(toy.POLICY, config, tmp_path, "")
    assert stage == "grpo"
    wanted = toy.fresh(seed=seed).params
    for each in (found, looked_at):
      jax.tree.map(np.testing.assert_array_equal, each, wanted)


@pytest.mark.ci
def test_the_toy_policy_is_measured_greedily(monkeypatch, tmp_path):
  monkeypatch.setattr(validation, "open_items", lambda config, count: toy.ITEMS)
  watched = validation.Validation(
    toy.CONFIG, toy.POLICY, toy.codecs(), tmp_path
  )
  watched.begin(0)
  state = toy.fresh()
  found = [watched(step, state, saved=0)[0] for step in (0, 1)]
  assert found[0] == found[1]  # no chance in it
  assert set(found[0]) == {"validation/accuracy", "validation/drew"}
  assert watched.best == (found[0]["validation/accuracy"], 0)
  watched.close()


def test_the_summary_has_first_last_and_best():
  lines = [
    {"step": step, "validation/accuracy": value}
    for step, value in ACCURACY.items()
  ]
  assert validation.scores([{"step": 1, "loss": 2.0}], "grpo") == {}
  assert validation.scores([*lines[:5], {"step": 5}], "grpo") == {
    "validation/grpo/first": 0.5,
    "validation/grpo/last": 0.8,
    "validation/grpo/best": 0.9,
    "validation/grpo/best_step": 6,
  }


@pytest.mark.parametrize(
  ("result", "every", "said"),
  [("best", 0, "validate_every is 0"), ("beste", 5, '"beste"; .*"best"')],
)
def test_a_result_that_can_not_be_is_refused(result, every, said):
  config = base.get_base("smoke", ("sft", "grpo"))
  config.grpo.result, config.grpo.validate_every = result, every
  with pytest.raises(UserError, match=said):
    checks.validate(config)
