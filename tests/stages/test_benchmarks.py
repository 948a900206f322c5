"""A second benchmark goes through an evaluation with its one file."""

import json

import jax

from cooper_jax import plugins
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.training import workdir
from tests.eval.test_benchmarks import fixture_coins  # noqa: F401
from tests.stages import test_own_data


def test_it_is_asked_beside_the_test_split_and_alone(coins, tmp_path):
  changes = {"evaluate.benchmarks": ("embedded", coins)}
  own = test_own_data.write(tmp_path / "own")
  config = test_own_data.settings(own, **changes)
  stages = ("tokenizer", "pretrain", "sft", "evaluate")
  folder = tmp_path / "run"
  summary = test_own_data.run(config, folder, stages)
  for key in ("circular/sft", "accuracy/direct/sft", "accuracy/constant"):
    assert 0 <= summary[f"benchmarks/coins/{key}"] <= 1
  assert summary["benchmarks/coins/accuracy/sft/n"] == 8
  assert summary["qa/accuracy/sft/n"] == summary["qa/questions"] == 8
  lines = (folder / "evaluate/coins/sft.jsonl").read_text().splitlines()
  modes = [json.loads(line)["mode"] for line in lines]
  assert sorted(modes) == ["adaptive"] * 8 + ["direct"] * 8
  page = (folder / "report/index.html").read_text("utf-8")
  assert "Coins &amp; more" in page and "Answers right, per family" in page
  # Alone: nothing of the test split is asked.
  with config.unlocked():
    config.evaluate.benchmarks = (coins,)
  (folder / "summary.json").unlink()
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    plugins.find("stages", "evaluate").run(config, folder)
  summary = workdir.read_json(folder / "summary.json")
  assert summary["benchmarks/coins/accuracy/sft/n"] == 8
  assert summary["qa/questions"] == 0
  assert not [key for key in summary if key.startswith("qa/accuracy")]
