"""The device mesh: every device has a place along four named axes."""

import dataclasses
import math

import jax
from jax.sharding import AxisType

from cooper_jax.errors import UserError

AXES = ("data", "fsdp", "sequence", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis; one axis may be -1, "all that are left"."""

  data: int = -1  # copies of the model, each with its part of the batch
  fsdp: int = 1  # parts of each parameter, gathered where it is used
  sequence: int = 1  # parts of each sequence
  tensor: int = 1  # parts of each matrix product


def mesh_shape(config: MeshConfig, devices: int) -> tuple[int, ...]:
  """Sizes of the four axes, the -1 filled in.

  Raises UserError where the devices don't divide up so.
  """
  sizes = dataclasses.astuple(config)
  asked = ", ".join(f"{name}={size}" for name, size in zip(AXES, sizes))
  if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
    raise UserError(
      f"config.mesh is {asked}; allowed: positive sizes, and -1 at most once"
    )
  known = math.prod(size for size in sizes if size != -1)
  fits = devices % known == 0 if -1 in sizes else devices == known
  if not fits:
    raise UserError(
      f"config.mesh is {asked}, which {devices} devices can't fill; make the "
      f"product {devices}, or one axis -1"
    )
  return tuple(devices // known if size == -1 else size for size in sizes)


def make_mesh(config: MeshConfig | None = None, *, devices=None):
  """Makes the mesh; set it with `jax.set_mesh(mesh)`.

  Axes are of type Auto: the compiler spreads the work, as `pjit` did. Under
  the default of `jax.make_mesh`, Explicit, an embedding lookup raises.
  """
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh(
    mesh_shape(config or MeshConfig(), len(devices)),
    AXES,
    axis_types=(AxisType.Auto,) * len(AXES),
    devices=devices,
  )


def own_mesh(mesh=None):
  """The mesh of this process' devices alone; `mesh` if it has no others.

  The axes that shard the model keep their sizes where these fit into one
  process; else the parameters are sharded along fsdp.
  """
  mesh = jax.sharding.get_mesh() if mesh is None else mesh
  here = [
    d for d in mesh.devices.flat if d.process_index == jax.process_index()
  ]
  if len(here) == mesh.size:
    return mesh
  sizes = {name: mesh.shape[name] for name in AXES[1:]}
  fits = len(here) % math.prod(sizes.values()) == 0
  config = MeshConfig(**sizes) if fits else MeshConfig(data=1, fsdp=-1)
  return make_mesh(config, devices=here)


def describe(mesh) -> str:
  """In: a mesh   Out: "data 2 x fsdp 4 x sequence 1 x tensor 1"."""
  return " x ".join(f"{name} {size}" for name, size in mesh.shape.items())


def batch_shards(mesh) -> int:
  """Into how many shards a batch is divided: data x fsdp."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batches(mesh, batches: dict[str, int]) -> None:
  """Raises UserError if a stage's batch does not divide as the mesh asks."""
  shards = batch_shards(mesh)
  for stage, batch in batches.items():
    if batch % shards:
      raise UserError(
        f"config.{stage}.batch is {batch}, which {shards} devices (data x"
        f" fsdp) can't share; make it a multiple of {shards}, or set"
        " config.mesh"
      )
