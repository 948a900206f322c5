"""Notebooks run from the first cell to the last, on the packaged model."""

import ast
import importlib.metadata
import itertools
import os
import pathlib

import nbclient
import nbformat
import pytest

from tests import compiling

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LINES = 45  # of a cell at most
# Smaller than smoke: the notebooks are tested here, not the stages.
SCENES = (
  "data.train_scenes=32",
  "data.validation_scenes=8",
  "data.test_scenes=8",
)
SETTINGS = {
  "add_a_modality": ("tokenizer.steps=2", *SCENES),
  "own_data": (
    "sft.steps=1",
    "sft.image_every=0",
    "sft.self_map_scenes=0",
  ),
  "quickstart": (
    "tokenizer.steps=2",
    "pretrain.steps=2",
    "sft.steps=2",
    "grpo.steps=1",
    "evaluate.questions=16",
    "evaluate.batch=8",
    "evaluate.heldout_questions=0",
    "model.layers=1",
    *SCENES,
  ),
  "tour": (),
}
LEAVES = {
  "add_a_modality": "run/summary.json",
  "own_data": "own/sheet.png",
  "quickstart": "run/report/index.html",
}


def read(path):
  return nbformat.read(path, as_version=4)


def code_of(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_each_is_tested():
  assert [path.stem for path in PATHS] == sorted(SETTINGS)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_valid_and_holds_no_outputs(path):
  notebook = read(path)
  nbformat.validate(notebook)
  assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
  for cell in code_of(notebook):
    assert not cell.outputs
    assert cell.execution_count is None


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_request_is_about_its_sample_whose_lens_is_told(path):
  for cell in code_of(read(path)):
    for node in ast.walk(ast.parse(cell.source)):
      name = getattr(getattr(node, "func", None), "attr", "")
      assert name != "request" or len(node.args) == 2, ast.unparse(node)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_cells_are_short_and_each_is_introduced(path):
  cells = read(path).cells
  assert cells[0].cell_type == "markdown"
  for before, cell in itertools.pairwise(cells):
    if cell.cell_type == "code":
      assert before.cell_type == "markdown", cell.source
      lines = cell.source.splitlines()
      assert len(lines) <= LINES and max(map(len, lines)) <= 80, cell.source


def test_the_first_cell_is_the_same_everywhere():
  first = {code_of(read(path))[0].source for path in PATHS}
  assert len(first) == 1


def test_where_there_is_no_checkout_the_first_cell_says_what_to_do(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  exec(code_of(read(PATHS[0]))[0].source, {})
  said = capsys.readouterr().out
  assert "put its git address into REPOSITORY" in said
  assert said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_version_that_will_not_do_is_said_and_kept(monkeypatch):
  monkeypatch.syspath_prepend(str(FOLDER))
  import prepare

  asked = prepare.wanted(FOLDER.parent)
  assert {"jax", "numpy", "flax"} <= {each.name for each in asked}
  assert prepare.missing(asked) == [] == prepare.warnings(asked)
  versions = {"jax": "0.4.1", "einops": "0.1", "clu": None}
  real = importlib.metadata.version
  monkeypatch.setattr(
    prepare, "version", lambda name: versions.get(name, real(name))
  )
  needed = sorted(line.partition("<")[0] for line in prepare.missing(asked))
  assert needed == ["clu", "einops"]
  (line,) = prepare.warnings(asked)
  assert line.startswith("warning: jax 0.4.1 is here, the code needs")


@pytest.mark.ci
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
  settings = [f"--config.{setting}" for setting in SETTINGS[path.stem]]
  settings.append(f"--config.data.cache={tmp_path / 'cache'}")
  monkeypatch.setenv("SETTINGS", " ".join(settings))
  monkeypatch.setenv("WORKDIR", str(tmp_path / "run"))
  monkeypatch.setenv("OWN", str(tmp_path / "own"))
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  # One device: batches here are of four.
  monkeypatch.setenv("XLA_FLAGS", compiling.QUICK)
  monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
  notebook = read(path)
  client = nbclient.NotebookClient(
    notebook,
    timeout=900,  # seconds a cell: a machine may be slow and busy
    kernel_name="python3",
    resources={"metadata": {"path": str(FOLDER)}},
  )
  client.execute(env=dict(os.environ))
  if path.stem in LEAVES:
    assert (tmp_path / LEAVES[path.stem]).exists()
  kinds = {
    kind
    for cell in code_of(notebook)
    for output in cell.outputs
    for kind in output.get("data", {})
  }
  assert path.stem == "tour" or "image/png" in kinds
