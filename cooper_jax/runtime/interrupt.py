"""Interrupts: Ctrl-C and SIGTERM stop a run, and nothing done is lost."""

import contextlib
import itertools
import signal
import sys
import threading
import time

from cooper_jax.errors import Preempted


def _distributed() -> bool:
  # Looked up only where jax is loaded already: importing it takes seconds.
  jax = sys.modules.get("jax")
  return jax is not None and jax.distributed.is_initialized()


SOON_S = 0.005  # from a stop that Python dropped until it is raised again
GOES_ON = "stopped; the same command goes on from what is saved"


class _Noted:
  """What `terminable` knows: there are no two of it in a process."""

  catching = False  # whether signals come here
  held = 0  # blocks that end first
  asked = False  # by a signal that may not have ended the run yet
  number = 0  # of that signal
  repeated = False  # the next signal is `_repeat`'s, not a person's
  dropping = False  # in the hook: what is raised now is dropped, too


def _stop(number, frame):
  del frame
  if _Noted.dropping:
    return  # `_repeat` raises
  if _Noted.repeated:
    _Noted.repeated = False
    if _Noted.held:
      return  # `held` raises at its end
    raise Preempted(GOES_ON)
  again = _Noted.asked and number == signal.SIGINT
  _Noted.asked, _Noted.number = True, number
  if not _Noted.held or again:
    raise Preempted(GOES_ON)
  print(
    f"\n{signal.Signals(number).name} received, stopping once this checkpoint"
    " is done (Ctrl-C again stops at once)",
    file=sys.stderr,
    flush=True,
  )


def _unraisable(otherwise):
  """`sys.unraisablehook` that raises a dropped stop again, and prints nothing.

  Python drops what is raised in a callback of a weak reference (importlib has
  one for every module) and in a `__del__`; a signal may come there, too.
  """

  def hook(dropped):
    if not isinstance(dropped.exc_value, Preempted):
      otherwise(dropped)
      return
    # Later and from elsewhere: what is raised here would be dropped again.
    _Noted.dropping = True
    try:
      threading.Thread(target=_repeat, daemon=True).start()
    finally:
      _Noted.dropping = False

  return hook


def _repeat():
  time.sleep(SOON_S)
  while _Noted.dropping:  # it waits for this thread to have begun
    time.sleep(SOON_S)
  # A training loop has a handler of its own, and sees `asked` at its next step.
  if _Noted.catching and signal.getsignal(_Noted.number) is _stop:
    _Noted.repeated = True
    signal.pthread_kill(threading.main_thread().ident, _Noted.number)


@contextlib.contextmanager
def terminable():
  """Turns Ctrl-C and SIGTERM into Preempted, outside of training loops.

  Whatever others make of it on its way, Preempted comes out; where Python
  drops it, it is raised again a moment later.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  handled = [signal.SIGTERM]
  # Else ignored, as in what a shell starts in the background.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    handled.append(signal.SIGINT)
  _Noted.catching, _Noted.asked, _Noted.repeated = True, False, False
  hook, sys.unraisablehook = sys.unraisablehook, _unraisable(sys.unraisablehook)
  before = {number: signal.signal(number, _stop) for number in handled}
  try:
    yield
  except BaseException as error:
    if isinstance(error, Preempted):
      raise
    if _Noted.asked or isinstance(error, KeyboardInterrupt):
      raise Preempted(GOES_ON) from error
    raise
  finally:
    _Noted.catching = False
    for number, handler in before.items():
      signal.signal(number, handler)
    sys.unraisablehook = hook
    _Noted.asked = False


@contextlib.contextmanager
def held():
  """Lets its body end first where `terminable` would stop it: in Orbax.

  Raised in the middle of it, an exception is wrapped into another, or lost.
  Raises Preempted at the end, whatever the body raised.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  _Noted.held += 1
  try:
    yield
  finally:
    _Noted.held -= 1
    if not _Noted.held:
      check()


def check() -> None:
  """Raises Preempted where a signal came and the run goes on all the same.

  It may have come in a stage's last step, or been raised where others catch
  every exception.
  """
  if _Noted.asked:
    raise Preempted(GOES_ON)


class StopRequest:
  """Turns Ctrl-C and SIGTERM into a flag; a second Ctrl-C acts at once.

  Where `jax.distributed` runs, SIGTERM is left to it: it agrees on a step at
  which all hosts stop, and a Python handler would silently disable that. Ctrl-C
  becomes a SIGTERM there, for the hosts see it at different steps.
  """

  # Steps that were asked about, of all stages: what the hosts agree on must
  # only ever grow, and a stage's steps begin anew.
  _asked = itertools.count(1)
  _agreed = False  # stays, where the agreed step was a stage's last

  def __init__(self, label: str):
    self._label, self._signal, self._before = label, None, {}

  def __enter__(self):
    # Python allows handlers in the main thread only.
    if threading.current_thread() is threading.main_thread():
      handled = [signal.SIGINT]
      if not _distributed():
        handled.append(signal.SIGTERM)
      self._before = {
        number: signal.signal(number, self._note) for number in handled
      }
    return self

  def __exit__(self, kind, error, trace):
    for number, handler in self._before.items():
      signal.signal(number, handler)
    if self._signal is not None and error is None and _Noted.catching:
      _Noted.asked = True  # in the last step: for who comes next

  def _note(self, number, frame):
    del frame
    if self._signal is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._signal = number
    if _distributed():
      signal.raise_signal(signal.SIGTERM)
    print(
      f"\n{self._label}: {signal.Signals(number).name} received, saving after "
      "this step (Ctrl-C again stops at once, without saving)",
      file=sys.stderr,
      flush=True,
    )

  def made(self, step: int) -> bool:
    """Says whether to stop; asked by every host at every step."""
    del step  # of a stage; see `_asked`
    if _distributed():
      from jax.experimental import multihost_utils

      tick = next(StopRequest._asked)
      if multihost_utils.reached_preemption_sync_point(tick):
        StopRequest._agreed = True
      return StopRequest._agreed
    return self._signal is not None or _Noted.asked
