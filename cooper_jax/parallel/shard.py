"""Shardings of parameters, activations and batches, from their axis names."""

import math

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cooper_jax.errors import UserError, nearest
from cooper_jax.parallel import processes
from cooper_jax.parallel.mesh import batch_shards, own_mesh
from cooper_jax.parallel.rules import TRAIN_RULES, Rules


def path_name(path) -> str:
  """In: (DictKey("layers"), DictKey("q"))   Out: "layers/q"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def partition_spec(names, rules: Rules, *, what: str = "an array"):
  """Translates axis names (None: not sharded) into a PartitionSpec."""
  for name in names:
    if name is not None and name not in rules:
      raise UserError(
        f'{what} has the axis "{name}", which the sharding rules lack; they '
        f"have {', '.join(rules)}{nearest(name, rules)}"
      )
  return PartitionSpec(*(None if n is None else rules[n] for n in names))


def _axes(entry) -> tuple[str, ...]:
  if entry is None:
    return ()
  return (entry,) if isinstance(entry, str) else tuple(entry)


def _check(what: str, shape, names, spec, mesh) -> None:
  described = (
    f"{what} {tuple(shape)} with axes {tuple(names)}, rule {tuple(spec)}, "
    f"mesh {dict(mesh.shape)}"
  )
  if len(names) != len(shape):
    raise UserError(f"{described}: {len(names)} names for {len(shape)} axes")
  used = [axis for entry in spec for axis in _axes(entry)]
  if len(used) != len(set(used)):
    raise UserError(
      f"{described}: one mesh axis can't shard two axes; change the rule"
    )
  for name, size, entry in zip(names, shape, spec):
    pieces = math.prod(mesh.shape[axis] for axis in _axes(entry))
    if size % pieces:
      raise UserError(
        f'{described}: "{name}" of {size} does not divide into {pieces} '
        "shards; change config.mesh or the size"
      )


def _is_boxed(leaf) -> bool:
  # What flax.linen's with_logical_partitioning leaves in a parameter tree.
  return hasattr(leaf, "unbox") and hasattr(leaf, "names")


def unbox(params):
  """Drops the axis names: what is left is a plain tree of arrays."""
  return jax.tree.map(
    lambda leaf: leaf.value if _is_boxed(leaf) else leaf,
    params,
    is_leaf=_is_boxed,
  )


def abstract_shardings(boxed_abstract_params, mesh, rules: Rules = TRAIN_RULES):
  """Gives a NamedSharding per parameter, from the names it was made with.

  Takes `jax.eval_shape(model.init, ...)["params"]` before `unbox`; a
  parameter without names is replicated. Raises UserError naming parameter,
  shape, rule and mesh where they don't fit.
  """

  def one(path, leaf):
    if not _is_boxed(leaf):
      return NamedSharding(mesh, PartitionSpec())
    what = f"parameter {path_name(path)}"
    spec = partition_spec(leaf.names, rules, what=what)
    _check(what, leaf.value.shape, leaf.names, spec, mesh)
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(
    one, boxed_abstract_params, is_leaf=_is_boxed
  )


def placed(abstract, shardings):
  """Shapes with their shardings: a tree of `jax.ShapeDtypeStruct`."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    abstract,
    shardings,
  )


def constrain(x, *names: str | None, rules: Rules = TRAIN_RULES):
  """Fixes the sharding of an activation [...]; `names` has one entry per axis.

  Raises RuntimeError when no mesh is set. Linen's own constraint does
  nothing then, without a word.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    raise RuntimeError(
      "constrain() needs a mesh; run inside jax.set_mesh(make_mesh(...))"
    )
  if len(names) != x.ndim:
    raise ValueError(f"{len(names)} axis names for an array {x.shape}")
  spec = spec_for(x.shape, *names, rules=rules)
  return jax.lax.with_sharding_constraint(x, spec)


def spec_for(shape, *names: str | None, rules: Rules = TRAIN_RULES):
  """PartitionSpec of an activation on the mesh that is set.

  Whatever does not divide stays whole: a batch of one while sampling.
  """
  spec = partition_spec(names, rules)
  return PartitionSpec(
    *(
      entry if size % _shards(entry) == 0 else None
      for size, entry in zip(shape, spec, strict=True)
    )
  )


def local_size(shape, *names: str | None) -> int:
  """Numbers of an activation that one device of the mesh that is set has."""
  spec = spec_for(shape, *names)
  return math.prod(shape) // math.prod(map(_shards, spec))


def pieces(name: str, rules: Rules = TRAIN_RULES) -> int:
  """Into how many shards an axis is divided on the mesh that is set."""
  return _shards(rules[name])


def _shards(entry) -> int:
  mesh = jax.sharding.get_abstract_mesh()
  return math.prod(mesh.shape[axis] for axis in _axes(entry))


def batch_sharding(mesh, rules: Rules = TRAIN_RULES) -> NamedSharding:
  """Sharding of a batch: along its first axis."""
  return NamedSharding(mesh, PartitionSpec(rules["batch"]))


def replicated(mesh) -> NamedSharding:
  """Sharding of what every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def own_rows(total: int) -> list[int]:
  """The rows of a batch that this process' devices hold, in order."""
  if not processes.several():
    return list(range(total))
  mesh = jax.sharding.get_mesh()
  if total % batch_shards(mesh):
    raise UserError(
      f"a batch of {total} does not divide into {batch_shards(mesh)} shards"
      " (data x fsdp); make it a multiple, or set config.mesh"
    )
  places = batch_sharding(mesh).addressable_devices_indices_map((total,))
  found = {i for (part,) in places.values() for i in range(total)[part]}
  return sorted(found)


def spread(rows):
  """Each process' own rows (see `own_rows`) as arrays of the whole batch.

  What one process holds is the batch: it stays as it is.
  """
  if not processes.several():
    return rows
  sharding = batch_sharding(jax.sharding.get_mesh())
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    rows,
  )


def whole(tree):
  """Arrays of several processes as host arrays, whole in each of them.

  All have to call it, unless every array is replicated. Arrays of one process
  stay as they are.
  """
  leaves = jax.tree.leaves(tree)
  if all(getattr(leaf, "is_fully_addressable", True) for leaf in leaves):
    return tree
  if not all(leaf.is_fully_replicated for leaf in leaves):
    everywhere = replicated(jax.sharding.get_mesh())
    tree = jax.jit(_same, out_shardings=everywhere)(tree)
  return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), tree)


def own_copy(tree):
  """A copy on each of this process' devices of the mesh (see `whole`)."""
  return jax.device_put(whole(tree), replicated(own_mesh()))


def _same(tree):
  return tree


def state_shardings(abstract_state, param_shardings, mesh):
  """Shardings of a TrainState: moments and averages as their parameters.

  Optimiser moments are trees of the parameters' shapes under longer paths:
  a leaf takes the sharding of the parameter whose path ends its own.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(param_shardings)
  known = {path_name(path): sharding for path, sharding in leaves}

  def one(path, leaf):
    parts = path_name(path).split("/")
    for start in range(len(parts)):
      sharding = known.get("/".join(parts[start:]))
      if sharding is not None and len(sharding.spec) <= leaf.ndim:
        return sharding
    return replicated(mesh)

  return jax.tree_util.tree_map_with_path(one, abstract_state)
