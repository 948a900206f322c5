"""Device check: everything that an accelerator has to show, in one go.

  python -m cooper_jax.bench --what=device --minutes=8

The parts are those of `device_parts.py`; each prints its line as it ends. A
part that fails, crashes or runs out of its time costs its own line alone, and
the exit code is then 1. On a CPU the same code makes a dry run with toy
sizes: its speeds say nothing.

Parts run in a process of their own, one after the other in the same one: a
hung kernel can be ended only with its process, and a process that holds a
device (or most of its memory, which JAX takes at once) keeps a second one off.
So this one never touches JAX, and starts another worker only where one ended.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

# Parts in order, and what each may take of the time; what one leaves is the
# others'.
TIME_SHARES = {
  "kernels": 1.0,
  "step": 1.0,
  "exactness": 1.5,
  "tiny": 1.0,
  "decode": 1.5,
  "sft": 1.5,
  "grpo": 2.0,
}
_ROOT = Path(__file__).resolve().parent.parent.parent


def run(
  minutes: float, *, as_json: bool = False, parts=tuple(TIME_SHARES)
) -> int:
  """Checks the device; gives 0, or 1 where a part failed.

  as_json: prints a JSON object a part in place of the lines for people.
  """
  ends, left, failed, header = (
    time.monotonic() + 60 * minutes,
    list(parts),
    0,
    {},
  )
  while left:
    worker = Worker(left)
    while left:
      part = left.pop(0)
      share = TIME_SHARES[part] / sum(
        TIME_SHARES[name] for name in (part, *left)
      )
      limit = max(0.0, share * (ends - time.monotonic()))
      found = worker.wait_for(part, limit)
      if worker.device and not header:
        header = worker.device
        if not as_json:
          print(told_of(header, minutes), flush=True)
      failed += found["state"] == "failed"
      print(json.dumps(header | found) if as_json else line(found), flush=True)
      if not worker.alive:
        break
    worker.end()
  return int(failed > 0)


def told_of(device: dict, minutes: float) -> str:
  """The line before all others."""
  what = "dry run with toy sizes on" if device["dry_run"] else "check of"
  return (
    f"device {what} {device['device']} ({device['platform']}), jax"
    f" {device['jax']}, {minutes:g} min at most"
  )


def line(found: dict) -> str:
  """The line of a part: its name, how it ended, seconds, what was found."""
  return (
    f"{found['part']:9s} {found['state']:7s} {found['seconds']:5.0f} s"
    f"  {found['said']}"
  )


class Worker:
  """A process that runs some parts in order, and says when each has ended.

  device: what it says of the device, {} before that. alive: whether another
  part can be waited for.
  """

  def __init__(self, parts):
    self.device, self.alive = {}, True
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    self._process = subprocess.Popen(
      command(parts),
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
      start_new_session=True,  # to be ended with all that it has started
    )
    self._lines = queue.Queue()
    threading.Thread(target=self._read, daemon=True).start()

  def _read(self) -> None:
    for text in self._process.stdout:
      self._lines.put(text)
    self._lines.put(None)

  def wait_for(self, part: str, limit: float) -> dict:
    """What a part found: part, state (ok, no room, failed), seconds, said.

    limit: seconds, after which the process is ended.
    """
    begun = time.monotonic()
    while True:
      try:
        left = limit - (time.monotonic() - begun)
        text = self._lines.get(timeout=max(left, 0.001))
      except queue.Empty:
        self.end()
        why = f"not done within its {limit:.0f} s"
        break
      if text is None:
        code = self._process.wait()
        self.alive = False
        why = f"its process ended with code {code}"
        if code < 0:
          why = f"its process died of {signal.Signals(-code).name}"
        break
      try:
        found = json.loads(text)
      except ValueError:  # something that a library prints
        continue
      if "device" in found:
        self.device = found
      elif found.get("part") == part:
        return found
    seconds = round(time.monotonic() - begun, 1)
    return {"part": part, "state": "failed", "seconds": seconds, "said": why}

  def end(self) -> None:
    """Ends the process, and what it has started."""
    self.alive = False
    if self._process.poll() is None:
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()


def command(parts) -> list[str]:
  """The command line of a worker."""
  return [sys.executable, "-m", "cooper_jax.bench.device_parts", *parts]
