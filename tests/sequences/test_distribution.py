"""What text may say: the allowed set of a sampled token and of the data's."""

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
