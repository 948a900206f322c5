"""Meshes of TPU slices that are not here, for which programs can be compiled.

The TPU compiler (libtpu) describes any slice on an ordinary machine. Nothing
can be run there: under such a mesh every eager operation fails, so whoever
uses it works with shapes alone.
"""

import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from cooper_jax.errors import UserError
from cooper_jax.parallel import mesh
from cooper_jax.parallel.chips import Slice

_INSTALL = 'pip install "jax[tpu]"'


def absent_mesh(found: Slice, config: mesh.MeshConfig) -> Mesh:
  """The mesh that a run would make on a slice.

  Several slices are copies of each other along `data`, the one axis that
  crosses the data-centre network.

  Raises UserError where the slice is not of TPUs, libtpu is not installed or
  does not know it, or the mesh does not fit it.
  """
  sizes = mesh.mesh_shape(config, found.devices)
  if not found.chip.is_tpu:
    raise UserError(
      f"{found.name} is of GPUs, and only TPUs can be compiled for here; use"
      " --plan, which does the arithmetic"
    )
  if sizes[0] % found.slices:
    raise UserError(
      f"config.mesh.data is {sizes[0]}, which {found.slices} slices can't"
      " share; only data crosses slices, make it a multiple of their number"
    )
  devices = _describe(found)
  inner = (sizes[0] // found.slices, *sizes[1:])
  from jax.experimental import mesh_utils

  if found.slices > 1:
    placed = mesh_utils.create_hybrid_device_mesh(
      inner, (found.slices, 1, 1, 1), devices,
      allow_split_physical_axes=True,
    )  # fmt: skip
  else:
    placed = mesh_utils.create_device_mesh(
      inner, devices, allow_split_physical_axes=True
    )
  auto = (AxisType.Auto,) * len(mesh.AXES)
  return Mesh(np.asarray(placed), mesh.AXES, axis_types=auto)


def _describe(found: Slice) -> list:
  """The devices of a slice, as libtpu describes them."""
  # Else libtpu asks a metadata server that only a TPU VM has, and complains.
  for name, value in (
    ("TPU_SKIP_MDS_QUERY", "1"),
    ("TPU_ACCELERATOR_TYPE", "v5litepod-16"),
    ("TPU_WORKER_HOSTNAMES", "localhost"),
    ("TPU_WORKER_ID", "0"),
    # No chip is opened: others that compile, or were killed, do not matter.
    ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
  ):
    os.environ.setdefault(name, value)
  from jax.experimental import topologies

  options = dict(found.chip.options)
  if found.slices > 1:
    options["num_slices"] = found.slices
  try:
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=found.topology, **options
    )
  except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:
    said = str(error).strip().splitlines()
    raise UserError(
      f"no compiler for {found.name}: {said[0][:200] if said else error!r};"
      f" it comes with libtpu: {_INSTALL}"
    ) from error
  if len(described.devices) != found.devices:
    raise UserError(
      f"libtpu describes {found.name} with {len(described.devices)} devices,"
      f" expected {found.devices}; install another libtpu, or take --plan"
    )
  return list(described.devices)


def abstract(tree, sharding):
  """Shapes of a tree's arrays, all with one sharding."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding),
    tree,
  )
