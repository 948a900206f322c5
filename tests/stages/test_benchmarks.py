"""A second benchmark goes through an evaluation with its one file.

And the evaluation of what came in a package is kept, with the same result.
"""

import json
import shutil

import jax
import msgpack
import pytest

from cooper_jax import plugins
from cooper_jax.parallel.mesh import make_mesh
from cooper_jax.sampling import sampler
from cooper_jax.training import json_files, workdir
from tests.eval.test_benchmarks import fixture_coins  # noqa: F401
from tests.stages import test_own_data

pytestmark = pytest.mark.ci


def evaluate(config, folder):
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    plugins.find("stages", "evaluate").run(config, folder)
  return json_files.read_json(folder / "summary.json")


def outcome(folder):
  """Scores, and the bytes of every answer and of the gallery."""
  summary = json_files.read_json(folder / "summary.json")
  scores = {k: v for k, v in summary.items() if not k.startswith("time/")}
  answers = {
    path.relative_to(folder): path.read_bytes()
    for path in (folder / "evaluate").rglob("*.jsonl")
  }
  gallery = (folder / "report" / "gallery.msgpack").read_bytes()
  return scores, answers, msgpack.unpackb(gallery)["rows"]


def keeps_its_evaluation(config, folder, monkeypatch):
  """The SFT of a run as if of a package: asked once, and then no more."""
  asked, sample = [], sampler.sample
  monkeypatch.setattr(
    sampler, "sample", lambda *a, **k: asked.append(1) or sample(*a, **k)
  )
  before = outcome(folder)
  came = {"name": "toy", "by": [], "hours": 1.0}
  workdir.finish(config, folder, "sft", seconds=0.0, package=came)
  said = []
  for _ in range(2):
    shutil.rmtree(folder / "evaluate")
    shutil.rmtree(folder / "report")
    evaluate(config, folder)
    assert outcome(folder) == before
    said.append((folder / "report/index.html").read_text("utf-8"))
    if len(said) == 1:
      assert asked
      asked.clear()
  assert not asked
  assert ["answers of package toy kept from" in page for page in said] == [
    False,
    True,
  ]


def test_it_is_asked_beside_the_test_split_and_alone(
  coins, tmp_path, monkeypatch
):
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
  keeps_its_evaluation(config, folder, monkeypatch)
  # Alone: nothing of the test split is asked.
  with config.unlocked():
    config.evaluate.benchmarks = (coins,)
  (folder / "summary.json").unlink()
  summary = evaluate(config, folder)
  assert summary["benchmarks/coins/accuracy/sft/n"] == 8
  assert summary["qa/questions"] == 0
  assert not [key for key in summary if key.startswith("qa/accuracy")]
