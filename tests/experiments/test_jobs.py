"""Jobs of an experiment: equal stages are one, and whatever is done stays."""

import dataclasses

import pytest

from configs import paper, paper_rows
from cooper_jax import errors
from cooper_jax.experiments import jobs, run
from cooper_jax.training import json_files, stage_settings
from tests.experiments import fake


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(run, "POLL_S", 0.0)
  monkeypatch.setenv("COOPER_COMMIT", "c0ffee")


def count(made, stage):
  return sum(job.stage == stage for job in made.values())


def test_equal_stages_are_one_job(tmp_path):
  made = jobs.plan(fake.asked(["base", "amg", "cooper", "shuffled"]), tmp_path)
  # base, amg | the traced eight; SFT of each; two rewards; an evaluation a row.
  expected = {"tokenizer": 1, "pretrain": 3, "sft": 3, "grpo": 2, "evaluate": 4}
  assert {stage: count(made, stage) for stage in expected} == expected
  again = jobs.plan(fake.asked(["base"], seeds=[0, 1]), tmp_path)
  assert count(again, "tokenizer") == 2  # a seed is a tokenizer of its own
  names = list(made)
  for job in made.values():
    assert all(names.index(n) < names.index(job.name) for n in job.needs)


def test_rows_run_with_each_stage_made_once(tmp_path):
  made = jobs.plan(fake.asked(["base", "amg", "cooper"]), tmp_path)
  machine = fake.Machine()
  assert run.run(made, at_once=2, begin=machine) == 0
  assert sorted(machine.begun) == sorted(made)
  assert run.run(made, at_once=2, begin=machine) == 0
  assert len(machine.begun) == len(made)  # nothing is made again
  last = jobs.evaluation(made, "cooper", 0)
  assert (last.folder / "sft").is_symlink()
  said = json_files.read_json(last.folder / "summary.json")
  assert {"said/tokenizer", "said/sft", "said/grpo"} <= said.keys()


def test_each_job_is_told_when_it_is_finished(tmp_path):
  """So that nothing is lost of a sweep that is killed later."""
  made, done = jobs.plan(fake.asked(["base"]), tmp_path), []
  run.run(
    made,
    at_once=1,
    begin=fake.Machine(),
    finished=lambda: done.append(len(jobs.to_do(made))),
  )
  assert done == [*range(len(made) - 1, -1, -1)]


def test_a_kill_at_any_job_costs_that_job_alone(tmp_path):
  made = jobs.plan(fake.asked(["base", "cooper"]), tmp_path)

  class Killed(fake.Machine):
    def __call__(self, job, device):
      if self.begun and self.begun[-1] not in seen:
        seen.add(self.begun[-1])
        raise KeyboardInterrupt
      return super().__call__(job, device)

  seen, machine, kills = set(), Killed(), 0
  while True:
    try:
      assert run.run(made, at_once=1, begin=machine) == 0
      break
    except KeyboardInterrupt:
      kills += 1
  assert kills >= len(made) - 1
  assert sorted(machine.begun) == sorted(made)


def test_a_failed_job_holds_up_what_needs_it_and_no_more(tmp_path, capsys):
  made = jobs.plan(fake.asked(["base", "cooper"]), tmp_path)
  broken = jobs.evaluation(made, "cooper", 0).parents["grpo"]
  machine = fake.Machine(fail=[broken])
  assert run.run(made, at_once=1, begin=machine) == 43
  assert jobs.evaluation(made, "base", 0).is_finished()
  assert not jobs.evaluation(made, "cooper", 0).is_finished()
  said = capsys.readouterr().err
  assert "exit code 43: error: the loss is not finite" in said


def test_a_row_that_starts_from_another_gets_its_package(tmp_path):
  made = jobs.plan(fake.asked(["sft_more"]), tmp_path)
  packed = next(job for job in made.values() if job.stage == jobs.PACKAGE)
  more = made[jobs.evaluation(made, "sft_more", 0).parents["sft"]]
  assert packed.name in more.needs
  assert f"--config.init_from={packed.folder}" in more.arguments
  assert made[packed.needs[0]].config.sft.direct_families == paper_rows.UNTRACED
  last = jobs.evaluation(made, "sft_more", 0)
  assert set(last.parents.values()) == {more.name}
  # The same jobs wherever they lie.
  assert list(jobs.plan(fake.asked(["sft_more"]), tmp_path / "b")) == list(made)
  assert run.run(made, at_once=1, begin=fake.Machine()) == 0


def test_a_packaged_start_is_known_by_what_it_holds(tmp_path, monkeypatch):
  asked = jobs.Experiment(fake.PAPER, ("words", "words_more"), (0,))
  made = jobs.plan(asked, tmp_path)
  # What the package stands for is no job: main puts it into the first workdir.
  assert [job.stage for job in made.values()] == [
    *("grpo", "evaluate"), *("sft", "evaluate"),
  ]  # fmt: skip
  last = jobs.evaluation(made, "words", 0)
  assert set(last.parents.values()) == {next(iter(made))}
  assert {"tokenizer", "pretrain", "sft", "grpo"} == last.parents.keys()
  true = jobs.package.read_manifest
  monkeypatch.setattr(
    jobs.package, "read_manifest", lambda f: true(f) | {"sha256": "another"}
  )
  assert not {*made} & {*jobs.plan(asked, tmp_path)}
  # Another name is another start, as main has it.
  by_path = "--config.init_from=cooper_jax/assets/tiny"
  asked = dataclasses.replace(asked, settings=(by_path,))
  monkeypatch.setattr(jobs.package, "read_manifest", true)
  assert not {*made} & {*jobs.plan(asked, tmp_path)}


def test_other_code_is_refused_by_its_commit(tmp_path, monkeypatch):
  made = jobs.plan(fake.asked(["base"]), tmp_path)
  run.run(made, at_once=1, begin=fake.Machine())
  run.check_commits(made, mixed=False)
  monkeypatch.setenv("COOPER_COMMIT", "facade")
  with pytest.raises(errors.UserError, match="commit c0ffee, and this is fac"):
    run.check_commits(made, mixed=False)
  run.check_commits(made, mixed=True)


def test_the_plan_says_minutes(tmp_path):
  made = jobs.plan(fake.asked(["base"]), tmp_path)
  expected = sum(job.minutes for job in made.values())
  assert sum(run.minutes(made).values()) == pytest.approx(expected)
  assert f"about {expected:.0f} min" in run.table(made)
  run.run(made, at_once=1, begin=fake.Machine())
  # Each took half a minute.
  assert sum(run.minutes(made).values()) == pytest.approx(0.5 * len(made))
  assert "to do" not in run.table(made).splitlines()[0]


def test_what_is_left_is_told_in_expected_minutes(tmp_path, monkeypatch):
  made = jobs.plan(fake.asked(["base", "amg"]), tmp_path)
  said = []
  begin = run._Crew.begin_some

  def begun(crew):
    said.append(crew.seconds_left())
    begin(crew)

  monkeypatch.setattr(run._Crew, "begin_some", begun)
  assert run.run(made, at_once=2, begin=fake.Machine()) == 0
  # Three stages of 24 s and an evaluation of 30, one after the other.
  assert said[0] == pytest.approx(102)
  # Jobs of 24 s took 30: so do the last, evaluations of 30, at once.
  assert said[-1] == pytest.approx(37.5, abs=1)


def test_what_is_left_is_no_less_than_the_longest_chain(tmp_path):
  made = jobs.plan(fake.asked(["cooper", "amg"]), tmp_path)
  crew = run._Crew(made, dict(made), 50, fake.Machine(), None)
  chain = [*("tokenizer", "pretrain", "sft", "grpo", "evaluate")]
  smoke = paper.get_config("cooper:smoke")
  longest = 60 * sum(smoke[stage].expected_minutes for stage in chain)
  assert crew.seconds_left() == pytest.approx(longest)
  # What needs a job that failed is not waited for.
  failed = jobs.evaluation(made, "cooper", 0).parents["sft"]
  crew.failed[failed] = 1
  del crew.todo[failed]
  amg = longest - 60 * smoke.grpo.expected_minutes
  assert crew.seconds_left() == pytest.approx(amg)


def test_what_begins_with_a_failed_job_is_not_waited_for(tmp_path):
  made = jobs.plan(fake.asked(["sft_more"]), tmp_path)
  crew = run._Crew(made, dict(made), 1, fake.Machine(), None)
  packed = next(job for job in made.values() if job.stage == jobs.PACKAGE)
  (failed,) = packed.needs
  crew.failed[failed] = 1
  del crew.todo[failed]
  # Its tokenizer and pretraining alone, of 24 s each.
  assert crew.seconds_left() == pytest.approx(48)


def test_a_folder_in_place_of_a_link_is_left_alone(tmp_path):
  made = jobs.plan(fake.asked(["base"]), tmp_path)
  job = jobs.evaluation(made, "base", 0)
  (job.folder / "sft").mkdir(parents=True)
  with pytest.raises(errors.UserError, match="move it away"):
    jobs.prepare(job, made)


@pytest.mark.parametrize("row", [*paper.ROWS, *paper.GROUPS["curve"]])
def test_every_row_of_the_paper_is_a_valid_config(row):
  for small in ("", ":smoke"):
    jobs.command.checks.validate(paper.get_config(row + small))


def test_claim_one_differs_in_maps_alone():
  settings = {
    row: stage_settings.of(paper.get_config(row), "evaluate")
    for row in ("base", "amg", "amg_exchanged")
  }
  for row in ("base", "amg_exchanged"):
    changed = {
      name
      for name in settings["amg"].keys() | settings[row].keys()
      if settings["amg"].get(name) != settings[row].get(name)
    }
    expected = {"base": "map_weight", "amg_exchanged": "exchanged_maps"}[row]
    assert changed == {f"pretrain.{expected}"}


def test_traced_and_untraced_families_are_all_there_are():
  assert len(paper_rows.TRACED) == len(paper_rows.UNTRACED) == 8
  assert {*paper_rows.TRACED} | {*paper_rows.UNTRACED} == {
    *paper_rows.families.names()
  }
