"""A cloud made of a script: `gcloud` first on PATH, which plays a scenario."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from launch import babysit, hosts, pod, tpu

# Each rule answers calls whose words hold all of its words, in order of
# appearance and at most `times` times. What no rule expects fails with 97.
# Few imports: it is started some hundred times.
STUB = """#!{python} -SE
import json, sys
here = {folder!r}
line = " ".join(sys.argv[1:])
with open(here + "/calls.jsonl", "a") as calls:
  calls.write(json.dumps(sys.argv[1:]) + "\\n")
with open(here + "/rules.json") as file:
  rules = json.load(file)
for number, rule in enumerate(rules):
  with open(here + "/used-" + str(number), "a") as used:
    if used.tell() >= rule["times"] or not all(
      word in line for word in rule["words"]
    ):
      continue
    used.write("x")
  if rule["seconds"]:
    __import__("time").sleep(rule["seconds"])
  with open(here + "/done", "a") as done:
    done.write(line + "\\n")
  print(rule["out"], end="")
  print(rule["err"], end="", file=sys.stderr)
  sys.exit(rule["code"])
print("ERROR: unexpected call: " + line, file=sys.stderr)
sys.exit(97)
"""
ABSENT = "ERROR: (gcloud) NOT_FOUND: Resource 'demo' was not found"


class Cloud:
  """What the stub will answer, and what it was asked."""

  def __init__(self, folder: Path):
    self.folder, self._rules = folder, []
    self._write()

  def _write(self):
    (self.folder / "rules.json").write_text(json.dumps(self._rules))

  def on(self, *words, out="", err="", code=0, times=10**6, seconds=0):
    """Adds a rule; the first that fits and is not used up answers."""
    if not isinstance(out, str):
      out = json.dumps(out)
    if err and not code:
      code = 1
    self._rules.append(
      dict(words=words, out=out, err=err, code=code, times=times)
      | dict(seconds=seconds)
    )
    self._write()
    return self

  def absent(self, *words, times=10**6):
    """A look-up that finds nothing."""
    return self.on(*words, err=ABSENT, times=times)

  def state(self, state, times=10**6, **detail):
    """What a queued resource says of itself."""
    return self.on(
      "queued-resources describe",
      out={"name": "demo", "state": {"state": state, **detail}},
      times=times,
    )

  def hosts(self, order, *states, times=10**6, count=4):
    """The same answer from each host of v6e-16, one after the other."""
    for state in states:
      lines = [f"cooper: host=h{n} state={state}\n" for n in range(count)]
      self.on(f"boot.sh {order}", out="".join(lines), times=times)
    return self

  @property
  def calls(self):
    path = self.folder / "calls.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]

  def done(self, verb):
    """Whether a call was carried to its end, not cut short."""
    return verb in (self.folder / "done").read_text()

  def verbs(self):
    """In what order things were done: "queued-resources create", "setup"."""
    found = []
    for call in self.calls:
      line = " ".join(call)
      for verb in [
        "create",
        "delete",
        "scp",
        "boot.sh setup",
        "boot.sh start",
      ] + ["boot.sh stop", "boot.sh poll", "boot.sh logs"]:
        if f"{verb} " in f"{line} ":
          found.append(verb.removeprefix("boot.sh "))
          break
    return found


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """The stub, asserted to be the gcloud that a process would find."""
  folder = tmp_path / "stub"
  folder.mkdir()
  stub = folder / "gcloud"
  stub.write_text(STUB.format(python=sys.executable, folder=str(folder)))
  stub.chmod(0o755)
  home = tmp_path / "home"
  home.mkdir()
  monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
  monkeypatch.setenv("HOME", str(home))
  monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "config"))
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  for name in ("CLOUDSDK_COMPUTE_ZONE", "CLOUDSDK_CORE_PROJECT"):
    monkeypatch.delenv(name, raising=False)
  assert shutil.which("gcloud") == str(stub)
  monkeypatch.setattr(pod, "POLL_S", 0.01)
  return Cloud(folder)


@pytest.fixture
def commit(monkeypatch):
  """A commit that is the same in every test."""
  monkeypatch.setattr(hosts, "current_commit", lambda shell: "c0ffee" * 7)
  monkeypatch.setattr(hosts, "uncommitted", lambda shell: 0)
  return "c0ffee" * 7


@pytest.fixture
def launch(capsys):
  """Runs launch/tpu.py in this process: exit code, output, errors."""

  def run(verb, *words, accelerator="v6e-16", zone="us-east5-b"):
    argv = [verb, *([] if verb == "clean" else ["demo"])]
    argv += [f"--accelerator={accelerator}", f"--zone={zone}", "--owner=jo"]
    code = tpu.main([*argv, *words])
    said = capsys.readouterr()
    return code, said.out, said.err

  return run


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
