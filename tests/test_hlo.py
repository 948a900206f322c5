"""Collectives are found, sized and counted as often as they run."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cooper_jax.parallel import hlo
from cooper_jax.parallel import mesh as meshes

LAYERS, WIDTH, ROWS = 5, 32, 16


def compiled():
  """Five layers of cut matrices in a loop, a sum over all devices after it."""
  mesh = meshes.make_mesh(meshes.MeshConfig(data=1, fsdp=8))
  cut = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
  rows = NamedSharding(mesh, PartitionSpec("fsdp"))

  def run(matrices, x):
    def layer(x, matrix):
      y = jnp.tanh(x @ matrix)
      return jax.lax.with_sharding_constraint(y, rows), None

    return jax.lax.scan(layer, x, matrices)[0].sum()

  with jax.set_mesh(mesh):
    return (
      jax.jit(run, in_shardings=(cut, rows))
      .lower(
        jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), np.float32),
        jax.ShapeDtypeStruct((ROWS, WIDTH), np.float32),
      )
      .compile()
    )


def test_a_loop_of_gathers_is_counted_with_its_trips():
  found = hlo.collectives(compiled().as_text())
  gathers = [each for each in found if each.kind == "all-gather"]
  (gather,) = gathers
  # One layer at a time, never all of them.
  assert gather.size == 4 * WIDTH * WIDTH and gather.times == LAYERS
  sent = hlo.totals(found)
  assert sent["all-gather"] == LAYERS * 4 * WIDTH * WIDTH
  assert sent["all-reduce"] == 4


TEXT = """\
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %s = f32[] add(%a, %b)
}

%inner (p: (s32[], bf16[8])) -> (s32[], bf16[8]) {
  %g = bf16[8,4]{1,0} all-gather(%x), dimensions={0}, to_apply=%add
}

%outer (p: (s32[])) -> (s32[]) {
  %w = (s32[]) while(%t), condition=%c, body=%inner, \
backend_config={"known_trip_count":{"n":"3"}}
}

ENTRY %main (p: f32[2]) -> f32[2] {
  %w = (s32[]) while(%t), condition=%c, body=%outer, \
backend_config={"known_trip_count":{"n":"7"}}
  %r = (f32[2]{0}, f32[3]{0}) all-reduce(%p, %q), to_apply=%add
  %s = (f32[2]{0}, f32[16]{0}) all-gather-start(%p), dimensions={0}
  %d = f32[16]{0} all-gather-done(%s)
}
"""


def test_a_loop_of_unknown_length_has_the_trips_that_it_is_given():
  text = TEXT.replace('{"known_trip_count":{"n":"7"}}', "{}")
  times = [each.times for each in hlo.collectives(text, trips=4)]
  assert sorted(times) == [1, 1, 12]


def test_loops_in_loops_multiply_and_starts_count_their_result():
  found = hlo.collectives(TEXT)
  by_size = sorted((each.size, each.times, each.kind) for each in found)
  assert by_size == [
    (20, 1, "all-reduce"),
    (64, 1, "all-gather"),
    (64, 21, "all-gather"),
  ]
