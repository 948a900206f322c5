"""How hard the compiler tries is a matter of the run that asks."""

import jax
import pytest

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
