"""Running of an experiment's jobs: each in a process, several at once.

A job goes on from its own workdir, so whatever ends this ends no work that is
saved: the same command looks at what is finished and goes on.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cooper_jax import errors
from cooper_jax.experiments.jobs import Job, prepare, to_do
from cooper_jax.runtime import interrupt
from cooper_jax.training import lock, provenance, telemetry

CUDA = "CUDA_VISIBLE_DEVICES"
POLL_S = 0.2  # seconds between looks at the processes
SAY_S = 60.0  # seconds between last words of the jobs that run
LOG = "log.txt"  # of a job, beside its workdir's stages


def devices() -> list[str]:
  """Accelerators that a job each may have, as CUDA_VISIBLE_DEVICES names them.

  [] where there are none of NVIDIA: jobs then run one at a time.
  """
  said = os.environ.get(CUDA)
  if said is not None:
    return [each for each in said.split(",") if each]
  found = [path.name for path in Path("/dev").glob("nvidia[0-9]*")]
  return sorted(each.removeprefix("nvidia") for each in found)


def check_commits(jobs: dict[str, Job], *, mixed: bool) -> None:
  """Raises UserError for a job that other code has worked at.

  mixed: allowed; the results then name all commits.
  """
  now = provenance.commit()
  for job in jobs.values():
    others = [commit for commit in job.commits() if commit != now]
    if others and not mixed:
      row, seed = job.rows[0]
      raise errors.UserError(
        f"{job.folder} ({job.stage} of row {row}, seed {seed}) was made by"
        f" commit {others[-1]}, and this is {now}; give --mixed to go on with"
        " both, or take another --out"
      )


def minutes(jobs: dict[str, Job]) -> dict[str, float]:
  """Minutes of each job: taken where it is finished, expected where not.

  What is expected is scaled by what finished jobs of the stage took.
  """
  taken = {name: job.seconds() for name, job in jobs.items()}
  known = [name for name, seconds in taken.items() if seconds]
  found = {}
  for name, job in jobs.items():
    alike = [each for each in known if jobs[each].stage == job.stage] or known
    expected = sum(jobs[each].minutes for each in alike)
    took = sum(taken[each] for each in alike) / 60
    scale = took / expected if expected else 1.0  # 0 expected tells nothing
    found[name] = (
      job.minutes * scale if taken[name] is None else taken[name] / 60
    )
  return found


def table(jobs: dict[str, Job]) -> str:
  """The plan: a line a job, with its minutes, and their sum."""
  taken, lines, todo = minutes(jobs), [], {*to_do(jobs)}
  left = done = 0.0
  for name, job in jobs.items():
    if job.is_finished():
      said, done = "done ", done + taken[name]
    elif name in todo:
      said, left = "to do", left + taken[name]
    else:
      continue  # what it was made for is there
    rows = list(dict.fromkeys(row for row, _ in job.rows))
    seeds = sorted({seed for _, seed in job.rows})
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    lines.append(
      f"  {said} {taken[name]:6.1f} min  {name:27s}"
      f" seed {seeds[0]}  {', '.join(rows[:3])}{more}"
    )
  lines.append(
    f"{len(lines)} jobs, {done:.0f} min done, about {left:.0f} min"
    f" ({left / 60:.1f} h) to do, one after another"
  )
  return "\n".join(lines)


def start(job: Job, device: str | None) -> subprocess.Popen:
  """Starts a job's process; what it says is added to its log."""
  job.folder.parent.mkdir(parents=True, exist_ok=True)
  environment = os.environ | ({} if device is None else {CUDA: device})
  with open(log_of(job), "ab") as log:
    return subprocess.Popen(
      [sys.executable, "-m", job.module, *job.arguments],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=environment,
      # A Ctrl-C in the terminal is for this process, which ends its jobs.
      start_new_session=True,
    )


def log_of(job: Job) -> Path:
  """What a job says: in its workdir, of a package beside it."""
  if job.config is None:
    return job.folder.with_suffix(".log")
  return job.folder / LOG


def run(
  jobs: dict[str, Job], *, at_once: int, begin=start, finished=lambda: None
) -> int:
  """Runs what is not finished; gives the exit code of the first failure, or 0.

  at_once: jobs at the same time. begin(job, device) -> process, with `poll`,
  `terminate` and `wait`. A job that fails holds up only those that need it.
  finished(): called after each job that is.
  """
  todo = {name: jobs[name] for name in to_do(jobs)}
  done = len(jobs) - len(todo)
  with telemetry.Progress(
    len(jobs), "jobs", start=done, left=lambda: crew.seconds_left()
  ) as bar:
    crew = _Crew(jobs, todo, at_once, begin, bar, finished)
    try:
      while crew.running or crew.ready():
        crew.begin_some()
        time.sleep(POLL_S)
        crew.end_some()
        crew.say()
    finally:
      crew.stop()
  return next(iter(crew.failed.values()), errors.EXIT_DONE)


class _Crew:
  """What is to do, what runs on which device, and what failed."""

  def __init__(
    self, jobs, todo, at_once: int, begin, bar, finished=lambda: None
  ):
    self.jobs, self.todo, self.begin, self.bar = jobs, todo, begin, bar
    self.finished = finished
    self.free = ((devices() or [None]) * at_once)[:at_once]
    self.running = {}  # name -> (process, device, when it began)
    self.failed = {}  # name -> exit code
    self.taken = set()  # seen in the hands of another process
    self.said = time.monotonic()

  def ready(self) -> list[str]:
    """Jobs to do whose parents are finished."""
    missing = {*self.todo, *self.running, *self.failed}
    return [n for n in self.todo if missing.isdisjoint(self.jobs[n].needs)]

  def begin_some(self) -> None:
    """Begins as many as there are devices for."""
    for name in self.ready():
      job = self.jobs[name]
      if not self.free:
        return
      if _is_taken(job):  # by a process that outlived an earlier sweep
        self.taken.add(name)
        continue
      if name in self.taken and job.is_finished():
        self._advance(name, "done elsewhere")
        del self.todo[name]
        continue
      prepare(job, self.jobs)
      device = self.free.pop(0)
      process = self.begin(job, device)
      self.running[name] = process, device, time.monotonic()
      del self.todo[name]
      self.bar.say(f"{name} begins")

  def end_some(self) -> None:
    """Sees which have ended, and how."""
    for name, (process, device, begun) in list(self.running.items()):
      code, job = process.poll(), self.jobs[name]
      if code is None:
        continue
      del self.running[name]
      self.free.append(device)
      if code == errors.EXIT_DONE and job.is_finished():
        spent = telemetry.duration(time.monotonic() - begun)
        self._advance(name, f"done in {spent}")
      elif code == errors.EXIT_PREEMPTED:
        raise errors.Preempted(interrupt.GOES_ON)
      elif _is_taken(job):  # begun a moment before, by one that was killed
        self.todo[name] = job
      else:
        self.failed[name] = code or errors.EXIT_USER
        print(f"error: {_failure(job, code)}", file=sys.stderr)

  def say(self) -> None:
    """Now and then the last line of each log, which tells how far it is."""
    if time.monotonic() - self.said > SAY_S:
      self.said = time.monotonic()
      for name in self.running:
        self.bar.say(f"{name}: {_last_words(self.jobs[name])}")

  def seconds_left(self) -> float:
    """Expected, by the minutes that jobs of their stages took."""
    expected, now = minutes(self.jobs), time.monotonic()
    left, ends, blocked = {}, {}, {*self.failed}
    for name, job in self.jobs.items():  # each after those that it needs
      if not blocked.isdisjoint(job.needs):
        blocked.add(name)
      elif name in self.running:
        begun = self.running[name][2]
        left[name] = max(0.0, 60 * expected[name] - (now - begun))
      elif name in self.todo:
        left[name] = 60 * expected[name]
      before = max((ends.get(each, 0.0) for each in job.needs), default=0.0)
      ends[name] = before + left.get(name, 0.0)
    at_once = len(self.free) + len(self.running)
    return max(sum(left.values()) / at_once, *ends.values())

  def stop(self) -> None:
    """Asks what runs to save and stop, and waits until it has."""
    processes = [process for process, *_ in self.running.values()]
    for process in processes:
      with contextlib.suppress(ProcessLookupError):
        process.terminate()
    for process in processes:
      process.wait()

  def _advance(self, name: str, said: str) -> None:
    self.bar.say(f"{name} {said}")
    self.bar.advance()
    self.finished()


def _is_taken(job: Job) -> bool:
  try:
    lock.check(job.folder)
  except errors.UserError:
    return True
  return False


def _failure(job: Job, code: int) -> str:
  """A line: which job, how it ended, and the last words of its log."""
  how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
  return f"{job.name} ended with {how}: {_last_words(job)} (all: {log_of(job)})"


def _last_words(job: Job) -> str:
  """The last line of a job's log that says something."""
  path = log_of(job)
  text = path.read_text(errors="replace") if path.exists() else ""
  lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
  return next((line for line in lines[::-1] if line), "")
