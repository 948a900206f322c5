"""Which of the two APIs a request goes to, and how what it made is deleted.

Both offer the same methods, so that nothing else has to know which one it is:
`check_free`, `creations`, `deletions`, `status`, `upload`, `ask`, `owned`.
"""

import shlex
from collections.abc import Callable

from cooper_jax.errors import UserError, nearest
from launch.engine import ComputeEngine
from launch.queued import QueuedResource
from launch.request import Request
from launch.shell import (
  ABSENT,
  SETTLING,
  CommandFailed,
  Shell,
  is_transient,
  one_line,
)

DELETIONS = 30  # tries of each: what is not deleted goes on costing
BACKENDS = {"qr": QueuedResource, "gce": ComputeEngine}


def connect(backend: str, request: Request, shell: Shell):
  """Gives the backend asked for, or that which the accelerator is best on.

  Raises UserError where they don't go together.
  """
  kind = request.accelerator
  chosen = backend or kind.backends[0]
  if chosen not in BACKENDS:
    raise UserError(
      f'no backend "{chosen}"{nearest(chosen, BACKENDS)}; there are'
      f" {', '.join(BACKENDS)}"
    )
  if chosen not in kind.backends:
    raise UserError(
      f"--backend={chosen} does not offer {kind.name}; it is on"
      f" {', '.join(kind.backends)}"
    )
  flex = request.capacity == "flex-start"
  if flex and not 1 <= request.max_hours <= 168:
    raise UserError("--capacity=flex-start needs --max_hours, 168 at most")
  other = "gce" if chosen == "qr" else "qr"
  for flag, value, only in (
    ("max_hours", request.max_hours and not flex, "gce"),
    ("valid_hours", request.valid_hours, "qr"),
    ("reservation", request.reservation, "gce"),
  ):
    if value and chosen != only:
      raise UserError(
        f"--{flag} is nothing that --backend={chosen} can promise; leave it"
        f" out, or take --backend={other} where that has {kind.name}"
      )
  needs = chosen == "gce" and request.capacity == "reserved"
  if needs and not request.reservation:
    raise UserError("--capacity=reserved needs --reservation=NAME on gce")
  return BACKENDS[chosen](request, shell)


def delete(backend, made: int, pause: Callable[[], None]) -> None:
  """Deletes the first things made of a name; what is not there is left out.

  Tries again, after a `pause`, what may go later, and goes on after an error,
  so that one thing that resists doesn't keep the rest running; it is raised in
  the end.
  """
  wrong = []
  for argv in reversed(backend.deletions()[:made]):
    for left in reversed(range(DELETIONS)):
      result = backend.shell.attempt(argv, shielded=True)
      said = result.stderr
      if not result.code or ABSENT.search(said):
        break
      if not left or not (is_transient(said) or SETTLING.search(said)):
        wrong.append(f"{shlex.join(argv)} ({one_line(said)})")
        break
      pause()
  if wrong:
    raise CommandFailed(f"not deleted, do it by hand: {'; '.join(wrong)}")
