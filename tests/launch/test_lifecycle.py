"""The verbs against a cloud that answers: what is made, and what is left."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch import shell, tpu
from tests.launch.said import (
  DENIED,
  IN_USE,
  QUOTA,
  RUN,
  STOCKOUT,
  one_error,
  wait_for,
)

ROOT = Path(__file__).parent.parent.parent


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
  cloud.on("managed delete", err=DENIED).on("delete")
  code, _, err = launch("delete", "--backend=gce")
  assert code == 2
  assert "not deleted, do it by hand: gcloud compute instance-groups" in err
  assert len(cloud.calls) == 3  # the others were deleted none the less


def test_a_deletion_is_tried_until_it_can_be_done(cloud, launch):
  cloud.on("managed delete", err="ERROR: (gcloud) HTTP 503", times=2)
  cloud.on("instance-templates delete", err=IN_USE, times=3).on("delete")
  code, _, err = launch("delete", "--backend=gce")
  assert code == 0, err
  assert len(cloud.calls) == 3 + 4 + 1


def test_a_creation_whose_answer_is_lost_is_deleted(free, commit, launch):
  """It may have been made all the same, and would go on costing."""
  free.on("create", err="ERROR: (gcloud) The read operation timed out")
  free.on("delete")
  code, _, err = launch("create")
  assert code == 2 and "timed out" in one_error(err)
  assert free.verbs() == ["create", "delete"]


def test_nobody_has_to_read_for_it_to_be_deleted(cloud, monkeypatch):
  """Ctrl-C ends a `2>&1 | tee log`, too."""

  class Closed:
    def write(self, text):
      raise BrokenPipeError

    flush = None

  monkeypatch.setattr(sys, "stderr", Closed())
  cloud.on("delete")
  argv = ["delete", "demo", "--accelerator=v6e-16", "--zone=us-east5-b"]
  assert tpu.main(argv) == 0
  assert cloud.verbs() == ["delete"]


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
    (STOCKOUT, True),
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


def test_a_host_that_can_t_be_made_is_told(cloud, commit, launch):
  """The group goes on trying, also where that will never help."""
  cloud.absent("describe").on("create").on("delete")
  error = {"errors": {"errors": [{"message": "Quota 'TPUV6E' exceeded."}]}}
  one = {"instance": "zones/z/demo-x1", "lastAttempt": error}
  cloud.on("list-instances", out=[one] * 4)
  code, _, err = launch("create", "--backend=gce")
  assert code == 2 and "Quota 'TPUV6E' exceeded" in one_error(err)
  assert cloud.verbs()[-3:] == ["delete"] * 3


def test_the_cloud_may_be_out_of_reach_for_a_while(free, commit, launch):
  free.on("create").on("describe", err="ERROR: Connection reset", times=2)
  free.state("ACTIVE")
  code, _, err = launch("create")
  assert code == 0 and err.count("Connection reset") == 2
