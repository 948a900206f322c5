"""What README and the pages of docs/ show works: commands, data, plug-ins."""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from cooper_jax import command, plugins
from cooper_jax.data.entries import JsonlSource, read_entries
from cooper_jax.rl import scoring
from cooper_jax.training import telemetry
from launch import hosts, tpu
from tests import compiling, own_data, pages
from tests.data import layouts
from tests.pages import blocks, commands, words

ROOT = pages.ROOT


def test_every_script_and_config_that_is_run_exists():
  lines = commands()
  assert len(lines) >= 6
  for line in lines:
    parts = words(line)
    if parts[0] == "bash":
      assert (ROOT / parts[1]).is_file(), line
    elif parts[0] == "python":
      assert parts[1:3] in (["-m", parts[2]],), line
      module = ROOT / parts[2].replace(".", "/")
      files = module.with_suffix(".py"), module / "__main__.py"
      assert any(path.is_file() for path in files), line
    else:
      known = parts[0] in ("gcloud", "tensorboard")
      assert known or parts[:2] == ["pip", "install"], line


@pytest.mark.parametrize(
  "line", [line for line in commands() if "launch.tpu" in line]
)
def test_every_launch_is_accepted(line, monkeypatch, capsys):
  monkeypatch.setattr(hosts, "current_commit", lambda shell: "c0ffee")
  monkeypatch.setattr(hosts, "uncommitted", lambda shell: 0)
  # Printed only: nothing asks the cloud.
  code = tpu.main(["--dry_run", *words(line)[3:]])
  said = capsys.readouterr()
  assert code == 0 and said.out.count("gcloud compute ") > 0, said.err


def example(first: str) -> str:
  """The text of the example whose docstring begins so."""
  return next(b for b in blocks("python") if b.startswith(f'"""{first}'))


@pytest.fixture(name="examples")
def fixture_examples(tmp_path, monkeypatch):
  """The plug-ins of the pages, as files of their folders."""
  made = ("modalities", "normals", "Surface"), ("rewards", "brief", "Brief")
  for kind, name, first in made:
    package = importlib.import_module(plugins.KINDS[kind])
    (tmp_path / kind).mkdir()
    (tmp_path / kind / f"{name}.py").write_text(example(first))
    path = [*package.__path__, str(tmp_path / kind)]
    monkeypatch.setattr(package, "__path__", path)
  yield
  for kind, name, _ in made:
    if sys.modules.pop(f"{plugins.KINDS[kind]}.{name}", None):
      delattr(importlib.import_module(plugins.KINDS[kind]), name)


def test_a_plug_in_that_is_gone_is_asked_for_no_more(tmp_path, monkeypatch):
  package = importlib.import_module(plugins.KINDS["rewards"])
  (tmp_path / "brief.py").write_text(example("Brief"))
  with monkeypatch.context() as there:
    there.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    config = command.load_config("configs/grpo.py")
    assert "brief" in config.grpo.rl.rewards
  del sys.modules[f"{package.__name__}.brief"]
  del package.brief
  assert "brief" not in command.load_config("configs/grpo.py").grpo.rl.rewards


@pytest.fixture
def of_a_user(tmp_path, monkeypatch):
  """A folder to work in, with what the pages take for a user's own."""
  (tmp_path / "configs").symlink_to(ROOT / "configs")
  (tmp_path / "own").mkdir()
  (tmp_path / "own/classes.txt").write_text("floor\nwall\n")
  (tmp_path / "hypersim").mkdir()
  layouts.hypersim(tmp_path / "hypersim")
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
  "line",
  [
    line
    for line in commands()
    if "--config" in line and "cooper_jax.sweep" not in line
  ],
)
def test_every_run_is_accepted(line, examples, of_a_user):
  given = words(line)
  if "--" in given:  # what the launcher hands on
    given = given[given.index("--") + 1 :]
  arguments = [word for word in given if word.startswith("--")]
  asked = command.parse(arguments)
  for word in arguments:
    if word.startswith("--config."):
      here = asked.config
      for key in word[2:].partition("=")[0].split(".")[1:]:
        assert key in here, word
        here = here[key]


class Parsed(BaseException):
  """A command line was read to its end."""


@pytest.mark.parametrize(
  "line",
  [
    line
    for line in commands()
    if line.startswith("python -m cooper_jax.")
    and words(line)[2] != "cooper_jax.main"
  ],
)
def test_every_other_command_is_accepted(line, monkeypatch):
  read = argparse.ArgumentParser.parse_args

  def parse_args(self, args=None, namespace=None):
    read(self, args, namespace)
    raise Parsed

  monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
  name, *arguments = words(line)[2:]
  monkeypatch.setattr(sys, "argv", [name, *arguments])
  module = ROOT / name.replace(".", "/")
  entry = f"{name}.__main__" if module.is_dir() else name
  with pytest.raises(Parsed):
    importlib.import_module(entry).main()


def test_the_own_data_example_is_read(tmp_path):
  from cooper_jax.data import mixture

  lines = next(block for block in blocks("json") if '"image"' in block)
  (tmp_path / "own.jsonl").write_text(lines)
  rng = np.random.default_rng(0)
  image = Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8))
  image.save(tmp_path / "a.jpg")
  millimetres = rng.integers(500, 4000, (48, 64)).astype(np.uint16)
  Image.fromarray(millimetres).save(tmp_path / "a_depth.png")
  classes = rng.integers(0, 4, (48, 64)).astype(np.uint8)
  Image.fromarray(classes).save(tmp_path / "a_classes.png")
  entries = read_entries(tmp_path / "own.jsonl")
  source = JsonlSource(tmp_path / "own.jsonl", entries, 64)
  assert len(source) == 1
  assert len(source[0].questions) == 2
  assert source[0].maps["depth"].shape == (64, 64)
  assert 0.4 < source[0].maps["depth"][source[0].maps["depth"] > 0].mean() < 4.1
  config = own_data.reading(tmp_path / "own.jsonl")
  for split in ("train", "validation", "test"):  # it trains and is tested
    assert len(mixture.open_split(config, split)) == 1


def own_scenes(folder, count=24):
  """own.jsonl of pictures with depth, normals and a question; its path."""
  rng, lines = np.random.default_rng(0), []
  for i in range(count):
    height = int(rng.integers(16, 48))  # of the wall, the rest is floor
    image = np.zeros((64, 64, 3), np.uint8)
    image[:height], image[height:] = rng.integers(0, 256, (2, 3))
    normals = np.zeros((64, 64, 3), np.float32)
    normals[:height, :, 2], normals[height:, :, 1] = -1, -1
    depth = np.full((64, 64), 6.0, np.float32)
    depth[height:] = np.linspace(6, 1, 64 - height)[:, None]
    Image.fromarray(image).save(folder / f"{i}.png")
    np.save(folder / f"{i}-normals.npy", normals)
    np.save(folder / f"{i}-depth.npy", depth)
    line = {
      "image": f"{i}.png",
      "normals": f"{i}-normals.npy",
      "depth": f"{i}-depth.npy",
      "question": "Is there more wall than floor ?",
      "answer": "yes" if height > 32 else "no",
      "reasoning": "wall <at .1 .5> ; floor <at .9 .5>",
    }
    lines.append(json.dumps(line))
  path = folder / "own.jsonl"
  path.write_text("\n".join(lines))
  return path


@pytest.mark.ci
def test_the_example_modality_trains_with_no_other_edit(tmp_path):
  """Tokenizer to report, of own data, with that one file."""
  for folder in ("cooper_jax", "configs"):
    shutil.copytree(
      ROOT / folder,
      tmp_path / folder,
      ignore=shutil.ignore_patterns("__pycache__"),
    )
  path = tmp_path / "cooper_jax" / "modalities" / "normals.py"
  path.write_text(example("Surface normals"))
  line = next(line for line in commands() if "normals" in line)
  asked = [word for word in words(line) if word.startswith("--")]
  asked += [
    f"--config.{setting}"
    for setting in (
      "data.source=jsonl",
      f"data.settings.jsonl.path={own_scenes(tmp_path)}",
      "tokenizer.steps=16",
      "model.layers=1",
      "pretrain.steps=2",
      "sft.steps=2",
      "sft.modality_weights.normals=2.0",
      "grpo.steps=1",
      "grpo.batch=2",
      "grpo.log_every=1",
      "evaluate.questions=4",
      "evaluate.batch=4",
      "evaluate.heldout_questions=0",
      "evaluate.gallery=2",
    )
  ]
  subprocess.run(
    [sys.executable, "-m", "cooper_jax.main", *asked],
    cwd=tmp_path,
    check=True,
    timeout=900,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": compiling.QUICK,
      "PYTHONPATH": str(tmp_path),
    },
  )
  run = tmp_path / "runs" / "normals"
  logged = {
    stage: telemetry.read_metrics(run / stage / "metrics.jsonl")
    for stage in ("tokenizer", "pretrain", "sft", "grpo")
  }
  losses = [r["normals"] for r in logged["tokenizer"] if "normals" in r]
  assert losses[-1] < 0.8 * losses[0]
  # Modality 2 is drawn in pretraining and in the traces of SFT.
  for stage in ("pretrain", "sft"):
    assert np.isfinite(logged[stage][-1]["loss/map2"])
  # Scored, also where no rollout of the one step drew.
  assert logged["grpo"][-1]["reward/normals/exceptions"] == 0
  summary = json.loads((run / "summary.json").read_text())
  assert 0 < summary["normals/tokenizer_degrees"] < 180
  assert 0 < summary["normals/degrees"] < 180
  for stage in ("sft", "grpo"):
    assert f"qa/accuracy/normals/{stage}" in summary
  page = (run / "report" / "index.html").read_text(encoding="utf-8")
  assert "<figcaption>true normals" in page
  assert "Always draws normals" in page


def test_the_example_reward_is_scored(examples):
  module = plugins.find("rewards", "brief")
  view = types.SimpleNamespace(text_tokens=np.array([0, 10, 40, 90]))
  reward_R = module.reward(view, {}, module.Config())
  np.testing.assert_allclose(reward_R, [1.0, 0.75, 0.0, 0.0])
  assert isinstance(scoring.Scorer({"brief": 1.0}), scoring.Scorer)
