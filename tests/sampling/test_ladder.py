"""Rungs of a row's own keys and values: only what is read, never what comes."""

import dataclasses

import jax
import numpy as np
import pytest

from cooper_jax.sampling import grammar
from tests import tiny
from tests.sampling.test_exactness import eager_to_draw, run, trunks


@pytest.mark.ci
@pytest.mark.parametrize("temperature", [(1.3, 0.7), (0.0, 0.0)])
@pytest.mark.parametrize(
  ("text", "rung", "unroll"),
  [(40, 16, True), (40, 16, False), (20, 128, True)],
)
def test_what_a_step_leaves_unread_changes_no_token(
  text, rung, unroll, temperature
):
  model, form, params = tiny.make(3, tied_head=False, unroll=unroll, layers=1)
  params = eager_to_draw(params, form)
  made = trunks(np.random.default_rng(1), form, 2)
  few = grammar.Limits(text=text, maps=1, script=3, rung=rung)
  found = [
    run(model, form, params, made, range(6), limits=limits,
        temperature=temperature)
    for limits in (few, dataclasses.replace(few, reads_ahead=True))
  ]  # fmt: skip
  assert len(set((found[0].tokens > 0).sum(axis=1))) > 1 or not temperature[0]
  assert (found[0].map_modality >= 0).any()
  jax.tree.map(assert_alike, *found)


def assert_alike(one, other):
  """The same to the bit, but for log-probabilities.

  Some CPUs' kernels add up a longer sum in another order: a Zen 3 (AVX2) leaves
  every bit, a Zen 4 (AVX-512) differs by up to 1e-6.
  """
  if jax.numpy.issubdtype(one.dtype, jax.numpy.floating):
    np.testing.assert_allclose(one, other, rtol=0, atol=3e-6)
  else:
    np.testing.assert_array_equal(one, other)


def test_rungs_are_short_where_layers_are_unrolled():
  for unroll, size in ((True, 64), (False, 128)):
    form = tiny.make_form(tiny.make_config(unroll=unroll))
    ladder = grammar.Limits(text=256, maps=0, script=3).ladder(form)
    assert [end - first for first, end in ladder] == [size] * (256 // size)


@pytest.mark.parametrize("attention", ["xla", "splash"])
@pytest.mark.parametrize("rung", [16, 128])
def test_rungs_hold_every_position_once(rung, attention):
  form = tiny.make_form(tiny.make_config(attention=attention))
  for text in (7, 16, 17, 40, 100, 257):
    limits = grammar.Limits(text=text, maps=2, script=3, rung=rung)
    ladder = limits.ladder(form)
    assert [at for rung in ladder for at in range(*rung)] == list(
      range(limits.positions(form))
    )
    least = min(text, rung if attention == "xla" else rung // 4)
    sizes = [end - first for first, end in ladder]
    maps = [form.model.map_positions]
    assert all(size >= least or [size] == maps for size in sizes)
    if attention == "splash":
      assert max(sizes) < max(1.5 * rung, *maps, 2)
      inner = {end for _, end in ladder} - {
        start(at, form) + size
        for start, size in (
          (limits.text_start, text), (limits.map_start, maps[0])
        )
        for at in range(3)
      }  # fmt: skip
      assert not any(end % rung for end in inner)
