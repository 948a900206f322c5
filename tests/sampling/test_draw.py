"""Drawing by one random number: the right frequencies, and never the masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.models import attention
from cooper_jax.sequences import distribution


@pytest.mark.parametrize("size", [5, 128, 129, 1000])
def test_every_number_draws_the_token_that_it_falls_on(size):
  """Against the running sum, at numbers between its steps."""
  rng = np.random.default_rng(size)
  logits = rng.normal(0, 2, size).astype(np.float32)
  logits[rng.random(size) < 0.3] = attention.NEGATIVE
  likely = np.exp(logits.astype(np.float64) - logits.max())
  likely /= likely.sum()
  edges = np.concatenate([[0.0], np.cumsum(likely)])
  live = np.flatnonzero(likely > 1e-5)
  uniform = (edges[live] + edges[live + 1]) / 2
  ids, log_prob = distribution.draw(
    jnp.broadcast_to(jnp.array(logits), (len(live), size)), jnp.array(uniform)
  )
  np.testing.assert_array_equal(ids, live)
  np.testing.assert_allclose(log_prob, np.log(likely[live]), atol=1e-5)


def test_frequencies_are_the_probabilities():
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 1.5, 300).astype(np.float32)
  likely = np.asarray(jax.nn.softmax(logits))
  count = 200_000
  uniform = jax.random.uniform(jax.random.key(1), (count,))
  ids, _ = jax.jit(jax.vmap(distribution.draw, (None, 0)))(logits, uniform)
  seen = np.bincount(np.asarray(ids), minlength=300) / count
  error = np.sqrt(likely * (1 - likely) / count)
  assert np.abs((seen - likely) / error).max() < 5  # of 300, at 5 sigma


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2.0**-24])
def test_what_has_no_probability_is_never_drawn(uniform):
  """Also at both ends, and where rounding eats the whole rest."""
  logits = np.full((3, 700), attention.NEGATIVE, np.float32)
  logits[0, 699] = 0.0
  logits[1, [3, 400]] = [0.0, -17.0]
  logits[2, 128:640] = 0.0
  ids, log_prob = distribution.draw(jnp.array(logits), jnp.full(3, uniform))
  assert np.isfinite(log_prob).all()
  assert (np.take_along_axis(logits, np.array(ids)[:, None], 1) > -20).all()
  assert ids[0] == 699


def test_numbers_at_the_edges_of_blocks_draw_what_has_mass():
  """There what is left of the number may round to less than nothing."""
  rng, wrong = np.random.default_rng(3), 0
  for _ in range(20):
    logits = rng.normal(0, 1, 1024).astype(np.float32)
    logits[::128] = attention.NEGATIVE  # the first of every block
    likely = np.exp(logits.astype(np.float64))
    edges = np.cumsum(likely / likely.sum())[127::128]
    near = edges[:, None] + np.arange(-40, 41) * 2.0**-25
    uniform = np.clip(near.ravel(), 0, 1 - 2.0**-24).astype(np.float32)
    ids, _ = jax.vmap(distribution.draw, (None, 0))(logits, uniform)
    wrong += (np.asarray(ids) % 128 == 0).sum()
  assert wrong == 0


@pytest.mark.parametrize("size", [5, 128, 300])
def test_logits_in_chunks_draw_the_same(size):
  rng = np.random.default_rng(size)
  logits = jnp.array(rng.normal(0, 2, (40, size)).astype(np.float32))
  uniform = jnp.array(rng.random(40, np.float32))
  more = distribution.in_chunks(logits)
  assert more.shape[-1] % distribution.DRAW_CHUNK == 0
  assert more.shape[-1] - size < distribution.DRAW_CHUNK
  jax.tree.map(
    np.testing.assert_array_equal,
    distribution.draw(more, uniform),
    distribution.draw(logits, uniform),
  )
  greedy = distribution.greedy(more)
  np.testing.assert_array_equal(greedy, distribution.greedy(logits))
  np.testing.assert_allclose(
    distribution.log_prob(more, greedy),
    distribution.log_prob(logits, greedy),
    atol=1e-6,
  )


def test_shapes_lead():
  logits = jnp.array(np.random.default_rng(0).normal(size=(4, 3, 50)))
  uniform = jnp.linspace(0.1, 0.9, 12).reshape(4, 3)
  ids, log_prob = distribution.draw(logits, uniform)
  assert ids.shape == log_prob.shape == (4, 3)
  one, _ = distribution.draw(logits[2, 1], uniform[2, 1])
  assert one == ids[2, 1]
