"""The accelerators by name: how many chips, and what each cloud API calls it.

The number in a name counts TensorCores for v4, v5p and tpu7x and chips for v5e
and v6e; nobody should have to remember that to learn how many hosts will run.
"""

import dataclasses

from cooper_jax.errors import UserError, nearest

CHIPS_PER_HOST = 4
IMAGE_PROJECT = "ubuntu-os-accelerator-images"
TORUS = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16"
PLANE = "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16"


@dataclasses.dataclass(frozen=True)
class Generation:
  """What all sizes of a TPU generation have in common."""

  prefix: str  # of the accelerator type
  chip: str  # as --topology names it
  shapes: str
  cores_per_chip: int  # of those that the accelerator type counts
  devices_per_chip: int = 1
  # Queued resources ask for a runtime version, Compute Engine for the others.
  runtime_version: str = ""
  image_family: str = ""
  machine_type: str = ""


_IMAGE_2204 = "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"
GENERATIONS = (
  Generation("v4", "v4", TORUS, 2, runtime_version="tpu-ubuntu2204-base"),
  Generation(
    "v5litepod", "v5e", PLANE, 1, runtime_version="v2-alpha-tpuv5-lite"
  ),
  Generation(
    "v5p",
    "v5p",
    TORUS,
    2,
    runtime_version="v2-alpha-tpuv5",
    image_family=_IMAGE_2204,
    machine_type="ct5p-hightpu",
  ),
  Generation(
    "v6e",
    "v6e",
    PLANE,
    1,
    runtime_version="v2-alpha-tpuv6e",
    image_family=_IMAGE_2204,
    machine_type="ct6e-standard",
  ),
  # Not offered by the older API; a JAX device is a core here, not a chip.
  Generation(
    "tpu7x",
    "tpu7x",
    TORUS,
    2,
    devices_per_chip=2,
    image_family="ubuntu-accel-2404-amd64-tpu-tpu7x",
    machine_type="tpu7x-standard",
  ),
)


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """One size of a generation."""

  name: str
  generation: Generation
  shape: str  # chips along each axis, "4x4"
  chips: int
  hosts: int
  devices: int  # as jax.device_count() has it

  @property
  def topology(self) -> str:
    """As --topology takes it: v6e:4x4."""
    return f"{self.generation.chip}:{self.shape}"

  @property
  def machine_type(self) -> str:
    """Of each host on Compute Engine: its chips stand after the name."""
    return f"{self.generation.machine_type}-{self.chips // self.hosts}t"

  @property
  def backends(self) -> tuple[str, ...]:
    """Which of the two APIs offer it; the first is the default."""
    offered = {
      "qr": self.generation.runtime_version,
      "gce": self.generation.machine_type,
    }
    return tuple(name for name, by in offered.items() if by)


def _make(generation: Generation, shape: str) -> Accelerator:
  chips = 1
  for side in shape.split("x"):
    chips *= int(side)
  # Eight chips of the flat generations are one large host.
  single = chips <= CHIPS_PER_HOST or shape == "2x4"
  return Accelerator(
    name=f"{generation.prefix}-{chips * generation.cores_per_chip}",
    generation=generation,
    shape=shape,
    chips=chips,
    hosts=1 if single else chips // CHIPS_PER_HOST,
    devices=chips * generation.devices_per_chip,
  )


ACCELERATORS = {
  made.name: made
  for generation in GENERATIONS
  for made in (_make(generation, s) for s in generation.shapes.split())
}


def find(name: str) -> Accelerator:
  """Gives the accelerator of a name; v5e-16 is another word for v5litepod-16.

  Raises UserError with the known names.
  """
  asked = name.lower().replace("v5e-", "v5litepod-")
  if asked not in ACCELERATORS:
    raise UserError(
      f'no accelerator "{name}"{nearest(asked, ACCELERATORS)}; known:'
      f" {', '.join(ACCELERATORS)}"
    )
  return ACCELERATORS[asked]
