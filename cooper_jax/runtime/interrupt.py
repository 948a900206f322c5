"""Asking a run to stop without losing what it has done."""

import contextlib
import itertools
import signal
import sys
import threading

from cooper_jax.errors import Preempted


def _distributed() -> bool:
  # Looked up only where jax is loaded already: importing it takes seconds.
  jax = sys.modules.get("jax")
  return jax is not None and jax.distributed.is_initialized()


GOES_ON = "stopped; the same command goes on from what is saved"


class _Noted:
  """What `terminable` knows: there are no two of it in a process."""

  catching = False  # whether signals come here
  held = 0  # blocks that end first
  asked = False  # by a signal that may not have ended the run yet


def _stop(number, frame):
  del frame
  again = _Noted.asked and number == signal.SIGINT
  _Noted.asked = True
  if not _Noted.held or again:
    raise Preempted(GOES_ON)
  print(
    f"\n{signal.Signals(number).name} received, stopping once this checkpoint"
    " is done (Ctrl-C again stops at once)",
    file=sys.stderr,
    flush=True,
  )


@contextlib.contextmanager
def terminable():
  """Turns Ctrl-C and SIGTERM into Preempted, outside of training loops.

  Whatever others make of it on its way, Preempted comes out.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  handled = [signal.SIGTERM]
  # Else ignored, as in what a shell starts in the background.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    handled.append(signal.SIGINT)
  _Noted.catching, _Noted.asked = True, False
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
    for number, handler in before.items():
      signal.signal(number, handler)
    _Noted.catching = _Noted.asked = False


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

  It may have come in a stage's last step, or been raised where Python or
  others drop exceptions: in a callback or a `__del__`.
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
