"""The life of one run in the cloud: made, set up, started, watched, deleted."""

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Sequence

from cooper_jax.errors import UserError
from launch import backends, hosts
from launch.request import State, Status
from launch.shell import LIMIT_S, CommandFailed

POLL_S = 20
POLL_LIMIT_S, SETUP_S = 180, 3600  # that a look and the installing may take
SAY_AGAIN_S = 600
UPLOADS = 10
SILENT_POLLS = 5  # ssh fails now and then; a host that is gone stays gone
UNSEEN_S = 60  # after it was asked for, before it can be seen


def _say(line: str) -> None:
  # Ctrl-C ends a `| tee`, too; what is deleted must not wait for a reader.
  with contextlib.suppress(OSError):
    print(line, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Look:
  """What was seen of a run."""

  outcome: hosts.Job | int
  progress: str = ""


class Pod:
  """What was made under a name, with the run on it."""

  def __init__(
    self,
    backend,
    *,
    arguments: Sequence[str] = (),
    secrets: Sequence[str] = (),
    patience: int = 1,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = _say,
  ):
    self._backend, self.request = backend, backend.request
    self._shell = backend.shell
    self._arguments, self._secrets = arguments, secrets
    self._clock, self._sleep, self._say = clock, sleep, say
    self._patience, self._silent = patience, 0
    self._made = 0  # by this process: only that does it delete unasked

  def say(self, line: str) -> None:
    """Tells the user how it goes, except in a dry run."""
    if not self._shell.dry_run:
      self._say(line)

  @property
  def api(self) -> str:
    """By which of the two it is made."""
    return self._backend.API

  def check_free(self) -> None:
    """Raises UserError if the name is in use."""
    self._backend.check_free()

  def status(self) -> Status:
    """Asks the cloud, again where it can't be reached for a while."""
    left = self._patience
    while True:
      left -= 1
      try:
        return self._backend.status()
      except CommandFailed as error:
        if left < 1 or not error.transient:
          raise
        self.say(str(error))
        self._sleep(POLL_S)

  def create(self) -> None:
    """Asks for it, and does not wait for it; what is refused leaves nothing.

    What was begun is counted before it is asked for: after an interruption, or
    an answer that is lost, nobody knows how far the cloud has got. What was
    refused for good was not made, and may be another's.
    """
    asked = self.request
    self.say(
      f"creating {asked.name}: {asked.slices} x {asked.accelerator.name}"
    )
    for number, argv in enumerate(self._backend.creations()):
      self._made = number + 1
      try:
        self._shell.run(argv)
      except CommandFailed as error:
        self._made = number + error.transient
        self.release()
        raise

  def wait(self, limit_s: float) -> Status:
    """Waits until all hosts are up or can't be, saying how it stands.

    Raises UserError where that takes too long.
    """
    began, said, words = self._clock(), 0.0, None
    while True:
      status, now = self.status(), self._clock()
      if status.words != words or now - said >= SAY_AGAIN_S:
        words, said = status.words, now
        self.say(f"  {(now - began) / 60:5.1f} min  {words}")
      unseen = status.state is State.ABSENT and now - began < UNSEEN_S
      waits = status.state is State.WAITING or (unseen and self._made)
      if not waits or self._shell.dry_run:
        return status
      if now - began >= limit_s:
        raise UserError(
          f"{self.request.name} did not come up in {limit_s / 3600:g} hours"
          f" ({words}); wait longer with --wait_hours, or try another zone"
        )
      self._sleep(POLL_S)

  def _expect(
    self, states: set[str], command: str, what: str, limit_s: float = LIMIT_S
  ) -> None:
    """Runs a command on all hosts, all of which have to answer so."""
    results = self._backend.ask(command, limit_s=limit_s)
    if self._shell.dry_run:
      return
    good = [r for r in hosts.read_reports(results) if r.state in states]
    if len(good) < self.request.hosts:
      errors = [
        line.removeprefix("error: ")
        for result in results
        for line in (result.stdout + result.stderr).splitlines()
        if line.lower().startswith("error")
      ]
      raise CommandFailed(
        f"{what} on {len(good)} of {self.request.hosts} hosts:"
        f" {errors[0] if errors else 'the others did not answer'}"
      )

  def _upload(self, archive: str) -> None:
    """Copies the code; machines are called up before ssh to them works."""
    left = UPLOADS
    while True:
      left -= 1
      try:
        return self._backend.upload(archive)
      except CommandFailed as error:
        if not left:
          raise
        self.say(f"{error}; again in {POLL_S} s")
        self._sleep(POLL_S)

  def setup(self) -> None:
    """Ships the code to all hosts and makes the environment."""
    commit = self.request.commit
    archive = hosts.pack(self._shell, commit)
    self._upload(str(archive))
    order = hosts.unpack_order(archive.name, commit)
    self.say(f"setting up {self.request.hosts} hosts")
    self._expect({"ready"}, order, "set up", SETUP_S)

  def start(self) -> None:
    """Starts the program on all hosts; raises UserError if it runs already."""
    running = [r for r in self.reports() if r.state == "running"]
    if running:
      raise CommandFailed(
        f"{self.request.name} is running already ({len(running)} hosts); stop"
        f" it first: python -m launch.tpu stop {self.request.name}"
      )
    order = hosts.start_order(self._secrets, self._arguments)
    # One that has ended by now has started.
    self._expect({"running", "ended"}, order, "started")
    self._silent = 0

  def reports(self) -> list[hosts.Report]:
    """The answers of the hosts, one by one; silent ones are left out."""
    try:
      asked = self._backend.ask(hosts.order("poll"), limit_s=POLL_LIMIT_S)
      return hosts.read_reports(asked)
    except CommandFailed:
      return []

  def look(self) -> Look:
    """Asks the hosts; a few silent ones are given time to answer again."""
    reports = self.reports()
    outcome = hosts.combine(reports, self.request.hosts)
    progress = max((report.progress for report in reports), default="")
    self._silent = self._silent + 1 if outcome is hosts.Job.LOST else 0
    if outcome is hosts.Job.LOST and self._silent < SILENT_POLLS:
      outcome = hosts.Job.RUNNING
    return Look(outcome, progress)

  def stop(self) -> None:
    """Asks the program on all hosts to save and end, and makes it end."""
    self._expect({"ended", "idle", "lost"}, hosts.order("stop"), "stopped")

  def logs(self, *, worker: str, lines: int, follow: bool = False) -> int:
    """Shows the newest log; gives the exit code of that."""
    order = hosts.order("logs", str(lines), *(["follow"] if follow else []))
    results = self._backend.ask(order, worker=worker, capture=False)
    return max((result.code for result in results), default=0)

  def adopt(self) -> None:
    """Takes what is there for its own, as if made by this process."""
    self._made = len(self._backend.deletions())

  def delete(self) -> None:
    """Deletes everything of this name."""
    self.adopt()
    self.release()

  def release(self) -> None:
    """Deletes what this process has made."""
    if self._made:
      self.say(f"deleting {self.request.name}")
      backends.delete(self._backend, self._made, lambda: self._sleep(POLL_S))
      self._made = 0

  @contextlib.contextmanager
  def released(self, *, keep: bool, always: bool = False):
    """Deletes what was made inside when it fails, or `always`; not if `keep`.

    A second Ctrl-C does not cut the deletion short: it would go on costing.
    """
    failed = True
    try:
      yield self
      failed = False
    finally:
      if not keep and (failed or always):
        with _unstoppable():
          self.release()


@contextlib.contextmanager
def _unstoppable():
  numbers = (signal.SIGINT, signal.SIGTERM)
  before = {number: signal.signal(number, _explain) for number in numbers}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _explain(number, frame):
  del number, frame
  _say("deleting first, so that nothing goes on costing; a moment")
