"""One run at a time has a workdir, and a run that died has none."""

import errno
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from cooper_jax import command, main
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes
from cooper_jax.plan import table
from cooper_jax.training import lock

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = "--config=configs/grpo.py:smoke"
HOLD = """
import os, sys, time
from cooper_jax.training import lock
with lock.held(sys.argv[1]):
  if "fork" in sys.argv:
    child = os.fork()
    if not child:
      time.sleep(60)
      os._exit(0)
    print(child, flush=True)
  print("held", flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
  """Starts processes that hold the folder `work` until they are ended."""
  started = []

  def start(*more):
    child = subprocess.Popen(
      [sys.executable, "-c", HOLD, str(tmp_path / "work"), *more],
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    started.append(child)
    return child

  yield start
  for child in started:
    child.kill()
    child.communicate()


def says_who(text, child):
  return (
    f"process {child.pid} on {socket.gethostname()}, started "
    f"{time.strftime('%Y-%m-%d')}" in text
  )


def test_a_second_run_is_told_whose_the_workdir_is(holder, tmp_path, capsys):
  child, work = holder(), tmp_path / "work"
  assert child.stdout.readline() == "held\n"
  before = sorted(path.name for path in work.iterdir())
  assert main.main([SMOKE, f"--workdir={work}"]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert says_who(error, child) and "another --workdir" in error
  assert sorted(path.name for path in work.iterdir()) == before
  with pytest.raises(UserError, match="is in use"), lock.held(work):
    pass


def test_a_run_that_was_killed_holds_nothing(holder, tmp_path):
  child, work = holder(), tmp_path / "work"
  assert child.stdout.readline() == "held\n"
  child.send_signal(signal.SIGKILL)
  child.wait()
  assert json.loads((work / lock.LOCK_FILE).read_text())["pid"] == child.pid
  lock.check(work)
  with lock.held(work):
    said = json.loads((work / lock.LOCK_FILE).read_text())
    assert said["pid"] == os.getpid()


def test_a_child_that_outlives_a_run_does_not_hold_its_lock(holder, tmp_path):
  child = holder("fork")
  orphan = int(child.stdout.readline())
  assert child.stdout.readline() == "held\n"
  child.send_signal(signal.SIGKILL)
  child.wait()
  try:
    os.kill(orphan, 0)  # it is there
    with lock.held(tmp_path / "work"):
      pass
  finally:
    os.kill(orphan, signal.SIGKILL)


@pytest.mark.parametrize("error", [None, UserError, KeyboardInterrupt])
def test_the_lock_is_let_go_however_a_run_ends(tmp_path, error):
  try:
    with lock.held(tmp_path):
      lock_is_held = pytest.raises(UserError, match="is in use")
      with lock_is_held:
        lock.check(tmp_path)
      if error:
        raise error("over")
  except (UserError, KeyboardInterrupt):
    pass
  assert json.loads((tmp_path / lock.LOCK_FILE).read_text()) == {}
  with lock.held(tmp_path):
    pass


def test_of_several_processes_the_first_locks(tmp_path, monkeypatch):
  with lock.held(tmp_path):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    lock.check(tmp_path)
    with lock.held(tmp_path):
      pass


def test_a_plan_neither_locks_nor_waits(holder, tmp_path, monkeypatch):
  child, work = holder(), tmp_path / "work"
  assert child.stdout.readline() == "held\n"
  asked = []
  monkeypatch.setattr(table, "run", asked.append)
  assert main.main([SMOKE, f"--workdir={work}", "--plan"]) == 0
  assert isinstance(asked[0], command.Command)


def left(folder, **said):
  """The file that a run left: of another machine, unless it says."""
  said = {"pid": 1, "host": "far", "start": "then", "machine": "far b"} | said
  text = json.dumps({"beat": 3} | said)
  (folder / lock.LOCK_FILE).write_text(text.ljust(lock.SIZE))


@pytest.fixture(params=["locks", "no locks"])
def files(request, monkeypatch):
  """A file system that does not pass locks on, and one that has none."""
  monkeypatch.setattr(lock, "DEAD_AFTER", 0.6)
  if request.param == "no locks":

    def none(*_):
      raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(lock.fcntl, "flock", none)


@pytest.mark.usefixtures("files")
def test_a_run_of_another_machine_that_lives_is_respected(tmp_path):
  left(tmp_path)
  over = threading.Event()

  def live():
    beat = 3
    while not over.wait(0.05):
      beat += 1
      left(tmp_path, beat=beat)

  other = threading.Thread(target=live)
  other.start()
  try:
    with (
      pytest.raises(UserError, match="process 1 on far, started then"),
      lock.held(tmp_path),
    ):
      pass
  finally:
    over.set()
    other.join()


@pytest.mark.usefixtures("files")
def test_a_run_of_another_machine_that_is_silent_is_dead(tmp_path, capsys):
  left(tmp_path)
  with lock.held(tmp_path):
    assert "whether it still runs" in capsys.readouterr().out
    said = json.loads((tmp_path / lock.LOCK_FILE).read_text())
    assert said["pid"] == os.getpid()


@pytest.mark.usefixtures("files")
def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path, capsys):
  ended = subprocess.Popen([sys.executable, "-c", ""])
  ended.wait()
  here = {"machine": lock._machine(), "host": socket.gethostname()}
  left(tmp_path, pid=ended.pid, **here)
  with lock.held(tmp_path):
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", "\x00\xff"])
def test_a_damaged_file_locks_nobody_out(tmp_path, text):
  (tmp_path / lock.LOCK_FILE).write_text(text)
  with lock.held(tmp_path):
    pass


def test_a_run_gives_signs_of_life(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "BEAT", 0.02)
  with lock.held(tmp_path):
    until = time.monotonic() + 10
    while time.monotonic() < until:
      if json.loads((tmp_path / lock.LOCK_FILE).read_text())["beat"] > 2:
        return
      time.sleep(0.02)
  raise AssertionError("the number does not grow")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOLCK])
def test_a_file_system_whose_locks_fail_is_told_by_what_the_file_says(
  tmp_path, monkeypatch, number
):
  def fails(file, how):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(lock.fcntl, "flock", fails)
  monkeypatch.setattr(lock, "BEAT", 0.02)
  monkeypatch.setattr(lock, "DEAD_AFTER", 2.0)
  with (
    lock.held(tmp_path),
    pytest.raises(UserError, match="in use by another run"),
    lock.held(tmp_path),
  ):
    pass


def test_a_container_that_starts_again_does_not_wait(tmp_path, capsys):
  left(tmp_path, host="former", machine=lock._machine())
  with lock.held(tmp_path):
    assert "looking for up to" not in capsys.readouterr().out
