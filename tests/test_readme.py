"""What the README says exists, and what it shows works."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cooper_jax import command, errors
from cooper_jax.data.entries import JsonlSource, read_entries
from cooper_jax.rl import advantages, losses, off_policy
from launch import hosts, tpu

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAME = re.compile(r"[\w*.-]+(?:\.py|\.sh|\.txt|\.md|\.toml|\.ipynb|/)$")


def blocks(language=""):
  """The fenced blocks of a language."""
  found = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)
  return [text for name, text in found if name == language]


def commands():
  """Each command line of the shell blocks, continuations joined."""
  text = "\n".join(blocks("bash")).replace("\\\n", " ")
  return [line.strip() for line in text.splitlines() if line.strip()]


def words(line):
  """The words of a command as the shell would split them."""
  import shlex

  return shlex.split(line)


def the_map():
  """Paths that the map of the house names, from its indentation."""
  text = next(block for block in blocks() if "cooper_jax/" in block)
  paths, folders = [], []
  for line in text.splitlines():
    depth = (len(line) - len(line.lstrip())) // 2
    for word in line.split():
      if not NAME.match(word):
        break
      path = "/".join([*folders[:depth], word.rstrip("/")])
      paths.append(path)
      if word.endswith("/"):
        folders[depth:] = [word.rstrip("/")]
  return paths


def test_the_map_of_the_house_is_the_tree():
  named = set()
  for path in the_map():
    matches = {str(p.relative_to(ROOT)) for p in ROOT.glob(path)}
    assert matches, f"{path} is in the README's map and not in the tree"
    named |= matches
  there = {
    str(path.relative_to(ROOT))
    for folder in ("cooper_jax", "launch")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
  }
  missing = sorted(there - named)
  assert not missing, f"not in the README's map: {missing}"


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
      assert parts[0] == "gcloud" or parts[:2] == ["pip", "install"], line


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


@pytest.mark.parametrize(
  "line", [line for line in commands() if "--config" in line]
)
def test_every_run_is_accepted(line):
  given = words(line)
  if "--" in given:  # what the launcher hands on
    given = given[given.index("--") + 1 :]
  arguments = [word for word in given if word.startswith("--")]
  # The modality of the example is not there until its file is written.
  asked = command.parse([word for word in arguments if "normals" not in word])
  for word in arguments:
    if word.startswith("--config."):
      here = asked.config
      for key in word[2:].partition("=")[0].split(".")[1:]:
        assert key in here, word
        here = here[key]


def test_paths_in_the_text_exist():
  text = re.sub(r"^```.*?^```", "", README, flags=re.M | re.S)
  for path in re.findall(r"[(`]([\w./-]+\.(?:py|sh|txt|ipynb|png))[)`]", text):
    made = path.startswith(("runs/", "report/")) or "normals" in path
    assert made or (ROOT / path).exists(), path


def test_settings_in_the_text_exist():
  config = command.load_config("configs/grpo.py")
  stages = "|".join(config.pipeline)
  pattern = rf"`((?:{stages}|<stage>|data|model|rl)\.[a-z_.]+)(?:=[^`]*)?`"
  found = re.findall(pattern, README)
  assert len(found) >= 4
  for name in found:
    here = config
    for key in name.replace("<stage>", "sft").split("."):
      assert key in here, name
      here = here[key]


@pytest.mark.parametrize(
  ("setting", "table"),
  [
    ("grpo.rl.loss.kind", losses.LOSSES),
    ("grpo.rl.loss.kl", losses.PENALTIES),
    ("grpo.rl.loss.correction", off_policy.CORRECTIONS),
    ("grpo.rl.advantage", advantages.ADVANTAGES),
  ],
)
def test_the_choices_of_reinforcement_are_all_named(setting, table):
  row = re.search(rf"^\| `{setting}` \| (.*?)(; .*)? \|$", README, re.M)
  assert set(re.findall(r"`(\w+)`", row[1])) == set(table)


def test_exit_codes_are_those_of_the_program():
  table = README[README.index("| code |") :].split("\n\n")[0]
  codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)}
  assert codes == {
    value for name, value in vars(errors).items() if name.startswith("EXIT_")
  }


def test_the_own_data_example_is_read(tmp_path):
  from cooper_jax.data import mixture
  from cooper_jax.data.sources import DataConfig

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
  assert source[0].depth.shape == (64, 64)
  assert 0.4 < source[0].depth[source[0].depth > 0].mean() < 4.1
  config = DataConfig(source="jsonl", jsonl=str(tmp_path / "own.jsonl"))
  for split in ("train", "validation", "test"):  # it trains and is tested
    assert len(mixture.open_split(config, split)) == 1


def normals():
  """The text of the example modality."""
  return next(b for b in blocks("python") if b.startswith('"""Surface normals'))


def test_the_example_modality_trains_with_no_other_edit(tmp_path):
  for folder in ("cooper_jax", "configs"):
    shutil.copytree(
      ROOT / folder,
      tmp_path / folder,
      ignore=shutil.ignore_patterns("__pycache__"),
    )
  path = tmp_path / "cooper_jax" / "modalities" / "normals.py"
  path.write_text(normals())
  line = next(line for line in commands() if "normals" in line)
  asked = [word for word in words(line) if word.startswith("--")]
  asked += [
    "--config.tokenizer.steps=16",
    "--config.pretrain.steps=3",
    "--config.data.train_scenes=48",
    f"--config.data.cache={tmp_path / 'cache'}",
  ]
  subprocess.run(
    [sys.executable, "-m", "cooper_jax.main", *asked],
    cwd=tmp_path,
    check=True,
    timeout=300,
    env=os.environ
    | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(tmp_path)},
  )
  run = tmp_path / "runs" / "normals"
  lines = (run / "tokenizer" / "metrics.jsonl").read_text().splitlines()
  losses = [r["normals"] for r in map(json.loads, lines) if "normals" in r]
  assert losses[-1] < 0.8 * losses[0]
  # Slot 2 was drawn, beside depth and segmentation.
  lines = (run / "pretrain" / "metrics.jsonl").read_text().splitlines()
  assert np.isfinite(json.loads(lines[-1])["loss/map2"])
  summary = json.loads((run / "summary.json").read_text())
  assert 0 < summary["normals/tokenizer_degrees"] < 180
