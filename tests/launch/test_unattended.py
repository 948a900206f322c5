"""Babysitting against a cloud that answers: again, until done or given up."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.said import DENIED, QUOTA, RUN, one_error, wait_for

ROOT = Path(__file__).parent.parent.parent


def test_babysit_makes_runs_and_deletes(cloud, launch, hurry):
  # Whether the name is free, whether it is there, and again in the loop.
  cloud.absent("tpu-vm describe").absent("queued-resources desc", times=3)
  cloud.on("create").state("ACTIVE").on("scp").on("delete")
  cloud.hosts("setup", "ready").hosts("start", "running")
  cloud.hosts("poll", "idle", "running progress=sft:20,", times=1)
  cloud.hosts("poll", "ended exit=0 progress=sft:finished,")
  code, _, err = launch("babysit", *RUN)
  assert code == 0, err
  assert cloud.verbs() == (
    ["create", "scp", "setup", "poll", "start", "poll", "poll", "delete"]
  )


def test_babysit_survives_a_preemption(cloud, launch, hurry):
  cloud.absent("tpu-vm describe").absent("queued-resources desc", times=3)
  # Waited for, seen up, seen up; then taken away, and the same again.
  cloud.state("ACTIVE", times=3).state("SUSPENDED", times=1).state("ACTIVE")
  cloud.on("create").on("scp").on("delete").hosts("setup", "ready")
  cloud.hosts("start", "running").hosts("poll", "idle", times=1)
  cloud.hosts("poll", "running progress=sft:20,", times=1)
  cloud.hosts("poll", "idle", times=1)
  cloud.hosts("poll", "ended exit=0 progress=sft:finished,")
  code, _, err = launch("babysit", *RUN)
  assert code == 0, err
  steps = [verb for verb in cloud.verbs() if verb not in ("poll", "scp")]
  assert steps == (
    ["create", "setup", "start", "delete", "create", "setup", "start"]
    + ["delete"]
  )
  assert "machines suspended" in err


def test_babysit_stops_at_a_bad_config_and_shows_all_logs(cloud, launch, hurry):
  cloud.absent("tpu-vm describe").absent("queued-resources desc", times=3)
  cloud.state("ACTIVE").on("create").on("scp").on("delete")
  cloud.hosts("setup", "ready").hosts("start", "running")
  cloud.hosts("poll", "idle", times=1).hosts("poll", "ended exit=2")
  cloud.on("boot.sh stop").on("boot.sh logs 40")
  code, _, err = launch("babysit", *RUN)
  assert code == 2 and "giving up: exit code 2, bad config" in err
  assert cloud.verbs().count("start") == 1
  assert cloud.verbs()[-2:] == ["logs", "delete"]


def test_babysit_stops_at_once_without_quota(cloud, launch, hurry):
  cloud.absent("describe").on("create", err=QUOTA)
  code, _, err = launch("babysit", *RUN)
  assert code == 2 and "Quota" in one_error(err)
  assert cloud.verbs() == ["create"]


def test_babysit_waits_for_capacity_with_nothing_half_made(
  cloud, launch, hurry
):
  """A group that is refused for now takes its template and policy along."""
  cloud.on("resource-policies create").on("instance-templates create")
  cloud.on("managed create", err="ERROR: (gcloud) no capacity", times=1)
  cloud.absent("describe").absent("list-instances", times=3).on("delete")
  cloud.on("managed create", err=DENIED)
  code, _, err = launch("babysit", "--backend=gce", *RUN)
  assert code == 2 and "may not create nodes" in one_error(err)
  did = [
    f"{call[1].partition('-')[2]} {verb}"
    for call in cloud.calls
    for verb in ("create", "delete")
    if verb in call
  ]
  once = ["policies create", "templates create", "groups create"]
  undo = ["groups delete", "templates delete", "policies delete"]
  # What may pass may also have been done: then nothing is taken for unmade.
  assert did == once + undo + undo + once + undo[1:]


def test_babysit_interrupted_saves_and_deletes(cloud):
  cloud.absent("tpu-vm describe").absent("queued-resources desc", times=3)
  cloud.state("ACTIVE").on("create").on("scp").on("delete")
  cloud.hosts("setup", "ready").hosts("start", "running")
  cloud.hosts("poll", "idle", times=1).hosts("poll", "running")
  cloud.on("boot.sh stop")
  process = subprocess.Popen(
    [sys.executable, "-m", "launch.tpu", "babysit", "demo", *["--zone=a-b1-c"]]
    + ["--accelerator=v6e-16", *RUN],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
  )
  wait_for(lambda: cloud.verbs()[-2:] == ["start", "poll"])
  process.send_signal(signal.SIGINT)
  said = process.communicate(timeout=20)[1]
  assert process.returncode == 130, said
  assert cloud.verbs()[-2:] == ["stop", "delete"]


def test_babysit_adopts_only_when_asked(cloud, launch, hurry):
  cloud.state("ACTIVE").on("delete")
  cloud.hosts("poll", "running", times=1).hosts("poll", "ended exit=0")
  code, _, err = launch("babysit", *RUN)
  assert code == 2 and "is in use" in one_error(err)
  assert "delete" not in cloud.verbs()
  code, _, err = launch("babysit", "--adopt", *RUN)
  assert code == 0, err
  assert "start" not in cloud.verbs() and cloud.verbs()[-1] == "delete"


@pytest.mark.parametrize("old", [0, 2])
def test_a_run_that_ended_before_is_no_answer_for_one_that_is_adopted(
  old, cloud, launch, hurry
):
  cloud.state("ACTIVE").hosts("poll", f"ended exit={old}", times=2)
  cloud.on("scp").hosts("setup", "ready").hosts("start", "running")
  cloud.hosts("poll", "ended exit=0").on("delete")
  code, _, err = launch("babysit", "--adopt", *RUN)
  assert code == 0, err
  assert [v for v in cloud.verbs() if v != "poll"] == (
    ["scp", "setup", "start", "delete"]
  )


@pytest.mark.parametrize("workdir", [[], ["--workdir=runs/demo"]])
def test_babysit_refuses_a_workdir_that_goes_with_the_machines(
  workdir, cloud, launch
):
  code, _, err = launch("babysit", "--", "--config=configs/grpo.py", *workdir)
  assert code == 2 and "--workdir=gs://" in one_error(err)
  assert cloud.calls == []
