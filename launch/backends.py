"""Which of the two APIs a request goes to, and how what it made is deleted.

Both offer the same methods, so that nothing else has to know which one it is:
`check_free`, `creations`, `deletions`, `status`, `upload`, `ask`, `owned`.
"""

import shlex

from cooper_jax.errors import UserError, nearest
from launch.engine import ComputeEngine
from launch.queued import QueuedResource
from launch.request import Request
from launch.shell import ABSENT, CommandFailed, Shell, one_line

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
  if request.capacity == "flex-start" and not request.max_hours:
    raise UserError("--capacity=flex-start needs --max_hours, 168 at most")
  needs = chosen == "gce" and request.capacity == "reserved"
  if needs and not request.reservation:
    raise UserError("--capacity=reserved needs --reservation=NAME on gce")
  return BACKENDS[chosen](request, shell)


def delete(backend, made: int) -> None:
  """Deletes the first things made of a name; what is not there is left out.

  Goes on after an error, so that one thing that resists doesn't keep the rest
  running, and raises it in the end.
  """
  wrong = []
  for argv in reversed(backend.deletions()[:made]):
    result = backend.shell.attempt(argv, shielded=True)
    if result.code and not ABSENT.search(result.stderr):
      wrong.append(f"{shlex.join(argv)} ({one_line(result.stderr)})")
  if wrong:
    raise CommandFailed(f"not deleted, do it by hand: {'; '.join(wrong)}")
