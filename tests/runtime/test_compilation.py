"""How hard the compiler tries, and what it finds no room for."""

import jax
import pytest

from cooper_jax.plan import table
from cooper_jax.runtime import compilation

NAME = "jax_disable_most_optimizations"


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("quick", [False, True])
def test_effort_lasts_as_long_as_its_block(quick, before):
  kept = jax.config.values[NAME]
  try:
    jax.config.update(NAME, before)
    with pytest.raises(KeyError), compilation.effort(quick=quick):
      assert jax.config.values[NAME] == (quick or before)
      raise KeyError
    assert jax.config.values[NAME] == before
  finally:
    jax.config.update(NAME, kept)


@pytest.mark.parametrize(
  ("said", "full"),
  [
    (
      "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. hbm 40 of 16G",
      True,
    ),
    ("Out of memory allocating 17 bytes", True),
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem", False),
    ("Scoped allocation exceeded scoped VMEM limit: RESOURCE_EXHAUSTED", False),
    ("INVALID_ARGUMENT: a fault", False),
  ],
)
def test_a_full_device_is_not_a_kernel_without_room(said, full):
  error = jax.errors.JaxRuntimeError(said)
  assert compilation.fills_memory(error) == full

  class Lowered:
    def lower(self, **_):
      return self

    trace = lower

    def compile(self):
      raise error

  if full:
    assert table.compile_one("decode", Lowered(), None) is None
  else:
    with pytest.raises(jax.errors.JaxRuntimeError):
      table.compile_one("decode", Lowered(), None)
