"""FSQ and VQ-EMA: codes, inverses, gradients, moving averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.tokenizers import quantize

LEVELS = (8, 5, 5, 5)


def test_every_fsq_code_is_its_own_inverse():
  codes = jnp.arange(quantize.fsq_size(LEVELS))
  values = quantize.fsq_values(codes, LEVELS)
  # Undo the squashing, then quantise again.
  width = jnp.array([level // 2 for level in LEVELS])
  half = (jnp.array(LEVELS) - 1) * (1 + 1e-3) / 2
  offset = jnp.where(jnp.array(LEVELS) % 2 == 0, 0.5, 0.0)
  bounded = (values * width + offset) / half
  z = jnp.arctanh(jnp.clip(bounded, -0.9999, 0.9999)) - jnp.arctanh(
    offset / half
  )
  again, found = quantize.fsq(z, LEVELS)
  np.testing.assert_array_equal(found, codes)
  np.testing.assert_allclose(again, values, atol=1e-6)
  assert len(np.unique(values, axis=0)) == 1000


def test_fsq_codes_follow_the_paper_on_a_worked_example():
  # z = 0: 5 levels -> 0, the middle; 8 levels: tanh(shift) * half - .5 = 0,
  # also 0 of -4..3. Digits (4, 2, 2, 2) over (1, 8, 40, 200):
  # 4 + 16 + 80 + 400 = 500.
  values, code = quantize.fsq(jnp.zeros(4), LEVELS)
  np.testing.assert_allclose(values, np.zeros(4), atol=1e-6)
  assert code == 500
  # Far out: the highest of 8 is 3 of 4, the highest of 5 is 2 of 2.
  values, code = quantize.fsq(jnp.full(4, 50.0), LEVELS)
  np.testing.assert_allclose(values, [0.75, 1, 1, 1])
  assert code == 999
  _, code = quantize.fsq(jnp.full(4, -50.0), LEVELS)
  assert code == 0


def test_digits_tell_the_codes_apart_and_give_their_values():
  levels = (4, 3, 2)
  digits = quantize.fsq_digits(levels)
  assert digits.shape == (24, 9)
  assert len(np.unique(digits, axis=0)) == 24
  np.testing.assert_array_equal(digits.sum(1), 3)
  steps = [np.arange(n) - n // 2 for n in levels]
  first, second, third = np.split(digits, [4, 7], axis=1)
  values = [d @ s for d, s in zip((first, second, third), steps, strict=True)]
  widths = [n // 2 for n in levels]
  np.testing.assert_allclose(
    np.stack(values, -1) / widths,
    quantize.fsq_values(np.arange(24), levels),
    rtol=1e-6,
  )


def test_density_is_a_gaussian_over_the_values_of_the_codes():
  levels, width = (4, 3, 2), 0.6
  rng = np.random.default_rng(0)
  likely = rng.dirichlet(np.ones(24), size=(2, 5)).astype(np.float32)
  value = np.asarray(quantize.fsq_values(np.arange(24), levels))
  square = ((value[:, None] - value) ** 2).sum(-1)
  want = likely @ np.exp(-square / (2 * width**2))
  got = quantize.fsq_density(jnp.asarray(likely), levels, width)
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_fsq_gradient_passes_straight_through():
  z = jnp.array([0.1, -0.2, 0.3, 0.4])
  gradient = jax.grad(lambda z: quantize.fsq(z, LEVELS)[0].sum())(z)
  width = jnp.array([level // 2 for level in LEVELS])
  smooth = jax.grad(lambda z: (quantize.fsq_bound(z, LEVELS) / width).sum())(z)
  np.testing.assert_allclose(gradient, smooth, rtol=1e-6)
  assert np.all(gradient > 0)


def test_spread_penalty_is_least_for_independent_unit_coordinates():
  z = 0.9 * jax.random.normal(jax.random.key(0), (4096, 4))
  good = quantize.spread_penalty(z)
  assert good < 0.02
  collapsed = z.at[:, 1].set(z[:, 0])
  for bad in (0.1 * z, z + 1.0, collapsed):
    assert quantize.spread_penalty(bad) > 0.5


def test_vq_picks_the_nearest_vector_and_passes_the_gradient():
  book = quantize.Codebook(
    total=jnp.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]), count=jnp.ones(3)
  )
  values, codes, commitment = quantize.vq(jnp.array([[5.0, 1.0]]), book)
  assert codes.tolist() == [0]
  np.testing.assert_allclose(values, [[1.0, 0.0]], atol=1e-6)
  # cos of the angle to (1, 0) is 5 / sqrt(26); |a - b|^2 = 2 - 2 cos.
  assert commitment == pytest.approx(2 - 2 * 5 / np.sqrt(26), rel=1e-4)
  gradient = jax.grad(
    lambda z: jnp.sum(quantize.vq(z, book)[0] * jnp.array([0.3, 0.7]))
  )(jnp.array([[5.0, 1.0]]))
  assert np.abs(gradient).sum() > 0


@pytest.mark.ci
def test_code_book_follows_what_is_assigned_and_reseeds_what_is_not():
  key = jax.random.key(0)
  centres = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
  noise = 0.05 * jax.random.normal(key, (512, 3))
  z = centres[jnp.arange(512) % 2] + noise
  # Codes 2 and 3 point where nothing is.
  total = jnp.array([[0.9, 0.3, 0], [0.3, 0.9, 0], [0, 0, -1], [0, 0, -1]])
  book = quantize.Codebook(total=128 * total, count=jnp.full(4, 128.0))
  for step in range(300):
    _, codes, _ = quantize.vq(z, book)
    book = quantize.vq_follow(
      book,
      quantize.vq_assigned(z, codes, size=4),
      key=jax.random.fold_in(key, step),
    )
  similarity = book.vectors() @ centres.T
  assert similarity.max(0).min() > 0.99  # both clusters have a code
  assert similarity.max(1).min() > 0.9  # and no code is left out of use
  assert len(np.unique(quantize.vq(z, book)[1])) == 4
