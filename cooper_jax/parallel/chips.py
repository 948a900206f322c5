"""Accelerators by name: what a chip holds and does, and how slices are named.

Needs nothing but Python, so that a launcher or a plan can ask. Figures are
those of the vendors' pages of 2026: peak in bfloat16, memory and its bandwidth
per chip; a link's bandwidth is of all links of a chip, both ways.
"""

import dataclasses
import math
import re

from cooper_jax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip (a GPU is one chip)."""

  name: str
  teraflops: float  # bf16 a second
  memory_gb: float  # 1e9 bytes
  memory_gb_s: float  # bandwidth
  link_gb_s: float  # between the chips of a slice or node
  dimensions: int  # of the torus; 0 = all to all
  largest: int  # chips of a slice or node
  per_device: float = 1.0  # share of a chip that a JAX device is
  options: tuple[tuple[str, object], ...] = ()  # of the topology's description

  @property
  def is_tpu(self) -> bool:
    """Whether it is a TPU, else a GPU."""
    return self.dimensions > 0

  @property
  def platform(self) -> str:
    """As JAX names it."""
    return "tpu" if self.is_tpu else "gpu"


_GIB = 1024**3 / 1e9
CHIPS = {
  chip.name: chip
  for chip in (
    Chip(
      "v4", 275, 32 * _GIB, 1200, 600, 3, 4096,
      options=(
        ("chip_config_name", "megacore"),
        ("chips_per_host_bounds", (2, 2, 1)),
      ),
    ),
    Chip("v5e", 197, 16, 819, 400, 2, 256),
    Chip("v5p", 459, 95 * _GIB, 2765, 1200, 3, 8960),
    Chip("v6e", 918, 32, 1638, 800, 2, 256),
    Chip("tpu7x", 2307, 192 * _GIB, 7380, 1200, 3, 9216, per_device=0.5),
    Chip("h100", 989, 80, 3350, 900, 0, 8),
    Chip("h200", 989, 141, 4800, 900, 0, 8),
  )
}  # fmt: skip
_FORM = re.compile(r"(\w+):(\d+(?:x\d+)*)(?:,num_slices=(\d+))?")
# That resolve for compiling, and are sold; a plan goes through these.
LISTED = (
  "v4:2x2x2", "v4:4x4x4", "v5e:2x2", "v5e:2x4", "v5e:4x4", "v5e:8x8",
  "v5e:16x16", "v5p:2x2x1", "v5p:2x2x2", "v5p:4x4x4", "v5p:4x4x8",
  "v6e:2x2", "v6e:2x4", "v6e:4x4", "v6e:8x8", "v6e:16x16", "tpu7x:2x2x1",
  "tpu7x:4x4x4", "h100:8", "h100:8,num_slices=2",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips wired together, or several such over the data-centre network."""

  chip: Chip
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def chips(self) -> int:
    """Of all slices."""
    return math.prod(self.shape) * self.slices

  @property
  def devices(self) -> int:
    """JAX devices of all slices."""
    return round(self.chips / self.chip.per_device)

  @property
  def topology(self) -> str:
    """Of one slice, as the compiler names it: "v6e:16x16"."""
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  @property
  def name(self) -> str:
    """As `find_slice` takes it: "v5e:16x16,num_slices=2"."""
    more = f",num_slices={self.slices}" if self.slices > 1 else ""
    return self.topology + more


def find_slice(name: str) -> Slice:
  """In: "v5e:16x16,num_slices=2"   Out: the Slice.

  Raises UserError, with what is allowed, for another name or size.
  """
  found = _FORM.fullmatch(name)
  kind = name.partition(":")[0]
  if kind not in CHIPS or not found:
    raise UserError(
      f'no topology "{name}"; write CHIP:SIZES[,num_slices=N], as in'
      f" v6e:16x16, with a chip of {', '.join(CHIPS)}{nearest(kind, CHIPS)}"
    )
  chip = CHIPS[kind]
  shape = tuple(int(size) for size in found[2].split("x"))
  slices = int(found[3] or 1)
  if len(shape) != max(chip.dimensions, 1):
    raise UserError(
      f'topology "{name}" has {len(shape)} sizes, a slice of {kind} has'
      f" {max(chip.dimensions, 1)}; write {kind}:"
      f"{'x'.join('N' * max(chip.dimensions, 1))}"
    )
  if not 1 <= math.prod(shape) <= chip.largest or slices < 1:
    raise UserError(
      f'topology "{name}" has {math.prod(shape)} chips in {slices} slices; a'
      f" slice of {kind} has 1 to {chip.largest}; write smaller sizes, or more"
      " slices"
    )
  return Slice(chip, shape, slices)
