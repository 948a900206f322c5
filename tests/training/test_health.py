"""A run that is lost ends with 43, and what it advises works."""

import re
import shutil
import sys

import jax.numpy as jnp
import pytest

from cooper_jax import main, plugins
from cooper_jax.errors import NumericsError
from cooper_jax.settings import checks
from cooper_jax.training import health, state, workdir


def patient(norm=10.0):
  return health.Health("toy", "runs/toy", norm)


def see(one, *, loss=2.0, grad_norm=1.0, update_norm=0.1, at=1, **more):
  found = {"loss": loss, "grad_norm": grad_norm, "update_norm": update_norm}
  found |= {"param_norm": 10.0, "skipped": 0.0} | more
  found = {name: value for name, value in found.items() if value is not None}
  one.step(found, at, 0)


def test_three_steps_without_any_gradient_are_the_end():
  one = patient()
  see(one)
  for at in (2, 3):
    see(one, grad_norm=0.0, at=at)
  with pytest.raises(NumericsError, match="gradient 0 in 3 steps up to 4"):
    see(one, grad_norm=0.0, at=4)


def test_a_gradient_between_them_begins_the_count_anew():
  one = patient()
  for grad_norm in (0.0, 0.0, 1e-30, 0.0, 0.0):
    see(one, grad_norm=grad_norm)
  assert one.dead == 2


def test_where_there_is_nothing_to_learn_no_gradient_is_right():
  one = patient()
  for _ in range(9):
    see(one, loss=0.0, grad_norm=0.0)  # all learned
    see(one, loss=(0.0, 0.0), grad_norm=0.0)  # a batch without targets
    see(one, loss=None, grad_norm=0.0)  # GRPO, all answers of one reward


def test_a_step_that_throws_the_parameters_far_off_is_the_end():
  # Measured at a rate of 1e2 with a warm-up: 10 times; GRPO at 1e1: 19 times.
  one = patient(norm=96.0)
  with pytest.raises(NumericsError, match=r"step 1 moved .* by 10\.9 times"):
    see(one, update_norm=1047.0)
  # A first step from nothing has no measure, and the second is as large.
  one = patient(norm=0.0)
  see(one, update_norm=0.087, param_norm=0.087)
  see(one, update_norm=0.1, param_norm=0.18)
  see(patient(norm=0.0), update_norm=1e9)


def test_a_loss_that_stays_far_above_the_first_is_the_end():
  one = patient()
  see(one, loss=3.5)
  one.line({"loss": 36.0}, 10, last=False)
  one.line({"loss": 5.0}, 20, last=False)  # a spike that passed
  for at in (30, 40):
    one.line({"loss": 36.0}, at, last=False)
  with pytest.raises(NumericsError, match=r"loss of 36 at step 50, 3\.5 at"):
    one.line({"loss": 36.0}, 50, last=False)


def test_a_run_does_not_end_well_with_such_a_loss():
  one = patient()
  see(one, loss=0.01)
  one.line({"loss": 9.0}, 10, last=True)  # below ten times 1
  one.line({"grad_norm": 1.0}, 10, last=True)
  with pytest.raises(NumericsError, match="a loss of 11"):
    one.line({"loss": 11.0}, 10, last=True)


def test_what_was_seen_is_resumed():
  one = patient()
  see(one, loss=3.0)
  see(one, loss=3.0, grad_norm=0.0)
  one.line({"loss": 99.0}, 2, last=False)
  counts = {"skipped": 0, "dead": 1, "high": 1, "first": 3.0}
  assert one.state() == counts | {"norm": 10.0}
  again = health.Health("toy", "runs/toy", **one.state())
  see(again, grad_norm=0.0)
  with pytest.raises(NumericsError):
    see(again, grad_norm=0.0)


def test_the_norm_is_that_of_all_parameters():
  tree = {"a": jnp.full((2,), 2.0), "b": {"c": jnp.full((1,), 1.0)}}
  made = state.TrainState(
    step=0, params=tree, opt_state=(), ema=None, stale_params=None, key=None
  )
  assert health.parameter_norm(made) == 3.0  # sqrt(4 + 4 + 1)
  assert health.parameter_norm(object()) == 0.0


CONFIG = """
from configs import base
from ml_collections import ConfigDict

def get_config(variant="smoke"):
  config = base.get_base(variant, pipeline=("lost_toy",))
  with config.unlocked():
    config.lost_toy = ConfigDict(dict(steps=8, expected_minutes=0.5, kind="nan",
      optim=dict(learning_rate=0.9, adam_learning_rate=1.0, warmup_steps=0,
      schedule="constant", clip_norm=1.0, beta1=0.9)))
  return config
"""
STAGE = """
'''A stage for a test: what is too much of a rate depends on `kind`.'''
import jax
import jax.numpy as jnp

from cooper_jax.training import loop, optim, state, telemetry
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.parallel import shard


class Nothing:
  def __next__(self):
    return None

  def state(self):
    return {}

  def restore(self, saved):
    pass


def run(config, workdir):
  folder, settings = workdir / "lost_toy", config.lost_toy
  given = optim.OptimConfig(**settings.optim)
  optimizer = optim.make_optimizer(given, steps=settings.steps)
  bad = given.learning_rate > 0.5

  def loss(params, step):
    value = ((params["w"] - 1.0) ** 2).mean() + 1.0
    if bad and settings.kind == "nan":  # from step 5 on
      value = jnp.where(step >= 4, jnp.nan, 1.0) * value
    if bad and settings.kind == "dead":
      value = jnp.where(step >= 2, 5.0, value)
    if bad and settings.kind == "high":
      value = jnp.where(step >= 1, 1e6, 1.0) * value
    return value

  @jax.jit
  def step(now, batch):
    value, grads = jax.value_and_grad(loss)(now.params, now.step)
    now, metrics = optim.apply_gradients(now, grads, optimizer=optimizer)
    return now, metrics | {"loss": value}

  writer = telemetry.MetricWriter(folder)
  checkpoints = Checkpoints(folder / "checkpoints")
  loop.Loop(
    label="lost_toy", steps=settings.steps, step_fn=step, batches=Nothing(),
    state=jax.device_put(state.create({"w": jnp.full((4,), 2.0)}, optimizer,
      key=jax.random.key(0)), shard.replicated(jax.sharding.get_mesh())),
    writer=writer, checkpoints=checkpoints, log_every=1, save_every=2).run()
  writer.close()
  checkpoints.close()
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
  (tmp_path / "stages").mkdir()
  (tmp_path / "stages" / "lost_toy.py").write_text(STAGE)
  monkeypatch.delitem(sys.modules, "cooper_jax.stages.lost_toy", False)
  package = plugins._package("stages")
  path = [*package.__path__, str(tmp_path / "stages")]
  monkeypatch.setattr(package, "__path__", path)
  monkeypatch.setattr(checks, "_check_plugins", lambda config: None)
  (tmp_path / "toy.py").write_text(CONFIG)
  work = tmp_path / "work"
  words = [f"--config={tmp_path / 'toy.py'}", f"--workdir={work}"]
  return [*words, "--compile_cache=off"], work


@pytest.mark.parametrize(
  ("kind", "rate", "said", "resumes"),
  [
    ("nan", "0.9", "not finite at step 7", True),
    ("leap", "1e6", "moved the parameters by", False),
    ("dead", "0.9", "gradient 0 in 3 steps", False),
    ("high", "0.9", "at the start", False),
  ],
)
def test_what_is_advised_works(toy, capsys, kind, rate, said, resumes):
  words, work = toy
  words = [*words, f"--config.lost_toy.kind={kind}"]
  name = "--config.lost_toy.optim.learning_rate"
  assert main.main([*words, f"{name}={rate}"]) == 43
  error = capsys.readouterr().err.splitlines()[-1]
  assert error.startswith("error: lost_toy: ") and said in error
  assert f"the same command with a lower {name}" in error
  if found := re.search(r"delete (\S+) and", error):
    shutil.rmtree(found[1])
  assert main.main([*words, f"{name}=0.1"]) == 0
  told = capsys.readouterr().out
  assert ("resumes at step 6 of 8" in told) == resumes
  assert "goes on from step 6" in error or not resumes
  record = workdir.record(work, "lost_toy")
  assert record["finished"] and "lost" not in record
  assert record["settings"]["lost_toy.optim.learning_rate"] == 0.1


def test_only_the_rates_may_change_and_only_after_a_loss(toy, capsys):
  words, _ = toy
  name = "--config.lost_toy.optim"
  assert main.main(words) == 43
  assert main.main([*words, f"{name}.beta1=0.5"]) == 2
  assert "beta1 is 0.9 there and 0.5 here" in capsys.readouterr().err
  rates = [f"{name}.learning_rate=.1", f"{name}.clip_norm=0.5"]
  rates += [f"{name}.adam_learning_rate=.1", f"{name}.warmup_steps=1"]
  assert main.main([*words, *rates]) == 0
  assert main.main(words) == 2  # finished with the lower ones
  assert "learning_rate is 0.1 there and 0.9" in capsys.readouterr().err


def test_a_record_without_its_parts_is_one_line(toy, capsys):
  words, work = toy
  rate = "--config.lost_toy.optim.learning_rate=0.1"
  assert main.main([*words, rate]) == 0
  path = work / "lost_toy" / "stage.json"
  path.write_text(path.read_text().replace('"finished"', '"fnished"'))
  capsys.readouterr()
  assert main.main([*words, rate]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "has no finished); delete it" in error
  path.unlink()
  assert main.main([*words, rate]) == 0
