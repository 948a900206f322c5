"""What the table says: of moved parameters, and of a growing slice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import base
from cooper_jax.parallel import hlo
from cooper_jax.parallel.mesh import MeshConfig, make_mesh
from cooper_jax.plan.table import whole
from cooper_jax.policy import abstract_state, make_policy
from cooper_jax.training import optim

LAYERS, WIDTH, ROWS, WORDS = 5, 32, 16, 96
pytestmark = pytest.mark.skipif(
  len(jax.devices()) < 8, reason="needs 8 devices"
)


def moved_and_params(at_once: bool):
  """Five layers, gathered one by one or, as they must not be, at once."""
  mesh = make_mesh(MeshConfig(data=1, fsdp=8))
  cut = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
  rows = NamedSharding(mesh, PartitionSpec("fsdp"))

  def run(matrices, table, x):
    if at_once:
      everywhere = NamedSharding(mesh, PartitionSpec())
      matrices = jax.lax.with_sharding_constraint(matrices, everywhere)

    def layer(x, matrix):
      y = jnp.tanh(x @ matrix)
      return jax.lax.with_sharding_constraint(y, rows), None

    return (jax.lax.scan(layer, x, matrices)[0] @ table).sum()

  shapes = [((LAYERS, WIDTH, WIDTH), cut), ((WIDTH, WORDS), rows)]
  shapes.append(((ROWS, WIDTH), rows))
  with jax.set_mesh(mesh):
    given = [
      jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding)
      for shape, sharding in shapes
    ]
    text = jax.jit(run).lower(*given).compile().as_text()
  names = ("decoder/blocks/up/kernel", "table")
  return hlo.collectives(text), dict(zip(names, given, strict=False))


def test_layers_that_are_moved_at_once_are_named():
  assert not [
    each for each in whole(*moved_and_params(False)) if "blocks" in each
  ]
  found = whole(*moved_and_params(True))
  assert "decoder/blocks/up/kernel (all-gather) x 1" in found


def test_tables_are_known_by_their_sides():
  table = jax.ShapeDtypeStruct(
    (WORDS, WIDTH), np.float32,
    sharding=moved_and_params(False)[1]["table"].sharding,
  )  # fmt: skip
  params = {"blocks/x": moved_and_params(False)[1]["decoder/blocks/up/kernel"]}
  params = {"decoder/blocks/x": params["blocks/x"], "table": table}
  shapes = {
    (WORDS, WIDTH): 1, (1, WIDTH, WORDS - 4): 1, (WORDS // 8, WIDTH): 0,
    (ROWS, WORDS, WIDTH): 0,
  }  # fmt: skip
  for shape, count in shapes.items():
    moved = [hlo.Collective("all-reduce", (("f32", shape),), 1)]
    assert len(whole(moved, params)) == count, shape


def test_what_a_device_keeps_falls_as_devices_are_added():
  config = base.get_base("0p6b", ("sft",))
  policy = make_policy(config)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**config.sft.optim), steps=10
  )
  kept = []
  for count in (2, 4, 8):
    mesh = make_mesh(
      MeshConfig(data=1, fsdp=count), devices=jax.devices()[:count]
    )
    with jax.set_mesh(mesh):
      state = abstract_state(policy, optimizer)
    kept.append(
      sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape)))
        * leaf.dtype.itemsize
        for leaf in jax.tree.leaves((state.params, state.opt_state))
      )
    )
  for size, parts in zip(kept, (1, 2, 4), strict=True):
    assert size == pytest.approx(kept[0] / parts, rel=0.02)
