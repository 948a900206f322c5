"""README, results page and report say the same, from one file of figures."""

import json
import re

import pytest

from cooper_jax.report import claims, readme
from cooper_jax.report.page import write_report
from cooper_jax.training import settings_version
from tests.report import fake_run

README = readme.README.read_text(encoding="utf-8")
RESULTS = readme.RESULTS.read_text(encoding="utf-8")
FIGURES = json.loads(readme.FIGURES.read_text(encoding="utf-8"))


def flat(text):
  return " ".join(text.replace("\u00a0", " ").split())


def test_the_pages_hold_what_the_figures_render():
  # If not: python -m cooper_jax.report.readme WORKDIR, or undo the edit.
  short, whole = readme.eight_lines(FIGURES), readme.block(FIGURES)
  assert short in README and whole in RESULTS
  assert readme.rewritten(README, short) == README
  assert readme.rewritten(RESULTS, whole) == RESULTS


def test_readme_has_eight_lines_of_results_with_their_baselines():
  rows = readme.eight_lines(FIGURES).split("|---|---|---|---|---|\n")[1]
  rows = [line for line in rows.splitlines() if line.startswith("|")]
  assert len(rows) == 8
  summary = FIGURES["summary"]
  for row, key in ((0, "depth/abs_rel"), (1, "segmentation/miou")):
    values = [summary[f"maps/{s}/{key}"] for s in ("sft", "grpo")]
    values.append(summary[f"{key}_constant"])
    assert rows[row].count(" | ") == 4
    assert all(f"{value:.3f}" in rows[row] for value in values)
  assert "38.1 % | 38.6 %" in rows[2]  # constant and blind


def test_every_sentence_about_grpo_stands_in_results_and_report(tmp_path):
  told = [
    line
    for line in claims.claims(FIGURES["summary"])
    if "GRPO" in line and "blind" not in line
  ]
  assert len(told) >= 6
  results = {"summary": FIGURES["summary"], "gallery": []}
  page = write_report(tmp_path, results).read_text(encoding="utf-8")
  for line in told:
    assert flat(line) in flat(RESULTS), line
    assert flat(line) in flat(page).replace("&#x27;", "'"), line


def test_the_row_that_decides_stands_in_both(tmp_path):
  results = {"summary": FIGURES["summary"], "gallery": []}
  page = write_report(tmp_path, results).read_text(encoding="utf-8")
  row = re.search(r"\| \*\*free after GRPO less .*?\*\* \((\w+)\) .*", RESULTS)
  assert row[0].rstrip(" |") in README
  shown = re.search(r"\*\*(\S+) \((\S+) to (\S+)\)\*\*", row[0])
  value, low, high = shown.groups()
  assert FIGURES["summary"][f"qa/beyond/{row[1]}"] == pytest.approx(
    float(value) / 100, abs=6e-4
  )
  there = re.search(
    "Free after GRPO less the best fixed way before.*?</tr>", page
  )
  assert value in there[0] and f"{low} to {high}" in there[0]


def test_a_changed_figure_changes_both_pages():
  other = json.loads(json.dumps(FIGURES))
  other["summary"]["qa/accuracy/grpo"] += 0.01
  assert readme.block(other) not in RESULTS
  assert readme.eight_lines(other) not in README


def test_the_figures_name_the_command_of_their_run():
  found = json.loads(readme.FIGURES.read_text(encoding="utf-8"))
  found["run"]["command"] = "python -m cooper_jax.main --config=other.py"
  text = flat(readme.block(found))
  assert "A run of `python -m cooper_jax.main --config=other.py`," in text


def test_figures_are_of_a_run_and_of_no_place_on_a_machine():
  text = readme.FIGURES.read_text(encoding="utf-8")
  assert readme.as_text(FIGURES) == text
  assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", FIGURES["run"]["commit"])
  assert not re.search(r'(?<=[" =])/\w', text)  # an absolute path


@pytest.fixture
def copies(tmp_path, monkeypatch):
  """The pages and figures that may be written."""
  monkeypatch.setattr(readme, "README", tmp_path / "README.md")
  monkeypatch.setattr(readme, "FIGURES", tmp_path / "docs" / "d.json")
  monkeypatch.setattr(readme, "RESULTS", tmp_path / "results.md")
  (tmp_path / "README.md").write_text(README, encoding="utf-8")
  (tmp_path / "results.md").write_text(RESULTS, encoding="utf-8")
  return tmp_path


def run_of(folder):
  """A workdir as an evaluation leaves it."""
  summary = fake_run.summary() | {"qa/questions": 60, "qa/images": 30}
  ways = {
    "adaptive": fake_run.hits(60, gained=20, right=30),
    "depth": fake_run.hits(60, lost=2, right=50),
    "text": fake_run.hits(60, lost=1, right=31),
  }
  fake_run.write_answers(folder, ways)
  (folder / "summary.json").write_text(json.dumps(summary))
  (folder / "grpo").mkdir()
  by = [{"command": "python", "commit": "c0ffee" * 7, "machine": "a cpu"}]
  record = {"digest": "", "finished": True, "settings": {}, "by": by}
  record["version"] = settings_version.SETTINGS_VERSION
  (folder / "grpo" / "stage.json").write_text(json.dumps(record))


def test_one_command_writes_it_and_says_what_changed(copies, capsys):
  (copies / "run").mkdir()
  run_of(copies / "run")
  assert readme.main([str(copies / "run")]) == 0
  said = capsys.readouterr().out
  assert "+33.3 points (paired" in said and "-- Left to choose" in said
  found = json.loads(readme.FIGURES.read_text())
  assert found["run"]["commit"] == "c0ffee" * 7
  # What stands around the blocks is left as it is.
  start, end = readme.BEGIN, readme.END
  for path, was, made in (
    (readme.README, README, readme.eight_lines(found)),
    (readme.RESULTS, RESULTS, readme.block(found)),
  ):
    text = path.read_text(encoding="utf-8")
    assert made in text
    assert text.partition(start)[0] == was.partition(start)[0]
    assert text.partition(end)[2] == was.partition(end)[2]
  assert readme.main([str(copies / "run")]) == 0
  assert "say this already" in capsys.readouterr().out


def no_answers(folder):
  (folder / "run" / "evaluate" / "grpo.jsonl").unlink()


def no_summary(folder):
  (folder / "run" / "summary.json").unlink()


def no_marks(folder):
  (folder / "README.md").write_text("# other\n")


def no_marks_in_results(folder):
  (folder / "results.md").write_text("# other\n")


@pytest.mark.parametrize(
  "damage", [no_answers, no_summary, no_marks, no_marks_in_results]
)
def test_what_can_not_be_written_is_refused_and_nothing_changes(
  copies, capsys, damage
):
  (copies / "run").mkdir()
  run_of(copies / "run")
  damage(copies)
  before = readme.README.read_text(encoding="utf-8")
  assert readme.main([str(copies / "run")]) == 2
  assert capsys.readouterr().err.startswith("error: ")
  assert readme.README.read_text(encoding="utf-8") == before
  assert not readme.FIGURES.exists()
