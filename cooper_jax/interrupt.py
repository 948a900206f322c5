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


@contextlib.contextmanager
def terminable():
  """Turns Ctrl-C and SIGTERM into Preempted, outside of training loops."""
  goes_on = "stopped; the same command goes on from what is saved"

  def stop(number, frame):
    del number, frame
    raise Preempted(goes_on)

  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  except KeyboardInterrupt as error:
    raise Preempted(goes_on) from error
  finally:
    signal.signal(signal.SIGTERM, before)


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

  def __exit__(self, *error):
    for number, handler in self._before.items():
      signal.signal(number, handler)

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
    return self._signal is not None
