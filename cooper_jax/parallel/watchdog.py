"""Watchdog of a multi-process run: one that fails ends all, with its message.

Whoever waits for another in a collective waits without limit and hears of
nothing. So a process that ends on an error says so to the coordinator, and a
thread of every other looks there. A process that vanishes without a word is
noticed by JAX itself, when its heartbeats have been missing for 100 s.
"""

import contextlib
import json
import os
import sys
import threading

from cooper_jax.errors import EXIT_PREEMPTED
from cooper_jax.parallel import processes
from cooper_jax.runtime import malloc

ENDED = "cooper_ended"
POLL = 1.0  # seconds between looks
GRACE = 3.0  # seconds to end by oneself, which a symmetric error does


@contextlib.contextmanager
def joined(describe):
  """Runs its body as one of several processes, if the environment says so.

  Process 0 alone prints; the others print what describe() gives, a line on
  their machine, and errors.
  """
  malloc.keep_freed()  # before there are threads
  processes.start()
  if processes.count() == 1:
    yield
    return
  done = threading.Event()
  threading.Thread(target=_watch, args=(done,), daemon=True).start()
  with contextlib.ExitStack() as stack:
    if not processes.is_first():
      print(describe(), flush=True)
      nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
      stack.enter_context(contextlib.redirect_stdout(nowhere))
    try:
      yield
    except BaseException as error:
      _tell(error)
      raise
    finally:
      done.set()


def exit_code(error: BaseException) -> int:
  """What a process ends with after this error."""
  if isinstance(error, KeyboardInterrupt):
    return EXIT_PREEMPTED
  return getattr(error, "exit_code", 1)


def _tell(error: BaseException) -> None:
  lines = str(error).strip().splitlines() or ["no message"]
  said = f"{type(error).__name__}: {lines[0][:300]}"
  code = exit_code(error)
  # An exit by itself may wait for the others, who won't come any more.
  _leave(code, 2 * GRACE)
  with contextlib.suppress(Exception):  # the coordinator may be what is gone
    processes.client().key_value_set(
      f"{ENDED}/{processes.index()}", json.dumps([code, said])
    )


def _watch(done: threading.Event) -> None:
  mine = str(processes.index())
  while not done.wait(POLL):
    try:
      found = processes.client().key_value_dir_get(ENDED)
    except Exception:  # no coordinator any more; JAX ends this process then
      return
    others = [(k.rsplit("/", 1)[-1], v) for k, v in found]
    others = [(who, said) for who, said in others if who != mine]
    if others and not done.is_set():
      who, (code, said) = others[0][0], json.loads(others[0][1])
      print(
        f"error: process {int(who) + 1} of {processes.count()} ended, so this"
        f" one does: {said}",
        file=sys.stderr,
        flush=True,
      )
      _leave(code, GRACE)
      return


def _leave(code: int, seconds: float) -> None:
  """Ends this process after a while, whatever its main thread waits for.

  Process 0 last: without its coordinator JAX aborts the others on the spot.
  """
  if processes.is_first():
    seconds = 3 * GRACE

  def leave():
    sys.stderr.flush()
    os._exit(code)

  timer = threading.Timer(seconds, leave)
  timer.daemon = True
  timer.start()
