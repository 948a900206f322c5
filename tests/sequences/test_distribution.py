"""What text may say: the allowed set of a sampled token and of the data's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.models import attention
from cooper_jax.sequences import distribution
from tests import tiny

FORM = tiny.make_form(tiny.make_config())
THINK = FORM.vocabulary.special("<think>")


def may_say(word, *, after, allowed_maps, sampled):
  """Whether a word may follow an id where these maps may be opened."""
  logits = distribution.restrict(
    jnp.zeros((1, 1, FORM.vocabulary.text_rows)),
    jnp.array([[allowed_maps]]),
    FORM,
    jnp.array([[after]]),
    sampled=sampled,
  )
  return bool(np.asarray(logits)[0, 0, word] > attention.NEGATIVE)


@pytest.mark.parametrize(("modality_id", "word"), FORM.calls)
def test_a_sampled_thought_calls_only_for_maps_that_may_be_opened(
  modality_id, word
):
  own, others = 1 << modality_id, FORM.allowed_maps & ~(1 << modality_id)
  say = lambda **given: may_say(word, **given, sampled=True)  # noqa: E731
  assert say(after=THINK, allowed_maps=own)
  assert not say(after=THINK, allowed_maps=others)
  assert say(after=5, allowed_maps=others)  # a word like any other


@pytest.mark.parametrize(("modality_id", "word"), FORM.calls)
def test_a_call_in_the_data_is_scored_whatever_may_be_opened(modality_id, word):
  del modality_id
  assert may_say(word, after=THINK, allowed_maps=0, sampled=False)


@pytest.mark.parametrize("sampled", [True, False])
def test_an_opening_needs_its_bit_and_no_bit_is_a_mode(sampled):
  for modality_id in FORM.modality_ids:
    opening = FORM.vocabulary.opening(modality_id)
    for bits in range(1 << len(FORM.modality_ids)):
      # A bit that no modality has changes nothing.
      for more in (0, 1 << 30):
        assert may_say(
          opening, after=5, allowed_maps=bits | more, sampled=sampled
        ) == bool(bits >> modality_id & 1)


def test_the_gradient_of_a_judgement_is_that_of_its_parts():
  """Its backward pass is written out; here JAX derives the same."""
  rng = np.random.default_rng(0)
  parts = tuple(
    jnp.asarray(3 * rng.normal(size=(2, 5, rows)), jnp.float32)
    for rows in (7, 4)
  )
  target = rng.integers(0, 11, (2, 5))
  by_lse, by_picked = rng.normal(size=(2, 2, 5)).astype(np.float32)

  def total(judge):
    def of(parts):
      lse, picked = judge(parts, target)
      return jnp.sum(by_lse * lse + by_picked * picked)

    return jax.value_and_grad(of)(parts)

  def plain(parts, target):
    logits = jnp.concatenate(parts, axis=-1)
    picked = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1), picked

  (ours, gradient), (value, expected) = map(total, (distribution.judge, plain))
  np.testing.assert_allclose(ours, value, rtol=1e-5)
  for one, other in zip(gradient, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
