"""The page of a run can be written again from what the run left."""

import json

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.report import kept
from cooper_jax.report.__main__ import main, rewrite
from cooper_jax.report.page import write_report
from cooper_jax.training.settings_version import SETTINGS_VERSION
from tests.report import fake_run

CONFIG = {"variant": "tiny", "version": SETTINGS_VERSION}


@pytest.fixture
def workdir(tmp_path):
  folder = tmp_path / "demo"
  fake_run.write_metrics(folder)
  (folder / "config.json").write_text(json.dumps(CONFIG))
  summary = fake_run.summary()
  (folder / "summary.json").write_text(json.dumps(summary))
  rows = [fake_run.row(i) for i in range(4)]
  write_report(folder, {"summary": summary, "gallery": rows})
  return folder


def test_the_page_is_the_same_again(workdir, capsys):
  path = workdir / "report/index.html"
  before = path.read_text("utf-8")
  path.unlink()
  assert main([f"--workdir={workdir}"]) == 0
  assert path.read_text("utf-8") == before
  assert capsys.readouterr().out == f"report: {path}\n"


def test_new_figures_are_on_the_new_page(workdir):
  path = workdir / "summary.json"
  summary = json.loads(path.read_text())
  summary["depth/abs_rel"] = 0.98765
  path.write_text(json.dumps(summary))
  page = rewrite(workdir).read_text("utf-8")
  assert "0.988" in page or ".9877" in page or "98.8" in page


def test_a_run_that_kept_no_gallery_has_a_page_all_the_same(workdir, capsys):
  (workdir / "report" / kept.GALLERY_FILE).unlink()
  assert main([f"--workdir={workdir}"]) == 0
  assert "kept no gallery" in capsys.readouterr().out


def test_rows_come_back_as_they_were(tmp_path):
  rows = [{"map": np.arange(6, dtype=np.float32).reshape(2, 3), "none": None}]
  rows[0] |= {"hit": np.bool_(True), "deep": {"depth": np.zeros(2, np.uint8)}}
  kept.save(tmp_path, rows, {"date": "today"})
  found = kept.load(tmp_path)
  (row,) = found["rows"]
  np.testing.assert_array_equal(row["map"], rows[0]["map"])
  assert row["map"].dtype == np.float32 and row["none"] is None
  assert row["hit"] is True and row["deep"]["depth"].dtype == np.uint8
  assert found["about"] == {"date": "today"}


def test_a_folder_without_a_run_and_a_damaged_file_are_one_line(
  workdir, tmp_path
):
  with pytest.raises(UserError, match="no run in"):
    rewrite(tmp_path / "none")
  (workdir / "report" / kept.GALLERY_FILE).write_bytes(b"\x82\xa4")
  with pytest.raises(UserError, match="can't be read"):
    rewrite(workdir)
  (workdir / "summary.json").unlink()
  with pytest.raises(UserError, match=r"has no summary\.json"):
    rewrite(workdir)
