"""Collectives of a compiled program: what its devices send, read off its text.

The compiler's own cost analysis counts the body of a loop once. Here every
computation is counted as often as it runs: a loop says how many trips it makes
(`known_trip_count`), or its condition compares a counter with the most that it
makes, as it does on a TPU and in a loop that may end before.
"""

import collections
import dataclasses
import math
import re

COLLECTIVES = (
  "all-gather", "all-reduce", "reduce-scatter", "all-to-all",
  "collective-permute",
)  # fmt: skip
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_OP = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\((.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")
_TRIPS = re.compile(r"known_trip_count[^\d]*(\d+)")
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_CONDITION = re.compile(r" while\(.*\bcondition=%?([\w.\-]+)")
_CONSTANT = re.compile(r"%([\w.\-]+) = [su]32\[\]\S* constant\((\d+)\)")
_LESS = re.compile(r" compare\(%[\w.\-]+, %([\w.\-]+)\), direction=LT")
_CALLED = re.compile(r"\b(?:body|condition|calls|to_apply)=%?([\w.\-]+)")
_EITHER = re.compile(r"\b(?:true|false)_computation=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective operation of a program."""

  kind: str
  arrays: tuple[tuple[str, tuple[int, ...]], ...]  # (dtype, shape) it yields
  times: int  # that it runs in one call of the program

  @property
  def size(self) -> int:
    """Bytes of its result on each device, once."""
    return sum(_width(kind) * math.prod(shape) for kind, shape in self.arrays)


def _width(kind: str) -> int:
  return {"pred": 1, "bf16": 2}.get(kind) or max(1, int(kind[1:]) // 8)


def collectives(text: str) -> list[Collective]:
  """The collectives of a compiled program's text (`compiled.as_text()`)."""
  bodies, entry = computations(text)
  times = _times(bodies, entry)
  found = {}
  for name, lines in bodies.items():
    for line in lines:
      match = _OP.search(line)
      if match and times[name]:
        arrays = [
          (kind, tuple(int(n) for n in dims.split(",") if n))
          for kind, dims in _ARRAY.findall(match[1])
        ]
        if match[3]:  # operands, results and, perhaps, numbers of its own
          arrays = [array for array in arrays if array[1]] or arrays
          arrays = arrays[len(arrays) // 2 :]
        each = Collective(match[2], tuple(arrays), times[name])
        # One that goes on beside other work stands in every fusion of that,
        # and runs as often as the one that begins it.
        channel = _CHANNEL.search(line)
        key = channel[1] if channel else len(found)
        if key not in found or 0 < each.times < found[key].times:
          found[key] = each
  return list(found.values())


def totals(found: list[Collective]) -> dict[str, int]:
  """Bytes a device receives in one call, by kind.

  Of a sum over all, twice its size: the parts to be added, and those added.
  """
  out = collections.Counter()
  for each in found:
    twice = 1 + (each.kind == "all-reduce")
    out[each.kind] += twice * each.size * each.times
  return dict(out)


def computations(text: str) -> tuple[dict[str, list[str]], str | None]:
  """Lines of each computation, by its name, and the entry's name."""
  bodies, entry, name = {}, None, None
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head and not line.startswith(" "):
      name = head[1]
      bodies[name] = []
      entry = name if line.startswith("ENTRY") else entry
    elif name:
      bodies[name].append(line)
  return bodies, entry


def _times(bodies, entry) -> dict[str, int]:
  """How often each computation runs; callees stand before their callers."""
  times = collections.Counter({entry: 1})
  for name in reversed(list(bodies)):
    for line in bodies[name]:
      for other in [*_CALLED.findall(line), *branches(line)]:
        times[other] += times[name] * trips(line, bodies)
  return times


def branches(line: str) -> list[str]:
  """Computations of which a conditional runs one; of other lines none."""
  found = _BRANCHES.search(line)
  if found:
    return [part.strip().lstrip("%") for part in found[1].split(",")]
  return _EITHER.findall(line)


def trips(line: str, bodies: dict[str, list[str]]) -> int:
  """How often a line's computations run each time that it does; 1: unknown."""
  loop, known = _CONDITION.search(line), _TRIPS.search(line)
  if not loop or known:
    return int(known[1]) if loop else 1
  condition = "\n".join(bodies.get(loop[1], ()))
  constants = dict(_CONSTANT.findall(condition))
  bounds = [constants.get(name) for name in _LESS.findall(condition)]
  return max((int(bound) for bound in bounds if bound), default=1)
