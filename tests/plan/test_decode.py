"""A step of decoding: bytes by kind, the floor that they set, its kernels."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from cooper_jax.parallel import chips, loops, mesh
from cooper_jax.plan import decode
from cooper_jax.policy import abstract_params, make_policy

LAYERS, STEPS, WIDTH = 5, 7, 8
V5E = chips.find_slice("v5e:4x4")


@functools.cache
def built(size):
  config = base.get_base(size, ("grpo",))
  with jax.set_mesh(mesh.make_mesh(devices=jax.devices()[:1])):
    policy = make_policy(config, platform="tpu")
    return config, policy, abstract_params(policy)


def of_text(batch, **axes):
  config, policy, params = built("0p6b@v5e:4x4")
  sizes = dict(data=1, fsdp=16, sequence=1, tensor=1) | axes
  return decode.of_text(
    policy, params, batch=batch, group=8, sizes=sizes,
    prompt=max(config.sampling.prompt_buckets),
  )  # fmt: skip


def test_bytes_are_counted_by_kind():
  step = of_text(16)
  assert step.rows == 8
  # Qwen3-0.6B's 28 layers, of 15,728,640 numbers in matrices each, in bfloat16.
  assert step.weights == 28 * 15_728_640 * 2
  # Words, specials and 256 locations.
  assert step.head == 152_320 * 1024 * 2
  each = 2 * 28 * 8 * 128 * 2  # a key and a value of 8 heads in 28 layers
  assert step.prompts == 384 * each  # one group's
  # Read in whole pieces of 128, up to the end of the piece or of the turn: the
  # three turns of 192 tokens, maps of 272 positions between them, read
  reads = [128] * 128 + [256] * 64  # of the 1,120 that there are
  reads += [512] * 48 + [768] * 144 + [1024] * 96 + [1120] * 96
  assert step.own == pytest.approx(8 * np.mean(reads) * each)
  assert np.mean(reads) < 0.6 * 1120


def test_the_floor_is_bytes_by_bandwidth():
  step = of_text(16)
  seconds = step.total / 819e9
  assert step.seconds(V5E) == pytest.approx(seconds)
  assert step.tokens_a_second(V5E) == pytest.approx(8 / seconds)


def test_rows_share_the_weights():
  few, many = of_text(16), of_text(128)
  assert many.weights == few.weights and many.head == few.head
  assert many.own == 8 * few.own and many.prompts == 8 * few.prompts
  assert many.tokens_a_second(V5E) > 1.8 * few.tokens_a_second(V5E)


def test_chips_that_share_matrices_share_their_rows():
  whole, sharded = of_text(16), of_text(16, fsdp=4, tensor=4)
  assert sharded.rows == 4 * whole.rows
  assert sharded.weights == whole.weights / 4 and sharded.own == whole.own
  # A tensor axis of four: four times the rows, a fourth of them each one's.
  assert sharded.tokens_a_second(V5E) == pytest.approx(
    whole.rows / sharded.total * 819e9
  )


def text_of(unrolled: bool) -> str:
  def run(matrices, head, x):
    def layer(x, matrix):
      return x @ matrix, None

    def step(_, x):
      return jax.lax.scan(layer, x, matrices, unroll=unrolled)[0] @ head

    return jax.lax.fori_loop(0, STEPS, step, x)

  shapes = [(LAYERS, WIDTH, WIDTH), (WIDTH, WIDTH), (4, WIDTH)]
  given = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
  return jax.jit(run).lower(*given).compile().as_text()


def test_kernels_of_a_step_are_those_of_its_layers_and_the_others():
  counted = decode.kernels(text_of(False), LAYERS)
  assert counted == decode.StepKernels(LAYERS, others=(2,), a_layer=(3,))
  assert counted.a_step == [LAYERS * 3 + 2]


def test_kernels_are_told_of_every_loop_that_makes_steps(monkeypatch):
  layer = loops.KernelLoop(LAYERS, {"fusion": 2}, ())
  longer = loops.KernelLoop(LAYERS, {"fusion": 4, "copy": 2}, ())
  first = loops.KernelLoop(9, {"copy": 10}, (layer,))
  second = loops.KernelLoop(1, {"copy": 2}, (longer,))
  turn = loops.KernelLoop(3, {"copy": 100}, (second,))
  program = loops.KernelLoop(1, {"copy": 7}, (first, turn))
  monkeypatch.setattr(decode, "read", lambda text: program)
  counted = decode.kernels("", LAYERS)
  assert counted.others == (10, 2) and counted.a_layer == (2, 6)
  words = decode.shown(of_text(16), V5E, counted)
  assert "kernels 20 to 32, 2 to 6 in each of 5 layers" in words


def test_layers_that_are_no_loop_count_with_the_others():
  counted = decode.kernels(text_of(True), LAYERS)
  assert counted.layers == 0
  assert len(counted.a_step) == 1 and counted.a_step[0] > LAYERS


def test_a_program_without_a_loop_has_no_step():
  text = jax.jit(jnp.sin).lower(np.float32(1)).compile().as_text()
  assert decode.kernels(text, LAYERS) is None


def test_what_is_shown_names_every_kind():
  words = decode.shown(of_text(16), V5E, decode.StepKernels(28, (89,), (49,)))
  for name in ("weights 0.88 (110.1)", "head", "own keys", "prompts'"):
    assert name in words
  assert "kernels 1,461, 49 in each of 28 layers" in words
  assert "tokens/s a chip" in words


@pytest.mark.parametrize(
  ("unroll", "attention", "read"),
  [
    (True, "xla", [16, 16, 48, 48, 64, 64]),
    (False, "xla", [16, 16, 32, 32, 32, 32]),
    (False, "splash", [32] * 6),
  ],
)
def test_own_positions_are_read_up_to_a_rung(unroll, attention, read):
  """Text of 4 and 4 tokens about a map of 20, in pieces of 16 positions.

  Of rungs each is whole; of one array its beginning is, in whole pieces of 128
  or all of it where a kernel reads.
  """

  class Stepped:
    def ladder(self, form):
      return [(0, 4), (4, 24), (24, 28)]

  model = types.SimpleNamespace(unroll=unroll, attention=attention)
  form = types.SimpleNamespace(model=model)
  policy = types.SimpleNamespace(limits=Stepped(), form=form)
  places = 0, 3, 4, 23, 24, 27
  assert [decode.own_positions(policy, place) for place in places] == read
