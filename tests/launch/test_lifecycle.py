"""The verbs against a cloud that answers: what is made, and what is left."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import babysit, hosts, shell
from tests.launch.said import one_error

ROOT = Path(__file__).parent.parent.parent
RUN = ["--", "--config=configs/grpo.py", "--workdir=gs://bucket/runs/demo"]
QUOTA = "ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota limit 'TPUV6E' exceeded"
DENIED = "ERROR: (gcloud) PERMISSION_DENIED: may not create nodes"


@pytest.fixture
def hurry(monkeypatch):
  """Nothing is waited for or packed."""
  archive = Path("cooper-c0ffee.tar.gz")
  monkeypatch.setattr(hosts, "pack", lambda shell, commit: archive)
  for name in ("POLL_S", "SETTLE_S", "FIRST_PAUSE_S"):
    monkeypatch.setattr(babysit, name, 0.001)


@pytest.fixture
def free(cloud):
  """The name is free when it is first looked for."""
  return cloud.absent("queued-resources describe", times=1).absent(
    "tpu-vm describe"
  )


def test_create_waits_and_says_how_it_stands(free, commit, launch):
  free.on("create").state("WAITING_FOR_RESOURCES", times=2)
  free.state("PROVISIONING", times=1).state("ACTIVE")
  code, _, err = launch("create")
  assert code == 0
  states = re.findall(r"^ +\d+\.\d min  (\w+)$", err, re.M)
  assert states == ["waiting_for_resources", "provisioning", "active"]
  assert free.verbs() == ["create"]


@pytest.mark.parametrize("found", ["queued-resources describe", "tpu-vm desc"])
def test_a_name_in_use_is_refused_before_anything_is_made(
  found, cloud, commit, launch
):
  cloud.on(found, out={"name": "demo"}, times=1)
  cloud.absent("describe")
  code, _, err = launch("create")
  assert code == 2 and '"demo" is in use' in one_error(err)
  assert cloud.verbs() == []


@pytest.mark.parametrize("error", [QUOTA, DENIED])
def test_create_that_is_refused_is_one_line_and_deletes_nothing(
  error, free, commit, launch
):
  free.on("create", err=error)
  code, _, err = launch("create")
  assert code == 2 and error.split(": ")[-1] in one_error(err)
  # What was refused is not ours; it may be another's by now.
  assert free.verbs() == ["create"]


def test_create_that_fails_later_leaves_nothing(free, commit, launch):
  reason = {"failedData": {"error": {"message": "the zone is closed"}}}
  free.on("create").state("FAILED", **reason).on("delete")
  code, _, err = launch("create")
  assert code == 2 and "the zone is closed" in one_error(err)
  assert free.verbs() == ["create", "delete"]


def test_keep_leaves_it(free, commit, launch):
  free.on("create").state("FAILED")
  assert launch("create", "--keep")[0] == 2
  assert free.verbs() == ["create"]


def test_a_group_half_made_is_unmade_in_reverse(cloud, commit, launch):
  cloud.absent("describe").on("resource-policies create")
  cloud.on("instance-templates create").on("managed create", err=DENIED)
  cloud.on("delete")
  code, _, err = launch("create", "--backend=gce")
  assert code == 2 and "may not create" in one_error(err)
  deleted = [call[1:3] for call in cloud.calls if "delete" in call]
  # The group was refused, so there is none.
  assert deleted == [
    ["instance-templates", "delete"],
    ["resource-policies", "delete"],
  ]


def test_a_deletion_that_fails_says_what_is_still_there(cloud, launch):
  cloud.on("managed delete", err="ERROR: (gcloud) in use").on("delete")
  code, _, err = launch("delete", "--backend=gce")
  assert code == 2
  assert "not deleted, do it by hand: gcloud compute instance-groups" in err
  assert len(cloud.calls) == 3  # the others were deleted none the less


DELETIONS = {
  "qr": [
    "compute tpus queued-resources delete demo --force --zone=us-east5-b"
    " --quiet"
  ],
  "gce": [
    "compute instance-groups managed delete demo --zone=us-east5-b --quiet",
    "compute instance-templates delete demo --quiet",
    "compute resource-policies delete demo --region=us-east5 --quiet",
  ],
}


@pytest.mark.parametrize("api", DELETIONS)
def test_delete_takes_all_and_minds_nothing_that_is_gone(api, cloud, launch):
  cloud.absent("delete")
  code, _, err = launch("delete", f"--backend={api}")
  assert code == 0, err
  assert [" ".join(call) for call in cloud.calls] == DELETIONS[api]


@pytest.mark.parametrize(
  ("text", "passes"),
  [
    ("There is no more capacity in the zone; try again later", True),
    ("ZONE_RESOURCE_POOL_EXHAUSTED", True),
    ("HTTPError 503: backend error", True),
    ("Connection reset by peer", True),
    ("Quota 'TPU' exceeded, there is no capacity; try again later", False),
    ("PERMISSION_DENIED", False),
    ("Invalid value for field: zone", False),
  ],
)
def test_errors_that_pass_are_told_from_those_to_mend(text, passes):
  assert shell.is_transient(text) is passes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_creation_is_released(number, free):
  """A real process, interrupted while it waits for machines."""
  free.on("create").state("WAITING_FOR_RESOURCES").on("delete", seconds=0.3)
  process = subprocess.Popen(
    [sys.executable, "-m", "launch.tpu", "create", "demo"]
    + ["--accelerator=v6e-16", "--zone=us-east5-b"],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  wait_for(lambda: len(free.calls) >= 4)
  os.killpg(process.pid, number)  # as a terminal does: to its children, too
  wait_for(lambda: free.verbs()[-1] == "delete")
  os.killpg(process.pid, signal.SIGINT)  # a second one does not cut it short
  said = process.communicate(timeout=20)[1]
  assert process.returncode == 130, said
  assert free.verbs() == ["create", "delete"] and free.done(" delete ")
  assert "Traceback" not in said


def wait_for(ready, seconds=20):
  """Waits until something has happened in another process."""
  end = time.monotonic() + seconds
  while not ready():
    assert time.monotonic() < end, "it did not happen"
    time.sleep(0.02)


def test_setup_ships_the_commit_to_all_hosts(cloud, launch):
  cloud.on("scp").hosts("setup", "ready")
  assert launch("setup")[0] == 0
  copy = next(call for call in cloud.calls if "scp" in call)
  assert "--worker=all" in copy
  archive = Path(next(word for word in copy if word.endswith(".tar.gz")))
  listed = subprocess.run(
    ["tar", "-tzf", archive], capture_output=True, text=True, check=True
  )
  names = listed.stdout.splitlines()
  assert "launch/boot.sh" in names and "cooper_jax/main.py" in names
  assert not [name for name in names if name.startswith((".git/", "runs/"))]


def test_setup_that_misses_a_host_fails(cloud, commit, launch, hurry):
  cloud.on("scp").hosts("setup", "ready", count=3)
  code, _, err = launch("setup")
  assert code == 2 and "set up on 3 of 4 hosts" in one_error(err)


def test_start_that_misses_a_host_names_the_reason(cloud, launch):
  lines = "".join(f"cooper: host=h{n} state=running\n" for n in range(3))
  cloud.hosts("poll", "idle")
  cloud.on("start", out=lines, err="error: h3: disk full\n", code=1)
  code, _, err = launch("run", *RUN)
  assert code == 2
  assert "started on 3 of 4 hosts: h3: disk full" in one_error(err)


def test_a_second_run_is_refused(cloud, launch):
  cloud.hosts("poll", "running")
  code, _, err = launch("run", *RUN)
  assert code == 2 and "is running already" in one_error(err)
  assert "start" not in cloud.verbs()


def test_status_shows_each_host(cloud, launch):
  cloud.state("ACTIVE").hosts("poll", "ended exit=43 progress=sft:20,")
  code, out, _ = launch("status")
  assert code == 0
  assert out.splitlines()[0] == "demo: active"
  assert "  h3: ended, exit code 43 sft:20," in out


@pytest.mark.parametrize(
  ("words", "node", "worker"),
  [
    ([], None, "0"),
    (["--worker=all"], None, "all"),
    # Of 2 slices with 4 hosts each, the sixth is the second of the second.
    (["--worker=5", "--slices=2"], "1", "1"),
    (["--worker=all", "--slices=2"], "all", "all"),
  ],
)
def test_logs_of_one_worker_or_all(words, node, worker, cloud, launch):
  cloud.on("boot.sh logs 100")
  assert launch("logs", *words)[0] == 0
  (call,) = cloud.calls
  assert f"--worker={worker}" in call
  assert [w for w in call if w.startswith("--node=")] == (
    [f"--node={node}"] if node else []
  )


def test_stop_reaches_all_workers(cloud, launch):
  cloud.hosts("stop", "ended exit=75")
  assert launch("stop")[0] == 0
  assert "--worker=all" in cloud.calls[0]


def test_stop_that_misses_a_host_fails(cloud, launch):
  cloud.hosts("stop", "ended exit=75", count=3)
  code, _, err = launch("stop")
  assert code == 2 and "stopped on 3 of 4 hosts" in one_error(err)


def test_hosts_that_ssh_does_not_reach_yet_are_tried_again(
  cloud, commit, launch, hurry
):
  cloud.on("scp", err="ERROR: Connection refused", times=2).on("scp")
  cloud.hosts("setup", "ready")
  code, _, err = launch("setup")
  assert code == 0 and err.count("Connection refused") == 2


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
  assert did == (once + ["templates delete", "policies delete"]) * 2


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
  cloud.state("ACTIVE").hosts("poll", "ended exit=0").on("delete")
  code, _, err = launch("babysit", *RUN)
  assert code == 2 and "is in use" in one_error(err)
  assert "delete" not in cloud.verbs()
  code, _, err = launch("babysit", "--adopt", *RUN)
  assert code == 0, err
  assert "start" not in cloud.verbs() and cloud.verbs()[-1] == "delete"


@pytest.mark.parametrize("workdir", [[], ["--workdir=runs/demo"]])
def test_babysit_refuses_a_workdir_that_goes_with_the_machines(
  workdir, cloud, launch
):
  code, _, err = launch("babysit", "--", "--config=configs/grpo.py", *workdir)
  assert code == 2 and "--workdir=gs://" in one_error(err)
  assert cloud.calls == []


def test_the_cloud_may_be_out_of_reach_for_a_while(free, commit, launch):
  free.on("create").on("describe", err="ERROR: Connection reset", times=2)
  free.state("ACTIVE")
  code, _, err = launch("create")
  assert code == 0 and err.count("Connection reset") == 2
