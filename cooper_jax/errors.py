"""The ways a run can end, as exceptions and as exit codes.

Whoever watches a run, a person or a launcher, decides from the exit code
whether to mend the input, to start the same command again, or to look closer.
"""

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_USER = 2  # bad config, data or checkpoint: mend it, then run again
EXIT_WATCHDOG = 42  # no progress for too long
EXIT_NUMERICS = 43  # the loss or a gradient is not finite, or nothing moves
EXIT_PREEMPTED = 75  # state saved: the same command goes on from there


# What a library raises that is missing, broken, or too old for a file.
LIBRARY_FAILS = (
  AttributeError,
  ImportError,
  LookupError,
  OSError,
  RuntimeError,
  TypeError,
  ValueError,
)
# What ends the code of a user's file; sys.exit() would end a run as if done.
CODE_FAILS = (Exception, SystemExit)


class UserError(Exception):
  """Something the user can mend, said in one line without a traceback."""

  exit_code = EXIT_USER


class NumericsError(Exception):
  """Training is lost: not finite, or stuck; the last state is on disk."""

  exit_code = EXIT_NUMERICS


class Stalled(Exception):
  """One of several processes waited too long for the others."""

  exit_code = EXIT_WATCHDOG


class Preempted(KeyboardInterrupt):
  """The run was asked to stop and saved what it had.

  No Exception: whoever catches those for a damaged file or a reward that
  fails would take it for one, and asyncio hands on a KeyboardInterrupt alone.
  """

  exit_code = EXIT_PREEMPTED


def tell(error: BaseException) -> int:
  """Prints the one line of how a run ended; gives its exit code.

  Raises the error again where it is none of these ends.
  """
  if isinstance(error, Preempted):
    print(error, file=sys.stderr)
    return error.exit_code
  if isinstance(error, (UserError, NumericsError, Stalled)):
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code
  if isinstance(error, OSError) and error.errno == errno.ENOSPC:
    print(f"error: the disk is full ({error.filename})", file=sys.stderr)
    return EXIT_USER
  raise error


def unread() -> None:
  """Lets what is still printed go nowhere: of `| head` nobody reads on.

  Call it where a BrokenPipeError is caught.
  """
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def cause(error: BaseException) -> str:
  """The first error of a chain, in one line: the last one hides it."""
  while before := error.__cause__ or error.__context__:
    error = before
  return f"{type(error).__name__}: {' '.join(str(error).split())}"


def nearest(name: str, allowed: Iterable[str], *, prefix: str = "") -> str:
  """Says which allowed name is the closest, or nothing.

  In: nearest("formt", ["answer", "format"])   Out: '; did you mean "format"?'

  name: nothing is near to what is no text. prefix: what stands before the name
  where it is written, as "--".
  """
  if not isinstance(name, str):
    return ""
  close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
  return f'; did you mean "{prefix}{close[0]}"?' if close else ""


def fault(path: str, error: BaseException, shown=str) -> str:
  """Where the code of a file failed, and how, in one line.

  Out: "(a.py, line 3): NameError: name 'x' is not defined"

  path: as the file was named when it was run. shown: error -> its text.
  """
  frames = traceback.extract_tb(error.__traceback__)
  line = next((f.lineno for f in frames[::-1] if f.filename == path), None)
  if isinstance(error, SyntaxError) and error.filename == path:
    line = error.lineno
  at = f"{path}, line {line}" if line else path
  return f"({at}): {type(error).__name__}: {short(error, shown, most=200)}"


def short(value, shown=repr, *, most: int = 60) -> str:
  """A value in one line of at most so many characters."""
  try:
    words = " ".join(shown(value).split())
  except Exception:  # of a class of the user's, or of an endless integer
    words = type(value).__name__
  return words if len(words) <= most else f"{words[: most - 3]}.."


def printable() -> None:
  """Lets `print` write, as "\\xfc", what the locale's encoding has not.

  Under LC_ALL=C a path or an answer with an umlaut would end the run.
  """
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # not where it was replaced
      stream.reconfigure(errors="backslashreplace")
