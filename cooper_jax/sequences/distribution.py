"""Token distribution: hidden states to log-probabilities, sampler and trainer.

This is the only place where temperature and the allowed set are applied. The
sampler draws from these distributions and the trainer scores under them, so
the two policies are the same by construction; a test compares them by value.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.models import attention
from cooper_jax.sequences.segments import Format
from cooper_jax.tokenizers import quantize, vocab

CHOSEN = ("<eos>", "<think>", "</think>", "<answer>", "</answer>")
# Of the neighbourhood that greedy codes are chosen by (`fsq_density`). At 0.7
# drawn maps were a little better than at 0 to 0.5, depth and classes alike.
CODE_WIDTH = 0.7
DRAW_CHUNK = 128  # tokens that are added up at once when one is drawn


def allowed_rows(form: Format) -> np.ndarray:
  """Which rows, bool [V], text may choose, map openings left out."""
  vocabulary = form.vocabulary
  allowed = np.ones(vocabulary.text_rows, bool)
  allowed[vocabulary.specials : vocabulary.specials + vocab.SPECIALS] = False
  allowed[vocabulary.words or vocabulary.text : vocabulary.text] = False
  allowed[list(vocabulary.absent)] = False
  for name in CHOSEN:
    allowed[vocabulary.special(name)] = True
  return allowed


def restrict(
  logits_BLV, allowed_maps_BL, form: Format, after_BL, *, sampled: bool
):
  """Masks what a text position may not choose.

  Where text is sampled, a thought may not begin with the call for a map that
  may not be opened: held to text, a policy would announce a map and have
  nothing to reason on. Text of the data is scored as it is.

  Args:
    logits_BLV: f32, over text, specials and, where they are not a part of
      their own, locations.
    allowed_maps_BL: bit set of the modality ids whose map may be opened.
    form: the vocabulary and the modalities in use.
    after_BL: the ids that the tokens follow.
    sampled: whether the sampler draws, or drew, these tokens; static.
  """
  here = jnp.asarray(allowed_rows(form)[: logits_BLV.shape[-1]])
  allowed = jnp.broadcast_to(here, logits_BLV.shape)
  rows = jnp.arange(logits_BLV.shape[-1])
  may_open = {
    modality_id: ((allowed_maps_BL >> modality_id) & 1).astype(bool)
    for modality_id in form.modality_ids
  }
  for modality_id, opens_BL in may_open.items():
    allowed |= opens_BL[..., None] & (
      rows == form.vocabulary.opening(modality_id)
    )
  begins_BL = after_BL == form.vocabulary.special("<think>")
  for modality_id, word in form.calls if sampled else ():
    barred_BL = begins_BL & ~may_open[modality_id]
    allowed &= ~(barred_BL[..., None] & (rows == word))
  return jnp.where(allowed, logits_BLV, attention.NEGATIVE)


def scale(logits, temperature):
  """Logits [..., V] by the temperature; temperature 0 (greedy) scores at 1."""
  positive = jnp.where(temperature > 0, temperature, 1.0)
  return logits / positive


def log_prob(logits_BLV, target_BL):
  """Returns the log-probability [B, L] of the targets."""
  picked = jnp.take_along_axis(logits_BLV, target_BL[..., None], axis=-1)
  return picked[..., 0] - jax.nn.logsumexp(logits_BLV, axis=-1)


def in_chunks(logits):
  """Logits [..., V] with as many more, of no probability, as `draw` wants.

  Added where the logits are made, they cost no pass over them.
  """
  padding = [(0, 0)] * (logits.ndim - 1) + [(0, -logits.shape[-1] % DRAW_CHUNK)]
  return jnp.pad(logits, padding, constant_values=attention.NEGATIVE)


def draw(logits, uniform):
  """Draws tokens: (ids i32 [...], their log-probabilities) of logits [..., V].

  uniform: [...] in [0, 1). The inverse of the distribution function, found in
  two levels, chunks of tokens and then a token: one random number a draw, where
  Gumbel noise would take V. What has no probability is never drawn.
  """
  logits = in_chunks(logits)
  best = logits.max(axis=-1, keepdims=True)
  mass = jnp.exp(logits - best)  # its sum is not 1
  chunks = mass.reshape(*logits.shape[:-1], -1, DRAW_CHUNK)
  sums = chunks.sum(axis=-1)
  total = sums.sum(axis=-1)
  chunk, before = _invert(sums, uniform * total)
  inside = jnp.take_along_axis(chunks, chunk[..., None, None], axis=-2)[
    ..., 0, :
  ]
  place, _ = _invert(inside, uniform * total - before)
  ids = (chunk * DRAW_CHUNK + place).astype(jnp.int32)
  chosen = jnp.take_along_axis(logits, ids[..., None], axis=-1)
  return ids, (chosen - best)[..., 0] - jnp.log(total)


def _invert(mass, target):
  """(first index whose running sum exceeds the target, the sum before it).

  Where rounding leaves none, the largest: never one without mass.
  """
  running = jnp.cumsum(mass, axis=-1)
  # With mass: what is left of the target may round to less than nothing.
  above = (running > target[..., None]) & (mass > 0)
  index = jnp.where(
    above.any(axis=-1), above.argmax(axis=-1), mass.argmax(axis=-1)
  )
  pick = lambda x: jnp.take_along_axis(x, index[..., None], axis=-1)[..., 0]  # noqa: E731
  return index, pick(running) - pick(mass)


def normaliser(parts):
  """The logsumexp [B, L] of logits that come in parts [B, L, *]."""
  best = highest(parts)[..., None]
  mass = [jnp.sum(jnp.exp(part - best), axis=-1) for part in parts]
  return jnp.log(sum(mass)) + best[..., 0]


def highest(parts):
  """The largest logit [B, L] of logits that come in parts."""
  each = [part.max(axis=-1) for part in parts]
  return jax.lax.stop_gradient(functools.reduce(jnp.maximum, each))


def pick(parts, target_BL):
  """The targets' logits [B, L], of logits in parts.

  By comparing, not by index: the vocabulary may be sharded over devices.
  """
  return sum(
    jnp.sum(jnp.where(_at(start, part, target_BL), part, 0.0), axis=-1)
    for start, part in _from(parts)
  )


def _from(parts):
  """(its first row, part) of each part."""
  starts = np.cumsum([0, *(part.shape[-1] for part in parts)])
  return zip(map(int, starts), parts)


def _at(start: int, part, target_BL):
  return start + jnp.arange(part.shape[-1]) == target_BL[..., None]


@jax.custom_vjp
def judge(parts, target_BL):
  """(`normaliser`, `pick`) of logits in parts, each [B, L].

  The backward pass keeps the logits and nothing else of their size, and writes
  their gradient in one go.
  """
  return normaliser(parts), pick(parts, target_BL)


def _judge(parts, target_BL):
  lse_BL, picked_BL = judge(parts, target_BL)
  return (lse_BL, picked_BL), (parts, target_BL, lse_BL)


def _judge_back(kept, given):
  parts, target_BL, lse_BL = kept
  d_lse, d_picked = (each[..., None] for each in given)
  d_parts = tuple(
    jnp.exp(part - lse_BL[..., None]) * d_lse
    + jnp.where(_at(start, part, target_BL), d_picked, 0.0)
    for start, part in _from(parts)
  )
  return d_parts, None


judge.defvjp(_judge, _judge_back)


def entropy(parts, lse_BL):
  """Returns the entropy [B, L] in nats of logits that come in parts."""
  total = 0.0
  for part in parts:
    log_p = part - lse_BL[..., None]
    total -= jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
  return total


def greedy(logits, levels=()):
  """The likeliest token [...] of logits [..., V]; of codes, the densest.

  `levels` are those of FSQ codes. Neighbouring codes stand for nearly the same
  patch, and the likeliest single code may be far from where most probability
  is: the code in the densest place is taken.
  """
  if not levels:
    return jnp.argmax(logits, axis=-1)
  likely = jax.nn.softmax(logits, axis=-1)
  density = quantize.fsq_density(likely, levels, CODE_WIDTH)
  return jnp.argmax(density, axis=-1)
