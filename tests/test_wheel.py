"""The wheel holds all that a run needs, and works in an empty folder."""

import ast
import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
import setuptools

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = ("cooper_jax", "configs")
FILES = ("pyproject.toml", "README.md")
FILES += ("requirements.txt", "requirements-test.txt")
COMMANDS = ("cooper-ask", "cooper-report", "cooper-train")
NEEDED = 77  # major version of setuptools that pyproject.toml asks for

old = int(setuptools.__version__.partition(".")[0]) < NEEDED
pytestmark = pytest.mark.skipif(
  old, reason=f"setuptools {setuptools.__version__}, needs {NEEDED}"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """Built by setuptools itself from a copy: no network, nothing left here."""
  folder = tmp_path_factory.mktemp("wheel")
  copy = folder / "copy"
  for name in SOURCES:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / name, copy / name, ignore=ignored)
  for path in [*(ROOT / name for name in FILES), *ROOT.glob("LICENSE*")]:
    shutil.copy(path, copy)
  code = "from setuptools import build_meta; build_meta.build_wheel('..')"
  subprocess.run(
    [sys.executable, "-c", code], cwd=copy, check=True, capture_output=True
  )
  (built,) = folder.glob("*.whl")
  return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
  """The folder that the wheel was unpacked into, as pip would."""
  folder = tmp_path_factory.mktemp("site-packages")
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder)
  return folder


def entries(installed) -> dict[str, str]:
  (path,) = installed.glob("*.dist-info/entry_points.txt")
  parser = configparser.ConfigParser()
  parser.read(path)
  return dict(parser["console_scripts"])


def run(installed, folder, command, *words):
  """Runs a command as the script that pip writes for it."""
  module, _, name = entries(installed)[command].partition(":")
  code = f"import sys; from {module} import {name}; sys.exit({name}())"
  return subprocess.run(
    [sys.executable, "-c", code, *words],
    cwd=folder,
    env=os.environ | {"PYTHONPATH": str(installed)},
    capture_output=True,
    text=True,
    check=False,
  )


def test_it_holds_every_file_of_the_package(wheel):
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
  there = {
    str(path.relative_to(ROOT))
    for name in SOURCES
    for path in (ROOT / name).rglob("*")
    if path.is_file() and path.suffix not in (".md", ".pyc")
  }
  assert there - names == set()
  others = {name.partition("/")[0] for name in names} - set(SOURCES)
  assert len(others) == 1  # its own metadata: no tests, no launcher


def test_it_asks_for_what_requirements_txt_lists(installed):
  (path,) = installed.glob("*.dist-info/METADATA")
  metadata = path.read_text("utf-8")
  for line in (ROOT / "requirements.txt").read_text().splitlines():
    if line and not line.startswith("#"):
      name = line.replace(">", "<").partition("<")[0]
      assert f"Requires-Dist: {name}" in metadata, line


def test_it_gives_three_commands(installed, tmp_path):
  assert sorted(entries(installed)) == sorted(COMMANDS)
  for command in COMMANDS:
    done = run(installed, tmp_path, command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
  assert list(tmp_path.iterdir()) == []


def test_in_an_empty_folder_configs_and_models_are_found(installed, tmp_path):
  code = (
    "import cooper_jax, configs.base\n"
    "from cooper_jax import command, package\n"
    "asked = [command.parse([f'--config={each}:smoke']) for each in"
    " ('grpo', 'configs/grpo.py')]\n"
    "print([cooper_jax.__file__, configs.__file__, str(package.find('tiny')),"
    " *(str(each.workdir) for each in asked),"
    " asked[0].config.to_dict() == asked[1].config.to_dict()])\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": str(installed)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  package, configs, tiny, *rest = ast.literal_eval(done.stdout)
  for path in (package, configs, tiny):
    assert pathlib.Path(path).is_relative_to(installed)
  assert rest == ["runs/grpo-smoke", "runs/grpo-smoke", True]
  assert list(tmp_path.iterdir()) == []


@pytest.mark.ci
def test_in_an_empty_folder_the_model_answers(installed, tmp_path):
  question = "How far is the table from the camera?"
  words = ("--scene=3", "--mode=direct", "--out=answer.png", question)
  done = run(installed, tmp_path, "cooper-ask", *words)
  assert done.returncode == 0, done.stderr
  assert "  answer: " in done.stdout
  assert [path.name for path in tmp_path.iterdir()] == ["answer.png"]


def test_what_is_asked_of_no_run_is_one_line(installed, tmp_path):
  done = run(installed, tmp_path, "cooper-report", "--workdir=none")
  assert done.returncode == 2 and "no run in none" in done.stderr
  done = run(installed, tmp_path, "cooper-train", "--config=grop")
  assert done.returncode == 2 and 'did you mean "grpo"' in done.stderr
