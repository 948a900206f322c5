"""Lock of a workdir: one run at a time writes to it; a dead run holds nothing.

Two runs on one folder write over each other's checkpoints and both end well.
The kernel's lock on a file goes with its process, whatever ends that. File
systems between machines may not pass it on, or have none (buckets), so the
file also says who runs and has a number that grows: where it says that of
another machine, or there is no lock, it is watched before it is believed.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path

from cooper_jax.errors import UserError
from cooper_jax.parallel import processes

LOCK_FILE = "run.lock"
BEAT = 20.0  # seconds between signs of life
DEAD_AFTER = 50.0  # seconds without one, after which a run is dead
SIZE = 1024  # bytes that are read of the file


@contextlib.contextmanager
def held(folder):
  """Holds the lock of a folder while its body runs; makes the folder.

  Of several processes of one run the first does. Raises UserError naming the
  run that holds it, or where the folder can't be written.
  """
  if not processes.is_first():
    yield
    return
  path = Path(folder) / LOCK_FILE
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
  except OSError as error:
    raise UserError(
      f"--workdir={folder} can't be written ({error.strerror}); choose another"
      " folder"
    ) from error
  try:
    _take(file, path)
  except BaseException:
    os.close(file)
    raise
  mine, held_by_us, done = _me(), {file}, threading.Event()
  # A child that outlives this process must not keep its lock.
  os.register_at_fork(after_in_child=lambda: _close(held_by_us))
  _write(file, mine)
  beat = threading.Thread(target=_beat, args=(file, mine, done), daemon=True)
  beat.start()
  try:
    yield
  finally:
    done.set()
    beat.join()
    _write(file, {})
    _close(held_by_us)


def check(folder) -> None:
  """Raises UserError where another run holds the folder; changes nothing.

  Only what a lock tells at once: `held` says the last word.
  """
  path = Path(folder) / LOCK_FILE
  if not processes.is_first() or not path.exists():
    return
  with contextlib.suppress(OSError):  # `held` says what is wrong with the file
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
      _lock(file, path)
    finally:
      os.close(file)


def _take(file: int, path: Path) -> None:
  locked, other = _lock(file, path), _read(file)
  if not other:
    return
  here = other.get("machine") == _machine()
  # Containers of one kernel share its locks, and have other process ids.
  same = here and other.get("host") == socket.gethostname()
  if (here and locked) or (same and not _lives(other)):
    return
  # Another machine's lock may not be seen here.
  until = time.monotonic() + DEAD_AFTER
  print(
    f"{path} was left by {_who(other)}; looking for up to {DEAD_AFTER:.0f} s"
    " whether it still runs",
    flush=True,
  )
  while time.monotonic() < until:
    time.sleep(min(1.0, DEAD_AFTER / 10))
    now = _read(file)
    if not now:
      return
    if now != other:
      raise _taken(path, now)


def _lock(file: int, path: Path) -> bool:
  """Locks the file; False where its file system has no locks."""
  for last in (False, False, True):
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    except OSError as error:
      # Not supported, or a server of files that can't say: ENOLCK, EIO, ESTALE.
      if error.errno != errno.EWOULDBLOCK:
        return False
      if last:
        raise _taken(path, _read(file)) from None
    time.sleep(0.1)  # it may be another that only looks: `check`
  return False


def _taken(path: Path, other: dict) -> UserError:
  return UserError(
    f"{path.parent} is in use by {_who(other)}; wait until it ends, or stop"
    " it, or choose another --workdir"
  )


def _who(other: dict) -> str:
  if not other:
    return "another run"
  return (
    f"another run: process {other.get('pid')} on {other.get('host')}, started"
    f" {other.get('start')}"
  )


def _me() -> dict:
  return {
    "pid": os.getpid(),
    "host": socket.gethostname(),
    "start": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    "machine": _machine(),
    "beat": 0,
  }


def _machine() -> str:
  """Names this boot of this machine: host names repeat, process ids too.

  Without the host's name, which a container that starts again has anew.
  """
  try:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
  except OSError:  # no Linux
    return socket.gethostname()


def _lives(other: dict) -> bool:
  try:
    os.kill(int(other.get("pid", 0)), 0)
  except (ProcessLookupError, ValueError, OverflowError, TypeError):
    return False
  except PermissionError:  # another user's
    return True
  return True


def _read(file: int) -> dict:
  """What the file says; nothing where it is empty or damaged."""
  try:
    value = json.loads(os.pread(file, SIZE, 0).decode("utf-8"))
  except ValueError:
    return {}
  return value if isinstance(value, dict) else {}


def _write(file: int, value: dict) -> None:
  # Padded, so that no write leaves a piece of a longer one. A full disk is
  # for what needs room to say.
  with contextlib.suppress(OSError):
    os.pwrite(file, json.dumps(value).encode().ljust(SIZE), 0)
    os.fsync(file)


def _beat(file: int, mine: dict, done: threading.Event) -> None:
  while not done.wait(BEAT):
    mine = mine | {"beat": mine["beat"] + 1}
    _write(file, mine)


def _close(files: set[int]) -> None:
  while files:
    os.close(files.pop())
