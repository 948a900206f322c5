"""Truncated distributions: top-k, top-p and min-p, drawn from and scored alike.

A sampler that draws from a part of the distribution draws from another policy
than the one that a trainer scores, unless the trainer knows which part it was
(DeepSeek-V3.2, "Keep Sampling Mask", arXiv 2512.02556). What is kept here for
each token is how many of the likeliest the sampler could choose from, one
number; the trainer takes as many of its own. A set found anew by its rule could
be another by rounding, and then off by all the mass of a token at the edge;
sets of equal size differ by tokens that are nearly alike. That holds for the
sampler's own parameters, with one update a batch: under later ones, or those of
a reference, the likeliest are others, so `settings.checks` refuses these.

The names and the order, each rule over what the one before left, are those of
transformers and TRL.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from cooper_jax.errors import UserError
from cooper_jax.models import attention


@dataclasses.dataclass(frozen=True)
class Truncation:
  """Which tokens may be drawn; by default all."""

  top_k: int = 0  # the likeliest so many; 0 = all
  top_p: float = 1.0  # the likeliest that together have this probability
  min_p: float = 0.0  # those with this share of the likeliest's probability

  def __post_init__(self):
    if self.top_k < 0 or not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
      raise UserError(
        f"top_k, top_p and min_p are {self.top_k}, {self.top_p} and"
        f" {self.min_p}; allowed: 0 (all) and more, above 0 to 1, 0 to 1"
      )


NONE = Truncation()


def truncate(logits, how: Truncation):
  """(logits [..., V] without what may not be drawn, how many are left [...]).

  Of tokens that are exactly alike all are left or none.
  """
  ranked = jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
  size = logits.shape[-1]
  most = min(how.top_k, size) if how.top_k else size
  ranked = jnp.where(jnp.arange(size) < most, ranked, attention.NEGATIVE)
  count = jnp.full(logits.shape[:-1], most)
  if how.top_p < 1:
    likely = jax.nn.softmax(ranked, axis=-1)
    before = jnp.cumsum(likely, axis=-1) - likely
    count = jnp.minimum(count, (before < how.top_p).sum(axis=-1))
  if how.min_p > 0:
    least = ranked[..., :1] + math.log(how.min_p)
    count = jnp.minimum(count, (ranked >= least).sum(axis=-1))
  cutoff = _ranked_at(ranked, count)
  left = logits >= cutoff
  return jnp.where(left, logits, attention.NEGATIVE), left.sum(
    axis=-1, dtype=jnp.int32
  )


def keep(parts, kept_BL):
  """Logits in parts [B, L, *] without all but the `kept_BL` likeliest.

  kept_BL: as `truncate` gave it; 0 where nothing is scored.
  """
  whole = jax.lax.stop_gradient(jnp.concatenate(parts, axis=-1))
  ranked = jnp.flip(jnp.sort(whole, axis=-1), axis=-1)
  cutoff = _ranked_at(ranked, kept_BL)
  return tuple(
    jnp.where(part >= cutoff, part, attention.NEGATIVE) for part in parts
  )


def _ranked_at(ranked, count):
  """The logit [..., 1] of the last of `count`, of logits that fall."""
  last = jnp.clip(count - 1, 0, ranked.shape[-1] - 1)
  return jnp.take_along_axis(ranked, last[..., None], axis=-1)
