"""The one place where a process starts; one switch makes it a rehearsal.

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
TAKEN = re.compile(r"ALREADY_EXISTS|already exists", re.I)
# Quotas are mended by a person and capacity by waiting, and both may be
# called RESOURCE_EXHAUSTED, so the words beside it decide.
QUOTA = re.compile(r"quota", re.I)
TRANSIENT = re.compile(
  r"capacity|RESOURCE_POOL_EXHAUSTED|STOCKOUT|UNAVAILABLE|DEADLINE_EXCEEDED|"
  r"internal error|timed? ?out|connection|unable to find the server|"
  r"try again|\b50[0234]\b",
  re.I,
)


class CommandFailed(UserError):
  """A command ended with an error; the text is its last line."""


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
  """The line of an error message that says what is wrong."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  errors = [line for line in lines if line.startswith("ERROR:")]
  return (errors or lines or ["no message"])[-1].removeprefix("ERROR: ")


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
    self, argv: list[str], *, capture: bool = True, shielded: bool = False
  ) -> Result:
    """Runs a command to its end, whatever that is.

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
      )
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
      raise CommandFailed(f"{' '.join(verb)}: {one_line(result.stderr)}")
    return result

  def read(self, argv: list[str]) -> str:
    """Gives what a command on this machine says that changes nothing."""
    return self._checked(argv, Shell().attempt(argv)).stdout
