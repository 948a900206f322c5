"""Greedy codes lie where most probability is; greedy words are likeliest."""

import jax.numpy as jnp
import numpy as np

from cooper_jax.sequences import distribution


def test_many_neighbours_outweigh_one_likelier_code_far_away():
  likely = np.full(25, 1e-6)  # levels (5, 5): code = digit 0 + 5 * digit 1
  likely[[6, 7, 11, 12]] = 0.17  # a patch of neighbours, .68 together
  likely[24] = 0.32  # alone in the far corner
  log = jnp.log(jnp.asarray(likely / likely.sum(), jnp.float32))
  assert distribution.greedy(log, (5, 5)) in (6, 7, 11, 12)
  assert distribution.greedy(log) == 24


def test_a_sure_code_is_the_greedy_code():
  for code in range(24):
    log = jnp.where(jnp.arange(24) == code, 0.0, -30.0)
    assert distribution.greedy(log, (4, 3, 2)) == code
