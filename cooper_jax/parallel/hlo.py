"""What a compiled program sends between devices, read off its text.

The compiler's own cost analysis counts the body of a loop once. Here every
computation is counted as often as it runs: a loop says how many trips it makes
(`known_trip_count`); of one that ends when it is done, the caller has to know.
"""

import collections
import dataclasses
import math
import re

KINDS = (
  "all-gather", "all-reduce", "reduce-scatter", "all-to-all",
  "collective-permute",
)  # fmt: skip
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_OP = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\((.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")
_TRIPS = re.compile(r"known_trip_count[^\d]*(\d+)")
_CALLED = re.compile(
  r"(?:body|condition|calls|to_apply|true_computation|false_computation)="
  r"%?([\w.\-]+)"
)
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


def collectives(text: str, *, trips: int = 1) -> list[Collective]:
  """The collectives of a compiled program's text (`compiled.as_text()`).

  trips: of a loop that does not say how many it makes.
  """
  bodies, entry = _computations(text)
  times = _times(bodies, entry, trips)
  found = []
  for name, lines in bodies.items():
    for line in lines:
      match = _OP.search(line)
      if match and times[name]:
        arrays = [
          (kind, tuple(int(n) for n in dims.split(",") if n))
          for kind, dims in _ARRAY.findall(match[1])
        ]
        if match[3]:  # a start yields its operand, too: the result is last
          arrays = (
            arrays[-1:] if len(arrays) < 4 else arrays[len(arrays) // 2 :]
          )
        found.append(Collective(match[2], tuple(arrays), times[name]))
  return found


def totals(found: list[Collective]) -> dict[str, int]:
  """Bytes a device receives in one call, by kind."""
  out = collections.Counter()
  for each in found:
    out[each.kind] += each.size * each.times
  return dict(out)


def _computations(text: str):
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


def _times(bodies, entry, unknown: int) -> dict[str, int]:
  """How often each computation runs; callees stand before their callers."""
  times = collections.Counter({entry: 1})
  for name in reversed(list(bodies)):
    for line in bodies[name]:
      called = _CALLED.findall(line)
      for group in _BRANCHES.findall(line):
        called += [part.strip().lstrip("%") for part in group.split(",")]
      trips = _TRIPS.search(line)
      often = int(trips[1]) if trips else unknown
      often = often if " while(" in line else 1
      for other in called:
        times[other] += times[name] * often
  return times
