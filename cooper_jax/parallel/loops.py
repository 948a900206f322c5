"""Kernels of a compiled program, counted by the loop that starts them.

Beside a small model, what a token costs on an accelerator is its reads and, for
each kernel, the time to start it. A fusion is one kernel whatever it holds, and
so is a copy or a product that stands alone; what only names or arranges (a
tuple, a bitcast) is none, nor is the end of what began before (`copy-done`).
"""

import collections
import dataclasses
import re

from cooper_jax.parallel import hlo

_OPCODE = re.compile(r"= .*?[\]})] ([a-z][\w\-]*)\(")
_LOOP = re.compile(r"\bbody=%?([\w.\-]+)")
_INLINE = re.compile(r"\bto_apply=%?([\w.\-]+)")
_CALLS = re.compile(r"\bcalls=%?([\w.\-]+)")
_SCALAR = re.compile(r"= \w+\[\]\S* ")
FREE = {
  "add-dependency", "after-all", "bitcast", "call", "conditional", "constant",
  "domain", "get-tuple-element", "opt-barrier", "parameter", "partition-id",
  "replica-id", "tuple", "while",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class KernelLoop:
  """What one trip of a loop starts; a whole program is a loop of one trip."""

  trips: int  # at most
  kinds: dict[str, int]  # kernels by operation, those of inner loops apart
  loops: tuple["KernelLoop", ...]  # directly in it

  @property
  def own(self) -> int:
    """Kernels of a trip, those of inner loops apart."""
    return sum(self.kinds.values())

  @property
  def a_trip(self) -> int:
    """Kernels of a trip with all trips of the loops in it."""
    return self.own + sum(each.trips * each.a_trip for each in self.loops)

  def inner(self):
    """Yields every loop below this one, an outer before those in it."""
    for each in self.loops:
      yield each
      yield from each.inner()


def read(text: str) -> KernelLoop:
  """The loops of a compiled program's text (`compiled.as_text()`).

  Of the branches of a conditional one runs: the one with the most kernels
  counts. What goes from single numbers to a single number, as a loop's counter
  does, is the scalar unit's and no kernel.
  """
  bodies, entry = hlo.computations(text)
  return _loop(entry, 1, bodies)


def _loop(name: str, trips: int, bodies) -> KernelLoop:
  kinds, loops = collections.Counter(), []
  for line in bodies.get(name, ()):
    opcode = _OPCODE.search(line)
    if not opcode:
      continue
    kind = opcode[1]
    parts = []
    if kind == "while":
      loops.append(
        _loop(_LOOP.search(line)[1], hlo.trips(line, bodies), bodies)
      )
    elif kind == "conditional":
      parts = [_loop(branch, 1, bodies) for branch in hlo.branches(line)]
      parts = [max(parts, key=lambda part: part.a_trip)]
    elif kind == "call":
      parts = [_loop(_INLINE.search(line)[1], 1, bodies)]
    elif not (
      kind in FREE
      or kind.endswith(("-done", "-update"))
      or _counts(line, bodies)
    ):
      kinds[kind] += 1
    for part in parts:
      kinds.update(part.kinds)
      loops.extend(part.loops)
  return KernelLoop(trips, dict(kinds), tuple(loops))


def _counts(line: str, bodies) -> bool:
  """Whether a line makes a single number of single numbers."""
  if not _SCALAR.search(line):
    return False
  called = _CALLS.search(line)
  inside = bodies.get(called[1], ()) if called else ()
  return all(_SCALAR.search(each) for each in inside if " parameter(" in each)
