"""Kernels are counted by the loop that starts them."""

import jax
import numpy as np
import pytest

from cooper_jax.parallel import loops

STEPS, LAYERS, WIDTH = 6, 5, 8


@pytest.fixture(scope="module")
def compiled() -> str:
  """A loop over layers, each a product, in a loop over steps, each with one."""

  def run(matrices, head, x):
    def layer(x, matrix):
      return x @ matrix, None

    def step(_, x):
      return jax.lax.scan(layer, x, matrices)[0] @ head

    return jax.lax.fori_loop(0, STEPS, step, x)

  shapes = [(LAYERS, WIDTH, WIDTH), (WIDTH, WIDTH), (4, WIDTH)]
  given = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
  return jax.jit(run).lower(*given).compile().as_text()


def test_a_loop_in_a_loop_is_counted_a_trip_at_a_time(compiled):
  (step,) = loops.read(compiled).loops
  (layer,) = step.loops
  assert (step.trips, layer.trips) == (STEPS, LAYERS)
  # Of a layer: its matrix is sliced off, multiplied, and the carry is copied.
  assert layer.kinds == {"fusion": 2, "copy": 1} and not layer.loops
  # Of a step beside its layers: the product and the copy. Counters are none.
  assert step.kinds == {"fusion": 1, "copy": 1}
  assert step.a_trip == 2 + LAYERS * 3


# As a TPU's compiler writes it: layouts, tiles, and loops that may end before.
TEXT = """\
HloModule jit_sample, is_scheduled=true

%counter (a: s32[], b: s32[]) -> s32[] {
  %a = s32[]{:T(128)} parameter(0)
  %b = s32[]{:T(128)} parameter(1)
  ROOT %sum = s32[]{:T(128)} add(%a, %b)
}

%any (a: pred[8]) -> pred[] {
  %a = pred[8]{0:T(512)(128)(4,1)S(1)} parameter(0)
  ROOT %or = pred[]{:T(512)} reduce(%a, %false), dimensions={0}, to_apply=%or1
}

%inner (p: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {
  %p = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %c = s32[]{:T(128)S(6)} copy(%i)
  %n = s32[]{:T(128)} fusion(%c, %one), kind=kLoop, calls=%counter
  %x = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%p), index=1
  %s = (bf16[9]{0}, bf16[9]{0:T(8)S(1)}, u32[]) copy-start(%x)
  %d = bf16[9]{0:T(8)S(1)} copy-done(%s)
  %f = (f32[8]{0:T(128)S(1)}, /*index=1*/bf16[8,128]{1,0}) fusion(%x, %d), \
kind=kOutput, calls=%dot
  %v = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} bitcast(%f)
  ROOT %t = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%n, %v)
}

%taken (p: (bf16[8,128])) -> (bf16[8,128]) {
  %u = bf16[8,128]{1,0} custom-call(%p), custom_call_target="draw"
  %v = bf16[8,128]{1,0} copy(%u)
  ROOT %t = (bf16[8,128]{1,0}) tuple(%v)
}

%other (p: (bf16[8,128])) -> (bf16[8,128]) {
  ROOT %u = (bf16[8,128]{1,0}) fusion(%p), kind=kLoop, calls=%dot
}

%bound (p: (s32[], pred[8])) -> pred[] {
  %most = s32[]{:T(128)} constant(192)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %lt = pred[]{:T(128)} compare(%i, %most), direction=LT
  ROOT %both = pred[] and(%lt, %going)
}

%outer (p: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {
  %w = (s32[]{:T(128)}, bf16[8,128]{1,0}) while(%p), condition=%c, \
body=%inner, backend_config={"known_trip_count":{"n":"28"}}
  %k = (bf16[8,128]{1,0}) conditional(%hot, %p, %p), \
branch_computations={%other, %taken}
  %g = pred[]{:T(512)} fusion(%going), kind=kLoop, calls=%any
  ROOT %t = (s32[]{:T(128)}, bf16[8,128]{1,0}) tuple(%i, %x)
}

ENTRY %main (p: bf16[8,128]) -> bf16[8,128] {
  %p = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[8,128]{1,0} broadcast(%zero), dimensions={}
  %w = (s32[]{:T(128)}, bf16[8,128]{1,0}) while(%t), condition=%bound, \
body=%outer
  ROOT %r = bf16[8,128]{1,0} get-tuple-element(%w), index=1
}
"""


def test_a_tpu_s_text_is_counted_with_the_larger_branch():
  program = loops.read(TEXT)
  assert program.kinds == {"broadcast": 1}
  (step,) = program.loops
  (layer,) = step.loops
  assert (step.trips, layer.trips) == (192, 28)
  # A copy that goes on beside others is one, and its end is none.
  assert layer.kinds == {"copy-start": 1, "fusion": 1}
  # The taken branch's two, and a fusion that sums an array up to one number.
  assert step.kinds == {"custom-call": 1, "copy": 1, "fusion": 1}
  assert step.a_trip == 3 + 28 * 2
  assert program.a_trip == 1 + 192 * 59


def test_branches_of_a_yes_or_no_are_branches():
  text = TEXT.replace(
    "branch_computations={%other, %taken}",
    "true_computation=%taken, false_computation=%other",
  )
  assert loops.read(text) == loops.read(TEXT)
