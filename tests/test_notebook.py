"""The quickstart runs from its first cell to its last."""

import os
import pathlib

import nbclient
import nbformat
import pytest

PATH = pathlib.Path(__file__).parent.parent / "notebooks" / "quickstart.ipynb"
# Smaller than smoke: the notebook is tested here, not the stages.
SETTINGS = (
  "tokenizer.steps=2",
  "pretrain.steps=2",
  "sft.steps=2",
  "grpo.steps=1",
  "data.train_scenes=32",
  "data.validation_scenes=8",
  "data.test_scenes=8",
  "evaluate.questions=16",
  "evaluate.batch=8",
)


@pytest.fixture
def notebook():
  return nbformat.read(PATH, as_version=4)


def test_it_is_valid_and_holds_no_outputs(notebook):
  nbformat.validate(notebook)
  assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert not cell.outputs
      assert cell.execution_count is None


def test_it_runs_and_draws(notebook, tmp_path, monkeypatch):
  settings = [f"--config.{setting}" for setting in SETTINGS]
  settings.append(f"--config.data.cache={tmp_path / 'cache'}")
  monkeypatch.setenv("SETTINGS", " ".join(settings))
  monkeypatch.setenv("WORKDIR", str(tmp_path / "run"))
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  monkeypatch.setenv("XLA_FLAGS", "")  # one device: batches here are of four
  monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
  client = nbclient.NotebookClient(
    notebook,
    timeout=900,  # seconds a cell: a machine may be slow and busy
    kernel_name="python3",
    resources={"metadata": {"path": str(PATH.parent)}},
  )
  client.execute(env=dict(os.environ))
  kinds = {
    kind
    for cell in notebook.cells
    for output in cell.get("outputs", ())
    for kind in output.get("data", {})
  }
  assert "image/png" in kinds
  assert (tmp_path / "run" / "report" / "index.html").exists()
