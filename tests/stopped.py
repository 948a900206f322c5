"""A process that is stopped in the middle of a checkpoint, for tests.

  python -m tests.stopped FOLDER restore|part|save SIGTERM|SIGINT MS [MS ..]

Does that under `main` for each number of milliseconds, after which it gets
the signal; prints a line a try and ends with the last exit code.
"""

import itertools
import signal
import sys
import threading
import time

import jax.numpy as jnp

# Here, for it can't be imported twice: where a stop interrupts the import, the
# next try of this process would abort.
import tensorstore  # noqa: F401

from cooper_jax import command, main
from cooper_jax.training.checkpoint import Checkpoints

# So many arrays that it takes longer than the longest wait.
STATE = {f"array{i}": jnp.full((16, 16), i) for i in range(400)}
steps = itertools.count(10)


def do(folder, what: str, milliseconds: float, number: int) -> None:
  checkpoints, begun = Checkpoints(folder), threading.Event()

  def send():
    begun.wait()
    time.sleep(milliseconds / 1000)
    # To the main thread itself: another one, that a busy machine lets wait,
    # might take it only after this try has ended.
    signal.pthread_kill(threading.main_thread().ident, number)

  sender = threading.Thread(target=send)
  sender.start()
  begun.set()
  try:
    if what == "restore":
      checkpoints.restore(STATE)
    elif what == "part":
      checkpoints.restore_part("array7", STATE["array7"])
    else:
      checkpoints.save(next(steps), STATE, data_state={}, meta={})
  finally:
    sender.join()  # else it would meet the next try


if __name__ == "__main__":
  folder, what, name, *waits = sys.argv[1:]
  command.parse = lambda argv: argv
  for wait in waits:
    main.run = lambda asked, wait=wait: do(
      folder, what, float(wait), getattr(signal, name)
    )
    code = main.main([])
    print(f"{what} {name} {wait} ms: {code}", flush=True)
  sys.exit(code)
