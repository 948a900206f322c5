"""The one place where a process starts; one switch makes it a dry run.

Errors of gcloud are turned into one line each, and sorted into those that
another try may not have and those that somebody has to mend.
"""

import dataclasses
import itertools
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable

from cooper_jax.errors import UserError

ABSENT = re.compile(r"NOT_FOUND|not found|could not be fetched", re.I)
# Quotas are mended by a person and capacity by waiting, and both may be
# called RESOURCE_EXHAUSTED, so the words beside it decide.
QUOTA = re.compile(r"quota", re.I)
TRANSIENT = re.compile(
  r"capacity|RESOURCE_POOL_EXHAUSTED|STOCKOUT|enough resources|UNAVAILABLE|"
  r"DEADLINE_EXCEEDED|"
  r"internal error|timed? ?out|connection|unable to find the server|"
  r"try again|\b50[0234]\b",
  re.I,
)


# Of a deletion: what is just being made or unmade can't be deleted yet.
SETTLING = re.compile(
  r"being (created|deleted|updated|used)|in (the )?state|not ready|"
  r"in.?use|FAILED_PRECONDITION",
  re.I,
)
LIMIT_S = 900.0  # that a command whose output is read may take
SHOWN = 300  # characters of an error


class CommandFailed(UserError):
  """A command ended with an error: the text in a line, and all that it said."""

  def __init__(self, message: str, said: str = ""):
    super().__init__(message)
    self.said = said or message

  @property
  def transient(self) -> bool:
    """Whether another try may do; the cause may stand past the line's end."""
    return is_transient(self.said)


@dataclasses.dataclass(frozen=True)
class Result:
  """How a command ended."""

  code: int
  stdout: str = ""
  stderr: str = ""


def is_transient(text: str) -> bool:
  """Tells an error that may be gone later from one that must be mended."""
  return bool(TRANSIENT.search(text)) and not QUOTA.search(text)


def one_line(text: str) -> str:
  """What an error message says is wrong.

  gcloud puts the reason on the same line as ERROR: or as a list below it.
  """
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  lines = lines or ["no message"]
  errors = [i for i, line in enumerate(lines) if line.startswith("ERROR:")]
  said = " ".join(lines[errors[-1] if errors else -1 :])
  said = said.removeprefix("ERROR: ")
  return said if len(said) <= SHOWN else f"{said[:SHOWN]}.."


class Shell:
  """Runs commands, or only prints them where `dry_run`."""

  def __init__(
    self, *, dry_run: bool = False, show: Callable[[str], None] = print
  ):
    self.dry_run, self._show = dry_run, show

  def need(self, program: str, mend: str) -> None:
    """Raises UserError, with how to mend it, if a program is missing."""
    if not self.dry_run and shutil.which(program) is None:
      raise UserError(f"{program} is not on PATH; {mend}")

  def attempt(
    self,
    argv: list[str],
    *,
    capture: bool = True,
    shielded: bool = False,
    limit_s: float = LIMIT_S,
  ) -> Result:
    """Runs a command to its end, whatever that is.

    capture: whether its output is read, not shown; then it ends after
      `limit_s` at the latest, for a host that is gone may never answer.
    shielded: a Ctrl-C at the terminal does not reach it.
    """
    if self.dry_run:
      self._show(shlex.join(argv))
      return Result(0)
    try:
      done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=capture,
        text=True,
        errors="replace",
        check=False,
        start_new_session=shielded,
        timeout=limit_s if capture else None,
      )
    except subprocess.TimeoutExpired:
      return Result(124, stderr=f"timed out after {limit_s:.0f} s")
    except FileNotFoundError:
      return Result(127, stderr=f"{argv[0]} is not on PATH")
    return Result(done.returncode, done.stdout or "", done.stderr or "")

  def run(self, argv: list[str]) -> str:
    """Gives what a command printed; raises CommandFailed if it failed."""
    return self._checked(argv, self.attempt(argv)).stdout

  def describe(self, argv: list[str]):
    """Gives the JSON that a command prints, None where there is no such."""
    result = self.attempt([*argv, "--format=json"])
    if result.code and ABSENT.search(result.stderr):
      return None
    text = self._checked(argv, result).stdout
    return json.loads(text) if text.strip() else None

  def _checked(self, argv: list[str], result: Result) -> Result:
    if result.code:
      verb = itertools.takewhile(lambda word: not word.startswith("-"), argv)
      raise CommandFailed(
        f"{' '.join(verb)}: {one_line(result.stderr)}", result.stderr
      )
    return result

  def read(self, argv: list[str]) -> str:
    """Gives what a command on this machine says that changes nothing."""
    return self._checked(argv, Shell().attempt(argv)).stdout
