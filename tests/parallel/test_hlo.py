"""Collectives are found, sized and counted as often as they run."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cooper_jax.parallel import hlo
from cooper_jax.parallel.mesh import MeshConfig, make_mesh

LAYERS, WIDTH, ROWS = 5, 32, 16


def compiled():
  """Five layers of cut matrices in a loop, a sum over all devices after it."""
  mesh = make_mesh(MeshConfig(data=1, fsdp=8))
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
  assert sent["all-reduce"] == 8


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
  %u = (f32[5]{0}, f32[5]{0}, u32[], u32[]) collective-permute-start(%p), \
channel_id=9
  %v = f32[4]{0} all-gather(%p), channel_id=7
}
"""


CONDITION = """\
%c (p: (s32[], pred[8])) -> pred[] {
  %bound.1 = s32[]{:T(128)} constant(4), metadata={}
  %other = pred[]{:T(128)} constant(false)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %lt = pred[]{:T(128)} compare(%i, %bound.1), direction=LT, metadata={}
  ROOT %both = pred[] and(%lt, %any)
}

"""


def test_a_loop_may_say_in_its_condition_how_many_trips_it_makes():
  text = TEXT.replace('{"known_trip_count":{"n":"7"}}', "{}")
  times = [each.times for each in hlo.collectives(CONDITION + text)]
  assert sorted(times) == [1, 1, 1, 1, 12]
  # Of one that does not, a trip is all that is known.
  assert sorted(each.times for each in hlo.collectives(text)) == [1, 1, 1, 1, 3]


def test_one_that_goes_on_beside_a_loop_counts_once():
  there = "  %g = bf16[8,4]{1,0} all-gather(%x),"
  text = TEXT.replace(
    there, "  %f = f32[4]{0} all-gather(%p), channel_id=7\n" + there
  )
  fused = [each for each in hlo.collectives(text) if each.size == 16]
  assert [each.times for each in fused] == [1]


def test_loops_in_loops_multiply_and_starts_count_their_result():
  found = hlo.collectives(TEXT)
  by_size = sorted((each.size, each.times, each.kind) for each in found)
  assert by_size == [
    (16, 1, "all-gather"),
    (20, 1, "all-reduce"),
    (20, 1, "collective-permute"),
    (64, 1, "all-gather"),
    (64, 21, "all-gather"),
  ]
