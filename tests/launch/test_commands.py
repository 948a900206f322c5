"""Every command that is sent: golden, free of secrets, known to gcloud."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cooper_jax.parallel import chips
from launch import catalog, hosts, tpu
from launch.backends import BACKENDS
from launch.request import Request

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOLDEN = HERE / "golden.txt"
CATALOG = HERE / "catalog.txt"
KINDS = list(catalog.ACCELERATORS.values())
CASES = re.findall(r"^\$ (.*)$", GOLDEN.read_text(), re.M)
# Looked up before the stub is on PATH.
REAL_GCLOUD = shutil.which("gcloud")


@pytest.fixture
def plan(cloud, commit, capsys, monkeypatch):
  """The output of a plan, the same on every machine; no call is made."""
  monkeypatch.setattr(hosts, "ROOT", Path("."))
  monkeypatch.setenv("XDG_CACHE_HOME", "/cache")

  def make(line):
    assert tpu.main(["plan", "--owner=jo", *shlex.split(line)]) == 0
    assert cloud.calls == []
    return capsys.readouterr().out

  return make


def commands(text):
  """The gcloud commands of a plan, as lists of words."""
  lines = [line for line in text.splitlines() if line.startswith("gcloud")]
  return [shlex.split(line) for line in lines]


def golden(line):
  """What the golden file has below a case."""
  return GOLDEN.read_text().split(f"$ {line}\n")[1].split("\n$ ")[0]


@pytest.mark.parametrize("line", CASES)
def test_plan_is_golden(plan, line):
  got, wanted = plan(line).strip(), golden(line).strip()
  if os.environ.get("COOPER_GOLDEN") == "write":  # then read the diff
    GOLDEN.write_text(GOLDEN.read_text().replace(wanted, got))
  assert got == wanted


def test_golden_cases_cover_both_apis_and_all_capacities():
  text = "\n".join(CASES)
  for word in ("gce", "qr", "spot", "reserved", "flex-start", "slices=2"):
    assert word in text
  for prefix in ("v4", "v5litepod", "v5p", "v6e", "tpu7x"):
    assert re.search(rf"accelerator={prefix}-", text)


def table():
  """The catalog as one line each."""
  for kind in catalog.ACCELERATORS.values():
    generation = kind.generation
    asked = {
      "qr": generation.runtime_version,
      "gce": f"{kind.machine_type} {generation.image_family}",
    }
    apis = "; ".join(f"{name}: {asked[name]}" for name in kind.backends)
    yield (
      f"{kind.name}: {kind.chips} chips, {kind.hosts} hosts,"
      f" {kind.devices} devices, {kind.topology}; {apis}"
    )


def test_catalog_is_golden():
  assert list(table()) == CATALOG.read_text().splitlines()


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_catalog_adds_up(kind):
  sides = [int(side) for side in kind.shape.split("x")]
  product = sides[0] * sides[1] * (sides[2] if len(sides) > 2 else 1)
  assert product == kind.chips
  # A host of a slice has four chips; the only larger one has eight alone.
  assert kind.chips == 4 * kind.hosts or (kind.hosts, kind.chips) in (
    (1, 1),
    (1, 8),
  )
  number = int(kind.name.rpartition("-")[2])
  counts_cores = kind.name.startswith(("v4", "v5p", "tpu7x"))
  assert number == kind.chips * (2 if counts_cores else 1)
  assert kind.devices == kind.chips * (2 if "tpu7x" in kind.name else 1)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_catalog_agrees_with_the_planner(kind):
  """The same slices as --plan and --compile_only of cooper_jax.main have."""
  known = chips.find_slice(kind.topology)
  assert (known.chips, known.devices) == (kind.chips, kind.devices)
  request = Request("demo", kind, "us-east5-b", slices=2)
  assert chips.find_slice(request.topology).chips == 2 * kind.chips


def test_known_sizes():
  # v5p-128 is 64 chips on 16 hosts, v6e-16 four hosts (vendor's tables).
  pod = catalog.find("v5p-128")
  assert (pod.chips, pod.hosts, pod.topology) == (64, 16, "v5p:4x4x4")
  assert catalog.find("v6e-16").hosts == 4
  assert catalog.find("tpu7x-16").devices == 16
  assert catalog.find("V5E-16") is catalog.find("v5litepod-16")


@pytest.mark.parametrize("line", CASES)
def test_dry_run_prints_no_secret(plan, line, monkeypatch, tmp_path):
  monkeypatch.setenv("HF_TOKEN", "hf_thisisnotforanyoneelse")
  text = plan(line.replace(" -- ", " --secret=HF_TOKEN=hf-token -- ", 1))
  assert "--secret=HF_TOKEN=hf-token" in text
  assert "hf_this" not in text
  written = [path for path in tmp_path.rglob("*") if path.is_file()]
  assert written  # the stub and its rules
  assert not [p for p in written if b"hf_this" in p.read_bytes()]


@pytest.mark.parametrize(
  "words",
  [
    ["--", "--config.note=hf_thisisnotforanyoneelse"],
    ["--", "--config.note=x-secret-of-mine-x"],
    ["--secret=HF_TOKEN=hf_thisisnotforanyoneelse"],
    ["--secret=hf_thisisnotforanyoneelse"],
  ],
)
def test_a_secret_on_the_command_line_is_refused_unrepeated(
  cloud, launch, words, monkeypatch
):
  monkeypatch.setenv("MY_API_KEY", "x-secret-of-mine-x")
  code, out, err = launch("plan", *words)
  assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
  assert "hf_this" not in out + err and "mine" not in out + err
  assert cloud.calls == []


def test_only_names_of_secrets_reach_gcloud(cloud, commit, launch, monkeypatch):
  monkeypatch.setenv("HF_TOKEN", "hf_thisisnotforanyoneelse")
  cloud.hosts("poll", "idle").hosts("start", "running")
  assert launch("run", "--secret=HF_TOKEN=hf-token", "--", "--x=1")[0] == 0
  assert "HF_TOKEN=hf-token" in str(cloud.calls)
  assert "hf_this" not in str(cloud.calls)


AWKWARD = ["a b", "$HOME", "`id`", "it's", '"', "two\nlines", "\\", "*", ""]


@pytest.mark.parametrize("api", ["qr", "gce"])
def test_arguments_reach_the_host_unmangled(
  api, cloud, commit, launch, tmp_path
):
  """The --command of ssh, run by a shell as the host's would."""
  if api == "gce":
    instance = {"instance": "z/demo-1", "instanceStatus": "RUNNING"}
    cloud.on("list-instances", out=[instance] * 4)
  cloud.hosts("poll", "idle", count=4).hosts("start", "running", count=4)
  code, _, err = launch("run", f"--backend={api}", "--", *AWKWARD)
  assert code == 0, err
  start = next(c for c in cloud.calls if "boot.sh start" in " ".join(c))
  command = next(word for word in start if word.startswith("--command="))
  # In place of boot.sh, something that keeps its arguments.
  script = tmp_path / "cooper" / "current" / "launch" / "boot.sh"
  script.parent.mkdir(parents=True)
  script.write_text('for word; do printf "%s\\0" "$word"; done >got\n')
  subprocess.run(
    ["bash", "-c", command.removeprefix("--command=")],
    cwd=tmp_path,
    check=True,
  )
  got = (tmp_path / "got").read_text().split("\0")[:-1]
  assert got == ["start", "--", *AWKWARD]


def test_one_place_starts_processes():
  users = [
    path.name
    for path in (ROOT / "launch").glob("*.py")
    if re.search(r"subprocess|os\.(system|popen|exec|spawn)", path.read_text())
  ]
  assert users == ["shell.py"]


def test_the_launcher_needs_no_packages():
  """A laptop without JAX can launch: site-packages are switched off."""
  done = subprocess.run(
    [sys.executable, "-S", "-m", "launch.tpu", "plan", "demo"]
    + ["--accelerator=v6e-16", "--zone=us-east5-b"],
    cwd=ROOT,
    env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "chips: 16, hosts: 4, JAX devices: 16" in done.stdout
  assert "topology: v6e:4x4" in done.stdout
  assert "price sheet" in done.stdout


@pytest.mark.ci
@pytest.mark.skipif(REAL_GCLOUD is None, reason="no gcloud is installed")
def test_gcloud_itself_accepts_every_command(plan, tmp_path):
  """Its own parser, which runs nothing and needs no account or network."""
  shown = [plan(line) for line in CASES]
  shown += [dry_run(["clean"]), dry_run(["status", "demo"])]
  shown += [dry_run(["delete", "demo", f"--backend={b}"]) for b in BACKENDS]
  seen = {}
  for words in commands("\n".join(shown)):
    # Its tokenizer can't take quotes within quotes; ssh reads that part.
    plain = ["--command=X" if "--command=" in w else w for w in words]
    seen[form_of(plain)] = " ".join(plain)
  # Looking up, making and deleting 5 things, ssh and scp by 3 ways, 4 lists.
  assert len(seen) >= 5 * 3 + 2 * 3 + 4
  bad = "gcloud compute instances list --no-such-flag"
  listed = [{"command_string": each} for each in [*seen.values(), bad]]
  (tmp_path / "commands.json").write_text(json.dumps(listed))
  done = subprocess.run(
    [REAL_GCLOUD, "meta", "lint-gcloud-commands"]
    + [f"--commands-file={tmp_path / 'commands.json'}"],
    capture_output=True,
    text=True,
    check=False,
    timeout=120,
  )
  found = {each["command_string"]: each for each in json.loads(done.stdout)}
  assert not found.pop(bad)["success"]  # it does look
  wrong = [e["error_message"] for e in found.values() if not e["success"]]
  assert wrong == []
  assert len(found) == len(seen)


def form_of(words):
  """What the parser would tell apart; hosts and most values are alike."""
  parts = [re.sub(r"-\d:?$", ":", word) for word in words]
  plain = re.compile(r"--(zone|project|quiet|format|labels|[a-z-]*duration)\b")
  return " ".join(part for part in parts if not plain.match(part))


def dry_run(words):
  """Output of a verb that only prints."""
  done = subprocess.run(
    [sys.executable, "-m", "launch.tpu", *words, "--accelerator=v6e-16"]
    + ["--dry_run", "--zone=us-east5-b", "--yes"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout
