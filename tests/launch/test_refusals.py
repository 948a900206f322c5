"""What the launcher refuses before anything is made, and what it deletes."""

import json
import subprocess
import time

import pytest

from launch import shell
from tests.launch.said import one_error


def labelled(owner, name="demo"):
  """An entry of the list of queued resources."""
  labels = {"cooper-owner": owner, "cooper-accelerator": "v6e-16"}
  node = {"node": {"labels": labels}}
  return {"name": f"projects/p/{name}", "tpu": {"nodeSpec": [node]}}


def test_clean_deletes_only_what_carries_the_label(cloud, launch):
  theirs = {"name": "projects/p/x", "tpu": {"nodeSpec": [{"node": {}}]}}
  cloud.on(
    "queued-resources list",
    out=[labelled("jo", "mine"), labelled("ann", "hers"), theirs],
  )
  cloud.on("delete mine")
  code, out, err = launch("clean", "--backend=qr", "--yes")
  assert code == 0, err
  assert out == "mine (v6e-16, us-east5-b)\n"
  assert cloud.verbs() == ["delete"]


def test_clean_on_compute_engine_takes_groups_whole(cloud, launch):
  labels = {"cooper-owner": "jo", "cooper-accelerator": "v6e-16"}
  labels["cooper-run"] = "mine"
  cloud.on("instances list", out=[{"name": "mine-x1", "labels": labels}])
  template = {"name": "mine", "properties": {"labels": labels}}
  cloud.on("instance-templates list", out=[template, {"name": "other"}])
  cloud.on("delete")
  code, _, err = launch("clean", "--backend=gce", "--yes")
  assert code == 0, err
  assert [call[1] for call in cloud.calls if "delete" in call] == (
    ["instance-groups", "instance-templates", "resource-policies"]
  )


def test_clean_leaves_other_zones_and_goes_on_after_an_error(cloud, launch):
  """A template is of no zone: that of a group elsewhere is not for deletion."""
  labels = {"cooper-owner": "jo", "cooper-accelerator": "v6e-16"}
  there = labels | {"cooper-run": "there", "cooper-zone": "us-east1-d"}
  here = labels | {"cooper-run": "here", "cooper-zone": "us-east5-b"}
  cloud.on("queued-resources list", err="ERROR: (gcloud) API not enabled")
  cloud.on("instances list", out=[])
  templates = [{"properties": {"labels": each}} for each in (there, here)]
  cloud.on("instance-templates list", out=templates).on("delete")
  code, out, err = launch("clean", "--yes")
  assert code == 2 and "API not enabled" in one_error(err)
  assert out == "here (v6e-16, us-east5-b)\n"
  assert len(cloud.verbs()) == 3 and not any("there" in c for c in cloud.calls)


def test_a_secret_in_a_flag_that_is_wrong_is_not_repeated(cloud, launch):
  token = "hf_" + "x" * 30
  code, _, err = launch("create", f"--hf_token={token}")
  assert code == 2 and token not in err and one_error(err)


def test_a_command_that_hangs_is_given_up():
  started = time.monotonic()
  found = shell.Shell().attempt(["sleep", "60"], limit_s=0.2)
  assert time.monotonic() - started < 20
  assert found.code == 124 and shell.is_transient(found.stderr)


def test_clean_asks_first(cloud, launch, monkeypatch):
  cloud.on("queued-resources list", out=[labelled("jo")])
  monkeypatch.setattr("builtins.input", lambda question: "n")
  assert launch("clean", "--backend=qr")[0] == 0
  assert cloud.verbs() == []


BAD = [
  (["create", "demo", "--accelerator=v6e-17"], 'did you mean "v6e-1'),
  (["create", "demo", "--accelerator=h100"], "known: v4-8, v4-16"),
  (["create", "demo"], 'no accelerator ""'),
  (["crate", "demo"], 'did you mean "create"'),
  (["create", "Demo"], 'name is "Demo"'),
  (["create", "demo", "--accelerator=v6e-8", "--zone=mars"], "us-east5-b"),
  (["create", "demo", "--capacity=sport"], 'did you mean "spot"'),
  (["create", "demo", "--slices=two"], "invalid int value"),
  (["create", "demo", "--slices=0"], "allowed: 1 and more"),
  (["create", "demo", "--sclices=2"], "unrecognized arguments"),
  (["create", "demo", "--accelerator=v4-8", "--backend=gce"], "it is on qr"),
  (["create", "demo", "--accelerator=tpu7x-8", "--backend=qr"], "is on gce"),
  (["create", "demo", "--accelerator=v6e-8", "--backend=aws"], "are qr, gce"),
  (
    ["create", "demo", "--accelerator=v6e-8", "--backend=gce", "--slices=2"],
    "needs --backend=qr",
  ),
  (
    ["create", "demo", "--accelerator=v6e-8", "--capacity=flex-start"],
    "needs --max_hours",
  ),
  (
    ["create", "demo", "--accelerator=v5p-8", "--backend=gce"]
    + ["--capacity=reserved"],
    "needs --reservation",
  ),
  (["clean", "demo"], "clean takes no name"),
  (["create", "demo", "--accelerator=v6e-16", "--max_hours=4"], "--max_hours"),
  (
    ["create", "demo", "--accelerator=v6e-8", "--max_hours=169"]
    + ["--capacity=flex-start"],
    "168 at most",
  ),
  (["create", "demo", "--accelerator=v6e-8", "--max_hours=-1"], "0 and more"),
  (
    ["create", "demo", "--accelerator=tpu7x-8", "--valid_hours=2"],
    "--valid_hours is nothing that --backend=gce",
  ),
  (
    ["create", "demo", "--accelerator=v6e-16", "--reservation=ours"],
    "--reservation is nothing",
  ),
  (
    ["run", "demo", "--accelerator=v6e-8", "--zone=us-east5-b"]
    + ["--", "--workdir", "gs://b/demo"],
    "as one word",
  ),
]


@pytest.mark.parametrize(("words", "says"), BAD)
def test_bad_input_is_one_line_and_makes_nothing(words, says, cloud, capsys):
  from launch import tpu

  if not any(word.startswith("--zone") for word in words):
    words = [*words, "--zone=us-east5-b"]
  assert tpu.main(words) == 2
  said = capsys.readouterr()
  assert says in one_error(said.err) and said.out == ""
  assert cloud.calls == []


def test_a_missing_gcloud_is_one_line(cloud, launch, monkeypatch, tmp_path):
  (tmp_path / "git").symlink_to("/usr/bin/git")
  monkeypatch.setenv("PATH", str(tmp_path))
  code, _, err = launch("create")
  assert code == 2 and "gcloud is not on PATH" in one_error(err)


def test_the_stub_refuses_what_no_rule_expects(cloud):
  done = subprocess.run(
    ["gcloud", "compute", "instances", "list"], capture_output=True, check=False
  )
  assert done.returncode == 97
  assert json.loads((cloud.folder / "calls.jsonl").read_text())[-1] == "list"
