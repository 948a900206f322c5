"""A stop that is asked at a bad moment is still a stop: 75, nothing damaged."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from cooper_jax import command, main
from cooper_jax.errors import Preempted, UserError
from cooper_jax.runtime import interrupt
from cooper_jax.training.checkpoint import Checkpoints
from tests import stopped

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Two checkpoints, so that a damaged one would have a stand-in."""
  checkpoints = Checkpoints(tmp_path_factory.mktemp("saved") / "checkpoints")
  for step in (1, 2):
    checkpoints.save(step, stopped.STATE, data_state={}, meta={})
  checkpoints.close()
  return checkpoints.directory


@pytest.mark.ci
@pytest.mark.parametrize(
  ("what", "name"),
  [("restore", "SIGTERM"), ("restore", "SIGINT"), ("save", "SIGTERM")],
)
def test_a_stop_in_the_middle_of_a_checkpoint_is_75(saved, what, name):
  waits = ["0", "5", "20", "50"] * 2
  done = subprocess.run(
    [sys.executable, "-m", "tests.stopped", str(saved), what, name, *waits],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    timeout=240,
    capture_output=True,
    text=True,
    check=False,
  )
  tries = [f"{what} {name} {wait} ms: 75" for wait in waits]
  assert done.stdout.splitlines() == tries, done.stderr
  assert "damaged" not in done.stderr and "Traceback" not in done.stderr
  assert done.stderr.count("the same command goes on") == len(waits)
  # Nothing was set aside, and what is there is whole.
  assert all(path.name.isdigit() for path in saved.iterdir())
  assert Checkpoints(saved).restore(stopped.STATE) is not None


def run(monkeypatch, work):
  """`main` around a piece of work: its exit code."""
  monkeypatch.setattr(command, "parse", lambda argv: argv)
  monkeypatch.setattr(main, "run", lambda asked: work())
  return main.main([])


def term():
  signal.raise_signal(signal.SIGTERM)


def test_what_others_make_of_a_stop_stays_a_stop(monkeypatch, capsys):
  def wrap():
    try:
      term()
    except BaseException as error:
      raise UserError("the file is damaged") from error

  assert run(monkeypatch, wrap) == 75
  assert "damaged" not in capsys.readouterr().err


def test_a_stop_is_no_exception_that_is_caught_for_another(monkeypatch):
  def catch():
    with contextlib.suppress(Exception):
      term()
    raise AssertionError("went on")

  assert run(monkeypatch, catch) == 75


def test_a_stop_that_was_dropped_ends_the_next_loop_or_read(monkeypatch):
  def drop():
    with contextlib.suppress(BaseException):
      term()
    with interrupt.StopRequest("toy") as stop:
      assert stop.made(1)
    with interrupt.held():
      pass
    raise AssertionError("went on")

  assert run(monkeypatch, drop) == 75


class Thing:
  """What is collected where a stop comes."""


class Deleted:
  def __init__(self, action):
    self.action = action

  def __del__(self):
    self.action()


def in_a_callback(action):
  thing = Thing()
  reference = weakref.ref(thing, lambda _: action())
  del thing
  assert reference() is None


def in_a_del(action):
  Deleted(action)


@pytest.mark.parametrize("drop", [in_a_callback, in_a_del])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_python_drops_is_raised_again_and_nothing_printed(
  monkeypatch, capfd, drop, times, number
):
  went = []

  def work():
    drop(lambda: signal.raise_signal(number))
    went.append("on")  # it was dropped indeed
    for _ in range(times - 1):  # and once more, when it is raised again
      drop(lambda: time.sleep(60))
      went.append("on")
    time.sleep(60)
    went.append("to the end")

  assert run(monkeypatch, work) == 75
  assert went == ["on"] * times
  said = capfd.readouterr().err
  assert said.splitlines() == [interrupt.GOES_ON]


def test_a_stop_is_raised_again_however_long_the_hook_takes(monkeypatch, capfd):
  start = threading.Thread.start

  def slow_start(thread):
    start(thread)
    time.sleep(20 * interrupt.SOON_S)  # as on a busy machine

  monkeypatch.setattr(threading.Thread, "start", slow_start)

  def work():
    in_a_callback(term)
    time.sleep(10)

  assert run(monkeypatch, work) == 75
  assert capfd.readouterr().err.splitlines() == [interrupt.GOES_ON]


def test_a_dropped_stop_lets_a_checkpoint_end(monkeypatch, capfd):
  after = []

  def work():
    in_a_del(term)
    with interrupt.held():
      time.sleep(20 * interrupt.SOON_S)  # it is raised again in here
      after.append("whole")
    raise AssertionError("went on")

  assert run(monkeypatch, work) == 75
  assert after == ["whole"]
  assert capfd.readouterr().err.splitlines() == [interrupt.GOES_ON]


def test_other_exceptions_that_python_drops_are_still_told(monkeypatch):
  told = []
  monkeypatch.setattr(sys, "unraisablehook", told.append)
  hook = sys.unraisablehook

  def work():
    in_a_del(lambda: 1 / 0)

  assert run(monkeypatch, work) == 0
  assert len(told) == 1
  assert sys.unraisablehook is hook


def test_a_stop_in_the_last_step_ends_the_run_before_the_next_stage(
  monkeypatch,
):
  went = []

  def stages():
    with interrupt.StopRequest("toy"):
      term()
    went.append("first")  # it is saved as any other
    interrupt.check()
    went.append("second")

  assert run(monkeypatch, stages) == 75
  assert went == ["first"]


def test_a_second_ctrl_c_does_not_wait(monkeypatch):
  after = []

  def read():
    with interrupt.held():
      signal.raise_signal(signal.SIGINT)
      after.append("first")
      signal.raise_signal(signal.SIGINT)
      after.append("second")

  assert run(monkeypatch, read) == 75
  assert after == ["first"]


def test_a_second_sigterm_still_lets_the_checkpoint_end(monkeypatch):
  after = []

  def read():
    with interrupt.held():
      term()
      term()
      after.append("whole")

  assert run(monkeypatch, read) == 75
  assert after == ["whole"]


def test_without_main_a_stop_is_left_to_who_called():
  with interrupt.held():
    pass
  interrupt.check()
  with pytest.raises(KeyboardInterrupt) as caught, interrupt.held():
    signal.raise_signal(signal.SIGINT)
  assert not isinstance(caught.value, Preempted)


def test_the_handlers_are_put_back(monkeypatch):
  numbers = (signal.SIGINT, signal.SIGTERM)
  before = [signal.getsignal(number) for number in numbers]
  assert run(monkeypatch, term) == 75
  assert [signal.getsignal(number) for number in numbers] == before
  assert run(monkeypatch, lambda: None) == 0  # nothing of it is left
