"""The scripts on the hosts: run here, in a home of their own, without a TPU."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Stands for every Python of a host: makes environments out of itself, notes
# what it is asked, and plays the program as the file `play` says.
PYTHON = """#!/usr/bin/env bash
here={folder}
printf '%s\\n' "$*" >>"$here/calls"
case "$*" in
"-c import sys; sys.exit"*) exit 0 ;;
"-m venv"*)
  sleep 0.3
  mkdir -p "${{@: -1}}/bin"
  cp "$0" "${{@: -1}}/bin/python" ;;
*"jax.default_backend"*) cat "$here/backend" ;;
*cooper_jax.main*)
  printf '%s\\0' "${{@:3}}" >"$here/arguments"
  env >"$here/environment"
  source "$here/play" ;;
esac
"""
# Real cooper_jax.main saves and exits with 75 when it is asked to stop.
WAITS = "trap 'exit 75' TERM; echo working; while :; do sleep 0.05; done"


class Host:
  """A machine with a home folder, a Python that plays, and the scripts."""

  def __init__(self, folder):
    self.folder, self.home = folder, folder / "home"
    self.cooper = self.home / "cooper"
    self.root = self.cooper / "c0ffee"
    shutil.copytree(ROOT / "launch", self.root / "launch")
    shutil.copy(ROOT / "requirements.txt", self.root)
    (folder / "bin").mkdir()
    self.script("python", PYTHON.format(folder=folder))
    self.script("sudo", "#!/bin/sh\nexit 1\n")
    (folder / "backend").write_text("")
    self.play("exit 0")

  def script(self, name, text):
    path = self.folder / "bin" / name
    path.write_text(text)
    path.chmod(0o755)

  def play(self, text):
    """What the program does when it is run."""
    (self.folder / "play").write_text(text)

  def read(self, name):
    return (self.folder / name).read_text()

  def boot(self, *words, **more):
    """Runs boot.sh as ssh would: exit code and all that it said."""
    path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"HOME": str(self.home), "PATH": path}
    environment |= {"PYTHON": str(self.folder / "bin" / "python")}
    environment |= {"LIBTPU_LOCK": str(self.folder / "lock")}
    folder = self.root if words[0] == "setup" else self.cooper / "current"
    ssh = subprocess.Popen(
      ["bash", folder / "launch" / "boot.sh", *words],
      cwd=self.home,
      env=environment | more,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      start_new_session=True,
    )
    said = ssh.communicate(timeout=30)[0]
    # The connection is closed, which ends what still belongs to it.
    with contextlib.suppress(ProcessLookupError):
      os.killpg(ssh.pid, signal.SIGHUP)
    return ssh.returncode, said

  def start(self, *words):
    code, said = self.boot("start", *words)
    assert code == 0, said
    return said

  def wait(self, state):
    """Polls until the run is in a state; gives the line."""
    for _ in range(200):
      said = self.boot("poll")[1]
      if f"state={state}" in said:
        return said
      time.sleep(0.05)
    raise AssertionError(f"never {state}: {said}")

  def log(self):
    return (self.cooper / "run" / "log").read_text()


@pytest.fixture
def host(tmp_path):
  """A host that is set up; nothing is left running on it."""
  made = Host(tmp_path)
  code, said = made.boot("setup")
  assert code == 0 and "state=ready" in said, said
  yield made
  made.boot("stop", COOPER_PATIENCE="0")
  if "state=running" in made.boot("poll")[1]:  # what is tested is broken
    os.kill(int((made.cooper / "run" / "pid").read_text()), signal.SIGKILL)


def test_setup_installs_the_pinned_versions_once(host):
  calls = host.read("calls")
  assert calls.count("-m venv") == 1 and calls.count("-m pip install") == 1
  assert "-r " + str(host.root / "launch" / "pinned.txt") in calls
  (host.cooper / "venv" / "kept").touch()
  assert host.boot("setup")[0] == 0
  calls = host.read("calls")
  assert calls.count("-m venv") == 1 and calls.count("-m pip install") == 1
  assert (host.cooper / "venv" / "kept").exists()
  assert (host.cooper / "current").resolve() == host.root


def test_two_that_share_a_disk_make_one_environment(host):
  """Nodes of a cluster begin at once; the second takes what the first made."""
  shutil.rmtree(host.cooper / "venv")
  before = host.read("calls").count("-m venv")
  with ThreadPoolExecutor(2) as pool:
    ends = list(pool.map(lambda _: host.boot("setup")[0], range(2)))
  assert ends == [0, 0]
  assert host.read("calls").count("-m venv") == before + 1


def test_setup_fails_where_jax_sees_no_tpu(host):
  # The check itself, by a real Python with a JAX that finds something else.
  (host.folder / "jax.py").write_text(
    "__version__ = '0'\ndefault_backend = lambda: 'cpu'\n"
  )
  body = (host.root / "launch" / "boot.sh").read_text()
  check = body.split("-c '\n")[1].split("'\n")[0]
  done = subprocess.run(
    [sys.executable, "-c", check],
    env={"PYTHONPATH": str(host.folder), "COOPER_PLATFORM": "tpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr == "error: JAX found cpu, expected tpu\n"


def test_setup_ends_where_the_check_fails(host):
  (host.cooper / "current").unlink()
  host.script("timeout", "#!/bin/sh\necho 'error: JAX found cpu' >&2; exit 1")
  code, said = host.boot("setup")
  assert code == 1 and "state=ready" not in said
  assert not (host.cooper / "current").exists()


@pytest.mark.parametrize("code", [0, 2, 43, 75])
def test_the_exit_code_is_kept(host, code):
  host.play(f"echo said; exit {code}")
  host.start("--", "--config=x.py")
  assert f"state=ended exit={code}" in host.wait("ended")
  assert "said" in host.log() and f"exit code {code}" in host.log()
  assert "commit c0ffee\n" in host.log()
  assert host.boot("logs", "5")[1].count("said") == 1


def test_an_abort_is_told_from_an_exit(host):
  host.play("kill -ABRT $$")
  host.start("--")
  assert "exit=134" in host.wait("ended")


def test_the_program_gets_its_arguments_and_a_place_in_the_slice(host):
  words = ["a b", "$HOME", "it's", "two\nlines", "", "*", "--secret=A=b"]
  host.start("--", *words)
  host.wait("ended")
  assert host.read("arguments").split("\0")[:-1] == words
  environment = host.read("environment").splitlines()
  assert "COOPER_DISTRIBUTED=1" in environment
  assert f"PYTHONPATH={host.root}" in environment
  assert f"COOPER_COMMIT={host.root.name}" in environment


def test_a_run_outlives_the_call_and_a_second_one_is_refused(host):
  host.play(WAITS)
  assert "state=running" in host.start("--")
  code, said = host.boot("start", "--")
  assert code == 2 and "a run lives" in said and said.count("\n") == 1
  code, said = host.boot("setup")
  assert code == 2 and "a run lives" in said
  assert "state=running" in host.boot("poll")[1]


def test_a_new_run_forgets_the_last(host):
  host.start("--")
  host.wait("ended")
  host.play(WAITS)
  assert "state=running" in host.start("--")
  assert not (host.cooper / "run" / "exit-code").exists()


def test_stop_lets_it_save(host):
  host.play(WAITS)
  host.start("--")
  assert "state=ended exit=75" in host.boot("stop")[1]
  assert "state=ended exit=75" in host.boot("stop")[1]  # and again


def test_stop_ends_what_does_not_listen(host):
  host.play("trap '' TERM; while :; do sleep 0.05; done")
  host.start("--")
  assert "exit=137" in host.boot("stop", COOPER_PATIENCE="1")[1]


def test_a_machine_that_goes_down_reaches_the_program(host):
  """SIGTERM to all that runs: the supervisor stays to keep the exit code."""
  host.play(WAITS)
  host.start("--")
  pid = int((host.cooper / "run" / "pid").read_text())
  parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ")[1].split()[1])
  os.kill(parent, signal.SIGTERM)
  assert "exit=75" in host.wait("ended")


def test_a_restarted_host_says_that_its_run_is_lost(host):
  host.start("--")
  host.wait("ended")
  (host.cooper / "run" / "exit-code").unlink()
  # The number now belongs to another process: this one.
  (host.cooper / "run" / "pid").write_text(f"{os.getpid()}\n")
  assert "state=lost" in host.boot("poll")[1]
  host.boot("stop")  # must not end it


def test_secrets_are_only_in_the_program(host):
  host.script(
    "gcloud",
    "#!/bin/sh\n"
    'test "$*" = "secrets versions access latest --secret=hf-token" || exit 1\n'
    "echo hf_forthisprogramonly\n",
  )
  host.play("sleep 0.3")
  said = host.start("--secret=HF_TOKEN=hf-token", "--", "--x")
  lines = [
    Path(f"/proc/{pid}/cmdline").read_bytes()
    for pid in os.listdir("/proc")
    if pid.isdigit() and Path(f"/proc/{pid}/cmdline").exists()
  ]
  assert not any(b"hf_forthis" in line for line in lines)
  host.wait("ended")
  assert "HF_TOKEN=hf_forthisprogramonly" in host.read("environment")
  kept = [path for path in host.cooper.rglob("*") if path.is_file()]
  assert len(kept) > 5
  assert not [path for path in kept if b"hf_forthis" in path.read_bytes()]
  assert "hf_forthis" not in said


def test_a_secret_that_may_not_be_read_starts_nothing(host):
  host.script("gcloud", "#!/bin/sh\nexit 1\n")
  code, said = host.boot("start", "--secret=HF_TOKEN=hf-token", "--")
  assert code == 2 and "secretAccessor" in said
  assert not (host.folder / "arguments").exists()


def test_a_bucket_is_mounted_once_and_logs_go_there(host):
  mounted = host.folder / "mounted"
  host.script("mountpoint", f"#!/bin/sh\ntest -e {mounted}\n")
  host.script("gcsfuse", f'#!/bin/sh\necho "$@" >>{mounted}\n')
  folder = host.cooper / "gs" / "bucket" / "runs" / "demo"
  host.play(f"mkdir -p {folder}/sft/checkpoints/20; echo said")
  for _ in range(2):
    host.start("--", "--workdir=gs://bucket/runs/demo")
    host.wait("ended")
  assert mounted.read_text() == (
    f"--implicit-dirs bucket {host.cooper}/gs/bucket\n"
  )
  assert host.read("arguments") == f"--workdir={folder}\0"
  assert "progress=sft:20," in host.boot("poll")[1]
  assert len(list((folder / "logs").glob("*.log"))) == 2


def test_progress_is_the_newest_whole_checkpoint_of_each_stage(host):
  work = host.folder / "work"
  for step in ("9", "100", "120.orbax-checkpoint-tmp", "110.corrupt"):
    (work / "grpo" / "checkpoints" / step).mkdir(parents=True)
  (work / "sft" / "checkpoints" / "40").mkdir(parents=True)
  (work / "sft" / "stage.json").write_text('{\n  "finished": true\n}')
  host.start("--", f"--workdir={work}")
  said = host.wait("ended")
  assert said.split("progress=")[1] == "grpo:100,sft:finished,\n"


def test_a_lock_is_only_removed_when_nobody_holds_it(host):
  lock = host.folder / "lock"
  lock.touch()
  with lock.open() as held:
    fcntl.flock(held, fcntl.LOCK_EX)
    code, said = host.boot("start", "--")
    assert code == 2 and f"process {os.getpid()} holds the TPU" in said
    assert lock.exists()
  with lock.open():  # open without a lock on it: held all the same
    assert host.boot("start", "--")[0] == 2 and lock.exists()
  host.start("--")
  assert not lock.exists()


def gpu(host, **environment):
  """Runs gpu.sh: exit code and what it said."""
  path = f"{host.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
  done = subprocess.run(
    ["bash", host.root / "launch" / "gpu.sh", "--config=x.py"],
    env={"PATH": path, "HOME": str(host.home)}
    | {"PYTHON": str(host.folder / "bin" / "python")}
    | environment,
    capture_output=True,
    text=True,
    check=False,
  )
  return done.returncode, done.stderr


def driver(host, version):
  host.script("nvidia-smi", f"#!/bin/sh\necho '| CUDA Version: {version}  |'\n")


@pytest.mark.parametrize(("version", "cuda"), [("12.8", 12), ("13.1", 13)])
def test_gpu_installs_what_the_driver_supports(host, version, cuda):
  driver(host, version)
  assert gpu(host)[0] == 0
  requirements = host.root / "launch" / f"cuda{cuda}.txt"
  assert f"-r {requirements}" in host.read("calls")
  assert host.read("arguments") == "--config=x.py\0"
  assert "COOPER_" not in host.read("environment")


def test_several_gpu_nodes_are_told_apart(host):
  driver(host, "13.0")
  given = {"COOPER_COORDINATOR": "node0:9000", "COOPER_PROCESSES": "2"}
  assert gpu(host, **given, COOPER_PROCESS="1")[0] == 0
  environment = host.read("environment").splitlines()
  for name, value in {**given, "COOPER_PROCESS": "1"}.items():
    assert f"{name}={value}" in environment


def test_slurm_says_which_node_this_is(host):
  driver(host, "13.0")
  host.script("scontrol", "#!/bin/sh\nprintf 'n7\\nn8\\n'\n")
  slurm = {"SLURM_NNODES": "2", "SLURM_NODEID": "1"}
  slurm |= {"SLURM_JOB_NODELIST": "n[7-8]", "SLURM_JOB_ID": "20005"}
  assert gpu(host, **slurm)[0] == 0
  environment = host.read("environment").splitlines()
  assert "COOPER_COORDINATOR=n7:20005" in environment
  assert "COOPER_PROCESSES=2" in environment
  assert "COOPER_PROCESS=1" in environment


@pytest.mark.parametrize(
  ("given", "says"),
  [
    ({"COOPER_PROCESSES": "2"}, "set all of"),
    (dict(COOPER_PROCESS="2", COOPER_COORDINATOR="n:1"), "is 2 of 2"),
    (dict(COOPER_PROCESS="x", COOPER_COORDINATOR="n:1"), "is x of 2"),
    (dict(COOPER_PROCESS="0", COOPER_COORDINATOR="n"), "HOST:PORT"),
    ({"CUDA": "11"}, "allowed: 12, 13"),
  ],
)
def test_gpu_refuses_half_a_cluster(host, given, says):
  driver(host, "13.0")
  if "COOPER_PROCESS" in given:
    given = given | {"COOPER_PROCESSES": "2"}
  code, said = gpu(host, **given)
  assert code == 2 and says in said and said.count("\n") == 1
  assert not (host.folder / "arguments").exists()


def test_gpu_without_a_driver_is_one_line(host):
  code, said = gpu(host, PATH=f"{host.folder / 'bin'}:/usr/bin:/bin")
  assert shutil.which("nvidia-smi", path="/usr/bin:/bin") is None
  assert code == 2 and "no NVIDIA driver here" in said
