"""Metrics also go to W&B or MLflow where asked; never in the run's way."""

import json
import shutil
import sys

import pytest

from configs import base
from cooper_jax.errors import UserError
from cooper_jax.settings import checks
from cooper_jax.training import telemetry, trackers

WANDB = """
import json
class Run:
  def __init__(self, folder): self.file = open(folder + "/calls", "a")
  def log(self, values, step):
    if values.get("loss") == 13: raise OSError("the network is gone")
    print(json.dumps([step, values]), file=self.file, flush=True)
  def finish(self):
    if "unended" in self.file.name: raise OSError("the network is gone")
    print('"end"', file=self.file, flush=True)
def init(*, project, name, id, resume, dir):
  if name.endswith("/refused"): raise RuntimeError("no API key\\nlog in first")
  run = Run(dir)
  print(json.dumps([project, name, id, resume]), file=run.file, flush=True)
  return run
"""
MLFLOW = """
import sys, types
RUNS, LOGGED = {}, []
entities = types.ModuleType("mlflow.entities")
entities.Metric = lambda *fields: fields
sys.modules["mlflow.entities"] = entities
class MlflowClient:
  def get_experiment_by_name(self, name): return None
  def create_experiment(self, name): return name
  def search_runs(self, experiments, words):
    return [r for r in RUNS.values() if r.info.run_id in words]
  def create_run(self, experiment, run_name, tags):
    (own,) = tags.values()
    info = types.SimpleNamespace(run_id=own)
    RUNS[own] = types.SimpleNamespace(info=info)
    return RUNS[own]
  def log_batch(self, run, metrics):
    LOGGED.extend((run, name, value, step) for name, value, _, step in metrics)
  def set_terminated(self, run): LOGGED.append("end")
"""


@pytest.fixture(autouse=True)
def libraries(tmp_path, monkeypatch):
  """Stand-ins that note what they are called with."""
  folder = tmp_path / "libraries"
  folder.mkdir()
  (folder / "wandb.py").write_text(WANDB)
  (folder / "mlflow.py").write_text(MLFLOW)
  monkeypatch.syspath_prepend(str(folder))
  names = ("wandb", "mlflow", "mlflow.entities")
  for name in names:
    monkeypatch.delitem(sys.modules, name, raising=False)
  yield
  for name in names:
    sys.modules.pop(name, None)


def calls(folder):
  return [json.loads(line) for line in (folder / "calls").open()]


def test_a_stage_is_one_run_also_after_a_stop(tmp_path):
  folder = tmp_path / "demo" / "grpo"
  for step in (1, 2):
    writer = telemetry.make_writer(folder, ("wandb",))
    writer.scalars(step, {"loss": 1 / step})
    writer.close()
  begun, first, end, again, second, _ = calls(folder)
  assert begun == again and begun[:2] == ["cooper_jax", "demo/grpo"]
  assert begun[2] == trackers.run_id(folder) and begun[3] == "allow"
  assert (first, second, end) == ([1, {"loss": 1.0}], [2, {"loss": 0.5}], "end")
  kept = telemetry.read_metrics(folder / "metrics.jsonl")
  assert kept == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]


def test_a_new_run_in_the_place_of_a_removed_one_is_another(tmp_path):
  folder = tmp_path / "grpo"
  folder.mkdir()
  first = trackers.run_id(folder)
  assert trackers.run_id(folder) == first
  shutil.rmtree(folder)
  folder.mkdir()
  assert trackers.run_id(folder) != first


def test_one_that_fails_at_the_end_costs_no_finished_stage(tmp_path, capsys):
  writer = telemetry.make_writer(tmp_path / "unended", ("wandb",))
  writer.scalars(1, {"loss": 1.0})
  writer.close()
  (said,) = capsys.readouterr().err.splitlines()
  assert "fails at the end (OSError)" in said


def test_mlflow_gets_finite_numbers_of_one_run(tmp_path):
  for step in (1, 2):
    writer = telemetry.make_writer(tmp_path / "sft", ("mlflow",))
    writer.scalars(step, {"loss": 2.0, "lost": float("nan")})
    writer.close()
  import mlflow

  run = trackers.run_id(tmp_path / "sft")
  one, two = ((run, "loss", 2.0, step) for step in (1, 2))
  assert [one, "end", two, "end"] == mlflow.LOGGED and len(mlflow.RUNS) == 1


def test_one_that_fails_is_left_out_and_the_run_goes_on(tmp_path, capsys):
  writer = telemetry.make_writer(tmp_path, ("wandb",))
  for step, loss in ((1, 5.0), (2, 13.0), (3, 4.0)):
    writer.scalars(step, {"loss": loss})
  writer.close()
  assert [call[0] for call in calls(tmp_path)][1:] == [1]
  said = capsys.readouterr().err.splitlines()
  assert len(said) == 1 and "fails at step 2 (OSError)" in said[0]
  assert len(telemetry.read_metrics(tmp_path / "metrics.jsonl")) == 3


def test_by_default_nothing_is_imported(tmp_path):
  assert base.defaults().trackers == ()
  telemetry.make_writer(tmp_path, ()).close()
  assert not {"wandb", "mlflow"} & set(sys.modules)


def test_one_that_can_not_be_is_refused_in_one_line(tmp_path, monkeypatch):
  config = base.get_base("smoke", ("sft", "grpo"))
  config.trackers = ("wandbb",)
  with pytest.raises(UserError, match=r'"wandbb"; .*"wandb"'):
    checks.validate(config)
  with pytest.raises(UserError, match="no API key log in first"):
    telemetry.make_writer(tmp_path / "refused", ("wandb",))
  monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
  config.trackers = ("mlflow",)
  with pytest.raises(UserError, match="not installed; pip install mlflow"):
    checks.validate(config)
