"""Multi-process runs: start-up, barriers, values agreed on, who writes files.

The environment says whether there are several (`start`). Who takes part in
something is who has devices in the mesh that is set: on a mesh of its own
(`alone`) a process needs no other, so evaluating or drawing is the same code
there as in a run of one process. Nothing here imports jax before `start`.
"""

import contextlib
import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from cooper_jax.errors import Stalled, UserError

GIVEN = ("COOPER_COORDINATOR", "COOPER_PROCESSES", "COOPER_PROCESS")
FOUND = "COOPER_DISTRIBUTED"
# Seconds that one waits for another: hours, for one may draw maps or evaluate
# meanwhile. Who fails or vanishes is noticed sooner (watchdog.py).
LIMIT = 6 * 3600

_meetings = itertools.count()


def read_environment(environment: Mapping[str, str]) -> dict[str, Any] | None:
  """The arguments of `jax.distributed.initialize`, None for one process.

  In: COOPER_COORDINATOR=10.0.0.1:9000 COOPER_PROCESSES=2 COOPER_PROCESS=0
  Out: {"coordinator_address": "10.0.0.1:9000", "num_processes": 2, ..}

  COOPER_DISTRIBUTED=1 gives no arguments: JAX finds the others (TPU pods).
  Raises UserError where they don't fit together.
  """
  given = {name: environment.get(name, "") for name in GIVEN}
  found = environment.get(FOUND, "")
  missing = [name for name, value in given.items() if not value]
  if found not in ("", "0", "1"):
    raise UserError(
      f"{FOUND} is {found!r}; allowed: 1 (JAX finds the others) and 0"
    )
  if found == "1" and len(missing) < len(GIVEN):
    raise UserError(
      f"{FOUND}=1 and {', '.join(n for n in GIVEN if given[n])} are both set;"
      " keep the one or the others"
    )
  if len(missing) == len(GIVEN):
    return {} if found == "1" else None
  if missing:
    raise UserError(
      f"several processes need {', '.join(GIVEN)}; {' and '.join(missing)}"
      f" {'is' if len(missing) == 1 else 'are'} not set"
    )
  address, count, index = given.values()
  host, _, port = address.rpartition(":")
  if not host or not port.isdecimal():
    raise UserError(
      f"COOPER_COORDINATOR is {address!r}; allowed: HOST:PORT of process 0"
    )
  if not count.isdecimal() or not index.isdecimal() or int(count) <= int(index):
    raise UserError(
      f"COOPER_PROCESS is {index!r} and COOPER_PROCESSES {count!r}; allowed:"
      " a number of processes, and 0 up to it less one"
    )
  arguments = {
    "coordinator_address": address,
    "num_processes": int(count),
    "process_id": int(index),
    "cluster_detection_method": "deactivate",
  }
  if host in ("127.0.0.1", "localhost"):  # by default it listens everywhere
    arguments["coordinator_bind_address"] = address
  return arguments


def start() -> None:
  """Joins the other processes, if there are any; before jax is used at all.

  From here on SIGTERM belongs to JAX: a Python handler set later would switch
  off the agreement on a step at which all stop (interrupt.py).
  """
  arguments = read_environment(os.environ)
  if arguments is None:
    return
  import jax

  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(**arguments)


def _distributed() -> bool:
  # Looked up only where jax is loaded already: importing it takes seconds.
  jax = sys.modules.get("jax")
  return jax is not None and jax.distributed.is_initialized()


def count() -> int:
  """How many processes there are in all."""
  return sys.modules["jax"].process_count() if _distributed() else 1


def index() -> int:
  """Index of this process, from 0."""
  return sys.modules["jax"].process_index() if _distributed() else 0


def is_first() -> bool:
  """Whether this is the process that writes files and says how it goes."""
  return index() == 0


def members() -> tuple[int, ...]:
  """The processes with devices in the mesh that is set; all without one."""
  if not _distributed():
    return (0,)
  import jax

  mesh = jax.sharding.get_mesh()
  if mesh.empty:
    return tuple(range(count()))
  return tuple(sorted({device.process_index for device in mesh.devices.flat}))


def several() -> bool:
  """Whether other processes have devices in the mesh that is set."""
  return len(members()) > 1


def share(total: int, what: str) -> range:
  """This process' part of `total` things, in order; UserError if unequal."""
  who = members()
  if total % len(who):
    raise UserError(
      f"{what} is {total}, which {len(who)} processes can't share; make it a"
      f" multiple of {len(who)}"
    )
  size, place = total // len(who), who.index(index()) if len(who) > 1 else 0
  return range(place * size, (place + 1) * size)


@contextlib.contextmanager
def alone():
  """Sets the mesh of this process' own devices: no other is needed there."""
  if not several():
    yield
    return
  import jax

  from cooper_jax.parallel.mesh import own_mesh

  with jax.set_mesh(own_mesh()):
    yield


def first_alone(what: str, work: Callable):
  """work() of process 0, on its own devices; None in the others, which wait."""
  done = None
  if is_first():
    with alone():
      done = work()
  barrier(what)
  return done


def in_turn(what: str, make: Callable):
  """Makes what all processes need on disk: process 0 first, then the others.

  The others find it, or make it again where their disk is another one.
  """
  made = first_alone(what, make)
  if is_first():
    return made
  with alone():
    return make()


def barrier(what: str, *, limit: float = LIMIT) -> None:
  """Waits until every member is here; raises Stalled after `limit` s."""
  who = members()
  if len(who) == 1:
    return
  name = f"cooper/{next(_meetings)} {what}"
  with _patient(what, limit):
    client().wait_at_barrier(name, int(1000 * limit), list(who))


def agree(what: str, value, *, limit: float = LIMIT):
  """Gives process 0's value, which is plain JSON, to every member."""
  who = members()
  if len(who) == 1:
    return value
  key = f"cooper/{next(_meetings)} {what}"
  if index() == who[0]:
    client().key_value_set(key, json.dumps(value))
    return value
  with _patient(what, limit):
    return json.loads(client().blocking_key_value_get(key, int(1000 * limit)))


def gather(what: str, value, *, limit: float = LIMIT) -> list | None:
  """Every member's value, plain JSON, in process 0; None in the others."""
  who = members()
  if len(who) == 1:
    return [value]
  key = f"cooper/{next(_meetings)} {what}"
  if index() != who[0]:
    client().key_value_set(f"{key}/{index()}", json.dumps(value))
    return None
  with _patient(what, limit):
    wait = functools.partial(
      client().blocking_key_value_get, timeout_in_ms=int(1000 * limit)
    )
    return [value, *(json.loads(wait(f"{key}/{i}")) for i in who[1:])]


def check_same(what: str, make: Callable[[], str]) -> None:
  """Raises UserError in each process whose value is not process 0's."""
  if not several():
    return
  value = make()
  first = agree(what, value)
  if first != value:
    raise UserError(
      f"process {index() + 1} of {count()} has the {what} {value}, process 1"
      f" has {first}; start all with the same command and code"
    )


@contextlib.contextmanager
def _patient(what: str, limit: float):
  try:
    yield
  except Exception as error:  # jaxlib's own class, and many reasons
    if "DEADLINE_EXCEEDED" not in str(error):
      raise
    raise Stalled(
      f"process {index() + 1} of {count()} waited {limit:.0f} s for the others"
      f" ({what}); look at their logs, then run the same command again"
    ) from error


def client():
  """JAX's connection to the coordinator; it has no public name."""
  from jax._src import distributed

  return distributed.global_state.client
