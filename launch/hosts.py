"""What is said to the hosts of a slice, and what their answers mean together.

launch/boot.sh is on the other end. Its answers are lines of text among others,
since ssh to many hosts gives one exit code for all, and not always the worst.
"""

import dataclasses
import enum
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from cooper_jax.errors import (
  EXIT_DONE,
  EXIT_NUMERICS,
  EXIT_PREEMPTED,
  EXIT_USER,
  EXIT_WATCHDOG,
  UserError,
)
from launch.shell import Result, Shell

ROOT = Path(__file__).parent.parent
REPORT = re.compile(
  r"cooper: host=(\S+) state=(\w+)(?: exit=(-?\d+))?(?: progress=(\S*))?"
)
VARIABLE = re.compile(r"[A-Za-z_]\w*=[\w-]+")
TOKEN = re.compile(r"\b(hf_|ghp_|github_pat_|ya29\.|AIza|sk-)[\w.-]{8}")
SECRET_NAMES = ("TOKEN", "KEY", "SECRET", "PASSWORD")
ABORTED = (134, -6)  # JAX ends a process so when it has lost another
TERMINATED = (143, -15)


class Job(enum.Enum):
  """How a run is that has no exit code."""

  IDLE = "idle"  # not started on these hosts
  RUNNING = "running"
  LOST = "lost"  # hosts are silent, or were restarted


@dataclasses.dataclass(frozen=True)
class Report:
  """The answer of one host."""

  host: str
  state: str
  code: int | None
  progress: str


def order(verb: str, *arguments: str) -> str:
  """A command line for the hosts, quoted for their shell."""
  script = "cooper/current/launch/boot.sh"
  return shlex.join(["bash", script, verb, *arguments])


def unpack_order(archive: str, commit: str) -> str:
  """Unpacks the code into a folder of its commit and prepares the host."""
  folder = f"cooper/{commit}"
  return (
    f"mkdir -p {folder} && tar -xzf {archive} -C {folder}"
    f" && bash {folder}/launch/boot.sh setup"
  )


def start_order(secrets: Sequence[str], arguments: Sequence[str]) -> str:
  """Starts the program; secrets are names, their values stay in the cloud."""
  named = [f"--secret={secret}" for secret in secrets]
  return order("start", *named, "--", *arguments)


def read_reports(results: Sequence[Result]) -> list[Report]:
  """Finds the answers in what the hosts printed."""
  return [
    Report(host, state, int(code) if code else None, progress)
    for result in results
    for host, state, code, progress in REPORT.findall(result.stdout)
  ]


def _gravity(code: int) -> int:
  """The smaller, the closer to the cause where hosts end differently."""
  if code == EXIT_NUMERICS:
    return 0
  if code == EXIT_USER:
    return 1
  late = [EXIT_WATCHDOG, EXIT_PREEMPTED, *ABORTED, *TERMINATED, EXIT_DONE]
  return 3 + late.index(code) if code in late else 2


def combine(reports: Sequence[Report], hosts: int) -> Job | int:
  """Gives the exit code of the run, or how it is without one.

  A host that ended badly ends the run: the others would wait for it. One that
  ended well may be ahead of the others.
  """
  bad = [report.code for report in reports if report.code]
  if bad:
    return min(bad, key=_gravity)
  states = {report.state for report in reports}
  if len(reports) < hosts or "lost" in states or len(states & RUNS) > 1:
    return Job.LOST
  if "running" in states:
    return Job.RUNNING
  return EXIT_DONE if states == {"ended"} else Job.IDLE


# Running on some hosts and never started on others: it can't go on.
RUNS = {"running", "idle"}


def check_secrets(
  secrets: Sequence[str],
  arguments: Sequence[str],
  environment: Mapping[str, str] = os.environ,
) -> None:
  """Raises UserError, without repeating it, where a secret would be sent."""
  for secret in secrets:
    if not VARIABLE.fullmatch(secret) or TOKEN.search(secret):
      raise UserError(
        "--secret takes VARIABLE=NAME, the name of a secret in Secret Manager"
        " and not its value: --secret=HF_TOKEN=hf-token"
      )
  values = {
    value: name
    for name, value in environment.items()
    if len(value) >= 8 and name.upper().endswith(SECRET_NAMES)
  }
  for word in arguments:
    found = [name for value, name in values.items() if value in word]
    if found or TOKEN.search(word):
      what = f"the value of ${found[0]}" if found else "what looks like a token"
      raise UserError(
        f"an argument holds {what}; command lines are visible and logged,"
        " use --secret=VARIABLE=NAME"
      )


def current_commit(shell: Shell) -> str:
  """The commit that will be shipped."""
  return shell.read(["git", "-C", str(ROOT), "rev-parse", "HEAD"]).strip()


def archive_of(commit: str) -> Path:
  """Where the archive of a commit is kept."""
  cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(cache) / "cooper_jax" / "launch" / f"cooper-{commit[:12]}.tar.gz"


def pack(shell: Shell, commit: str) -> Path:
  """Archives the files of a commit, and only those: no data, no changes."""
  path = archive_of(commit)
  made = path
  if not shell.dry_run:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another launcher may be sending the same commit.
    made = path.with_name(f"{path.name}.{os.getpid()}")
  shell.run(
    ["git", "-C", str(ROOT), "archive", "--format=tar.gz"]
    + [f"--output={made}", commit]
  )
  if made != path:
    made.replace(path)
  return path


def uncommitted(shell: Shell) -> int:
  """How many files differ from the commit and would not be shipped."""
  changed = ["git", "-C", str(ROOT), "status", "--porcelain"]
  return len(shell.read(changed).splitlines())
