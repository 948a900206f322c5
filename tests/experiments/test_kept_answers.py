"""Answers that are kept stand for the runs that they are of."""

import gzip
import json
import shutil

import pytest

from cooper_jax import errors, sweep
from cooper_jax.eval import comparison
from cooper_jax.experiments import jobs, kept_answers, results, run
from cooper_jax.training import json_files, provenance
from tests.experiments import fake

ROWS = ["base", "amg", "cooper"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(run, "POLL_S", 0.0)
  monkeypatch.setenv("COOPER_COMMIT", "c0ffee")


@pytest.fixture
def kept(tmp_path):
  """Folder of the answers of ROWS; their runs are gone."""
  made = jobs.plan(fake.asked(ROWS), tmp_path / "gone")
  run.run(made, at_once=1, begin=fake.Machine())
  assert len(kept_answers.keep(made, tmp_path / "kept")) == len(ROWS)
  return tmp_path / "kept"


def test_kept_answers_give_the_same_table(tmp_path, kept):
  asked = fake.asked(ROWS)
  whole = results.collect(asked, jobs.plan(asked, tmp_path / "gone"), [])
  shutil.rmtree(tmp_path / "gone")
  made = jobs.plan(asked, tmp_path / "elsewhere", kept)
  assert jobs.to_do(made) == []
  assert repr(results.collect(asked, made, [])) == repr(whole)
  assert not (tmp_path / "elsewhere").exists()
  assert kept_answers.keep(made, kept) == []


def test_all_fields_are_kept(kept):
  paths = [*kept.rglob("*.jsonl.gz")]
  assert len(paths) >= len(ROWS) and not [*kept.rglob("*.jsonl")]
  for path in paths:
    for text in gzip.decompress(path.read_bytes()).splitlines():
      assert {*json.loads(text)} == {*kept_answers.KEPT_FIELDS}, path
  assert "value" in kept_answers.KEPT_FIELDS


def test_packed_answers_are_those_that_are_not(kept):
  for path in kept.rglob("*.jsonl.gz"):
    folder, stage = path.parents[1], path.name.partition(".")[0]
    packed = comparison.answers(folder, stage)
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    assert comparison.answers(folder, stage) == packed


@pytest.mark.parametrize("broken", [b"", b"no archive", None])
def test_packed_answers_that_are_broken_are_named(kept, broken):
  path = next(kept.rglob("*.jsonl.gz"))
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2] if broken is None else broken)
  with pytest.raises(errors.UserError, match=rf"{path.name}"):
    comparison.answers(path.parents[1], path.name.partition(".")[0])


# With answers of another benchmark, and from what another row trained.
@pytest.mark.parametrize("row", ["words", "sft_more"])
def test_kept_answers_are_found_wherever_they_were_made(tmp_path, row):
  asked = fake.asked([row])
  made = jobs.plan(asked, tmp_path / "gone")
  run.run(made, at_once=1, begin=fake.Machine())
  kept_answers.keep(made, tmp_path / "kept")
  whole = results.collect(asked, made, [])
  shutil.rmtree(tmp_path / "gone")
  made = jobs.plan(asked, tmp_path / "new", tmp_path / "kept")
  assert jobs.to_do(made) == []
  assert repr(results.collect(asked, made, [])) == repr(whole)


def test_only_what_is_missing_is_made(tmp_path, kept):
  made = jobs.plan(fake.asked(["base", "shuffled"]), tmp_path / "new", kept)
  machine = fake.Machine()
  assert run.run(made, at_once=1, begin=machine) == 0
  stages = [made[name].stage for name in machine.begun]
  # Of `shuffled` all, of `base` nothing.
  assert stages == ["tokenizer", "pretrain", "sft", "grpo", "evaluate"]
  assert len(kept_answers.keep(made, kept)) == 1
  # "base" is done; what it was made from is neither done nor to do.
  assert run.table(made).count("done ") == 6


def test_answers_of_other_settings_are_not_taken(tmp_path, kept):
  asked = fake.asked(["base"], settings=("--config.sft.steps=3",))
  made = jobs.plan(asked, tmp_path / "new", kept)
  assert len(jobs.to_do(made)) == len(made)


def test_all_who_worked_at_it_are_named(tmp_path, monkeypatch):
  monkeypatch.setattr(
    provenance, "maker", lambda config: {"commit": provenance.commit()}
  )
  made = jobs.plan(fake.asked(["base"]), tmp_path / "out")
  last = jobs.evaluation(made, "base", 0)
  early = {name: job for name, job in made.items() if name != last.name}
  for job in early.values():  # before the one that evaluates
    jobs.prepare(job, made)
    fake.Machine().make(job)
  run.run(made, at_once=1, begin=fake.Machine(commit="facade"))
  kept_answers.keep(made, tmp_path / "kept")
  made = jobs.plan(fake.asked(["base"]), tmp_path / "new", tmp_path / "kept")
  assert jobs.evaluation(made, "base", 0).commits() == ["c0ffee", "facade"]
  with pytest.raises(errors.UserError, match="commit facade, and this is c0"):
    run.check_commits(made, mixed=False)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, kept):
  made = jobs.plan(fake.asked(ROWS), tmp_path / "out")
  run.run(made, at_once=1, begin=fake.Machine())
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match=r"answers=.* can't be written"):
    kept_answers.keep(made, tmp_path / "file" / "kept")


def test_the_command_reads_them(tmp_path, kept, capsys):
  words = [f"--config={fake.PAPER}:smoke", "--rows=base,amg", "--seeds=0"]
  words += [f"--out={tmp_path}/new", f"--answers={kept}"]
  assert sweep.main(words) == 0
  assert "2 jobs" in capsys.readouterr().out
  assert (tmp_path / "new/table.md").exists()


@pytest.mark.parametrize("inside", [True, False])
def test_no_folder_of_the_machine_goes_into_what_others_are_given(
  tmp_path, monkeypatch, inside
):
  """Of an out folder in the repository, and of one beside it."""
  monkeypatch.setattr(
    provenance, "maker", lambda config: {"command": "", "commit": "c0ffee"}
  )
  asked = fake.asked(["sft_more"])
  made = jobs.plan(asked, tmp_path / "clone" / "out")
  run.run(made, at_once=1, begin=fake.Machine())
  start = next(job for job in made.values() if job.stage == jobs.PACKAGE)
  last = jobs.evaluation(made, "sft_more", 0)
  clone = tmp_path / "clone" if inside else tmp_path / "other"
  for job in (last, made[start.needs[0]]):  # who trained the start, too
    path = job.folder / job.stage / "stage.json"
    record = json_files.read_json(path)
    record["by"][0]["command"] = (
      f"python -m cooper_jax.main --config={clone}/configs/paper.py:amg:smoke"
      f" --config.init_from={start.folder} --config.seed={len(job.name)}"
    )
    json_files.write_json(path, record)
  (tmp_path / "kept" / last.name / "evaluate").mkdir(parents=True)
  plain = tmp_path / "kept" / last.name / "evaluate/sft.jsonl"
  plain.write_text("kept before they were packed")
  kept_answers.keep(made, tmp_path / "kept")
  path = tmp_path / "kept" / last.name / "evaluate/stage.json"
  read = json_files.read_json(path)
  said = "python -m cooper_jax.main --config=configs/paper.py:amg:smoke"
  assert [each["command"] for each in read["by"] if each["command"]] == [
    f"{said} --config.init_from={start.name} --config.seed={len(name)}"
    for name in (start.needs[0], last.name)
  ]
  assert read["settings"]["init_from"] == start.name
  assert str(tmp_path) not in path.read_text()
  assert not plain.exists()


def test_a_config_of_ones_own_is_named_by_its_file():
  said = "python -m cooper_jax.main --config=/home/me/rows.py:base --x=/data"
  assert kept_answers._anywhere(said) == (
    "python -m cooper_jax.main --config=rows.py:base --x=/data"
  )


def test_a_folder_is_the_same_however_it_is_named(tmp_path, kept, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  for named in ("~/kept", "kept"):
    made = jobs.plan(fake.asked(ROWS), tmp_path / "new", named)
    assert jobs.to_do(made) == []
    # What lies there already is not added once more.
    assert kept_answers.keep(made, named) == []
  assert not (tmp_path / "~").exists()
