"""Quantisers: a small vector per cell -> one of C codes, and back.

FSQ (finite scalar quantisation, arXiv 2309.15505) rounds each bounded
coordinate to a few levels: no code book, nothing to collapse, nothing to
synchronise between devices. VQ-EMA (arXiv 1711.00937, L2-normalised as in
ViT-VQGAN) keeps a learned code book that follows the encoder by moving
averages and re-seeds codes that fall out of use.

Everything here is float32: rounding decides the code.
"""

import math

import flax
import jax
import jax.numpy as jnp
import numpy as np

# VQ-EMA: how fast the book follows, and below which count a code is dead.
DECAY = 0.99
DEAD = 0.1  # of the average use
FRESH = 0.3  # what a re-seeded code starts with: time to prove itself
SPLIT_BY = 0.1  # how far from a busy code a dead one starts again


def fsq_size(levels) -> int:
  """C, the number of codes."""
  return math.prod(levels)


def fsq_bound(z, levels):
  """Squashes z[..., d] to the open interval of its levels.

  Even counts are shifted by half, so that rounding gives as many values as
  there are levels.
  """
  count = jnp.asarray(levels, jnp.float32)
  half = (count - 1) * (1 + 1e-3) / 2
  offset = jnp.where(count % 2 == 0, 0.5, 0.0)
  shift = jnp.arctanh(offset / half)
  return jnp.tanh(z.astype(jnp.float32) + shift) * half - offset


def fsq(z, levels):
  """(values [..., d] in [-1, 1], codes [...]) of z [..., d].

  The gradient passes straight through the rounding.
  """
  bounded = fsq_bound(z, levels)
  rounded = jnp.round(bounded)
  width = jnp.asarray([count // 2 for count in levels], jnp.float32)
  values = bounded + jax.lax.stop_gradient(rounded - bounded)
  digits = (rounded + width).astype(jnp.int32)
  basis = jnp.asarray(_basis(levels), jnp.int32)
  return values / width, jnp.sum(digits * basis, axis=-1)


def fsq_values(codes, levels):
  """Values [..., d] in [-1, 1] that codes [...] stand for; inverse of `fsq`."""
  width = jnp.asarray([count // 2 for count in levels], jnp.float32)
  digits = jnp.stack(_digits(codes, levels), axis=-1)
  return (digits.astype(jnp.float32) - width) / width


def fsq_digits(levels) -> np.ndarray:
  """Which digits each code is made of: f32 [C, sum of levels], one 1 a digit.

  In: (2, 3)   Out: row of code 3, digits 1 and 1: [0, 1, 0, 1, 0]
  """
  digits = _digits(np.arange(fsq_size(levels)), levels)
  rows = [np.eye(n, dtype=np.float32) for n in levels]
  return np.concatenate(
    [row[digit] for row, digit in zip(rows, digits, strict=True)], axis=1
  )


def fsq_density(probabilities, levels, width: float):
  """Probability of codes [..., C] gathered from their neighbours.

  A Gaussian of `width`, in the units of `fsq_values`, over each digit. Codes
  next to each other stand for nearly the same, so what is most likely is the
  place where most probability lies, not the one likeliest code.
  """
  shape = probabilities.shape
  # The first digit changes fastest, so it is the last axis.
  x = probabilities.reshape(*shape[:-1], *levels[::-1])
  for axis, count in enumerate(levels):
    at = np.arange(count) / max(count // 2, 1)
    kernel = np.exp(-((at[:, None] - at) ** 2) / (2 * width**2))
    x = jnp.moveaxis(x, -1 - axis, -1) @ kernel.astype(np.float32)
    x = jnp.moveaxis(x, -1, -1 - axis)
  return x.reshape(shape)


def _digits(codes, levels) -> list:
  return [
    (codes // base) % count
    for base, count in zip(_basis(levels), levels, strict=True)
  ]


def _basis(levels) -> tuple[int, ...]:
  return tuple(math.prod(levels[:index]) for index in range(len(levels)))


def spread_penalty(z, *, scale: float = 0.9):
  """Pulls z[..., d] over the batch to mean 0, deviation `scale`, no
  correlation between coordinates.

  Without it a small FSQ tokenizer was seen to fall to 17 of 1000 codes.
  """
  flat = z.reshape(-1, z.shape[-1]).astype(jnp.float32)
  mean = jnp.mean(flat, axis=0)
  centred = flat - mean
  covariance = centred.T @ centred / flat.shape[0]
  wanted = scale**2 * jnp.eye(z.shape[-1])
  return jnp.sum(mean**2) + jnp.sum((covariance - wanted) ** 2)


@flax.struct.dataclass
class Codebook:
  """Moving averages that make a VQ code book.

  `total` [C, d] and `count` [C]; the book itself is their quotient,
  normalised.
  """

  total: jax.Array
  count: jax.Array

  def vectors(self):
    return _unit(self.total / jnp.maximum(self.count, 1e-6)[:, None])


def vq(z, book: Codebook):
  """(values [..., d], codes [...], commitment loss) of z [..., d].

  The gradient passes straight through the rounding to a code.
  """
  z = _unit(z.astype(jnp.float32))
  vectors = book.vectors()
  codes = jnp.argmax(z @ vectors.T, axis=-1).astype(jnp.int32)
  chosen = vectors[codes]
  commitment = jnp.mean(jnp.sum((z - chosen) ** 2, axis=-1))
  return z + jax.lax.stop_gradient(chosen - z), codes, commitment


def vq_assigned(z, codes, *, size: int) -> Codebook:
  """Sums [C, d] of the vectors z[..., d] that fell to each of codes [...]."""
  flat = _unit(z.reshape(-1, z.shape[-1]).astype(jnp.float32))
  codes = codes.reshape(-1)
  return Codebook(
    total=jnp.zeros((size, flat.shape[-1])).at[codes].add(flat),
    count=jnp.zeros(size).at[codes].add(1.0),
  )


def vq_follow(book: Codebook, assigned: Codebook, *, key) -> Codebook:
  """The book after one step of moving averages.

  A code that has fallen out of use is re-seeded beside one that the batch
  used, chosen by its share: busy codes are split.
  """
  book = jax.tree.map(
    lambda old, new: DECAY * old + (1 - DECAY) * new, book, assigned
  )
  size, dimensions = book.total.shape
  fair = jnp.sum(assigned.count) / size  # uses of a code in a step, on average
  dead, fresh = book.count < DEAD * fair, FRESH * fair
  which, where = jax.random.split(key)
  busy = jax.random.categorical(
    which, jnp.log(assigned.count + 1e-9), shape=(size,)
  )
  noise = SPLIT_BY * jax.random.normal(where, (size, dimensions))
  seeds = _unit(_unit(assigned.total)[busy] + noise) * fresh
  return Codebook(
    total=jnp.where(dead[:, None], seeds, book.total),
    count=jnp.where(dead, fresh, book.count),
  )


def _unit(x):
  return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
