"""Claims about sampler-trainer corrections and token selection."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.rl import off_policy

VECTORS = json.loads(
  (pathlib.Path(__file__).parents[1] / "vectors/rl.json").read_text()
)
INPUTS = {
  name: np.array(VECTORS["inputs"][name], np.float32)
  for name in ("old_logps", "sampler_logps", "mask", "entropies")
}
MASK = INPUTS["mask"].astype(bool)
GAP = np.where(MASK, INPUTS["old_logps"] - INPUTS["sampler_logps"], 0.0)
RATIO = np.exp(GAP)


def weights(kind, low=0.5, high=2.0, sampler=INPUTS["sampler_logps"]):
  return np.asarray(
    off_policy.importance(
      kind, INPUTS["old_logps"], sampler, MASK, low=low, high=high
    )
  )


def test_token_truncation_matches_the_vectors():
  np.testing.assert_allclose(
    weights("token_truncate"),
    VECTORS["sampler_is"]["token_truncate_2"],
    atol=1e-6,
  )


def test_every_correction_does_what_its_name_says():
  """By hand, with bounds that hold some back and let others pass."""
  low, high = np.quantile(RATIO[MASK], [0.2, 0.8])
  inside = ~np.logical_or(np.less(RATIO, low), np.greater(RATIO, high))
  product = np.broadcast_to(np.exp(GAP.sum(1, keepdims=True)), MASK.shape)
  mean = np.exp(GAP.sum(1, keepdims=True) / MASK.sum(1, keepdims=True))
  near = np.broadcast_to((mean >= 0.95) & (mean <= 1.1), MASK.shape)
  top = np.median(product[:, 0])
  cases = [
    ("none", np.ones_like(RATIO), (low, high)),
    ("token_mask", np.where(inside, RATIO, 0), (low, high)),
    ("sequence_truncate", np.minimum(product, top), (0.0, top)),
    ("sequence_mask", np.where(product <= top, product, 0), (0.0, top)),
    ("geometric_mask", near.astype(float), (0.95, 1.1)),
  ]
  assert {name for name, _, _ in cases} | {"token_truncate"} == set(
    off_policy.CORRECTIONS
  )
  for name, want, bounds in cases:
    if name != "none":  # or the case would say nothing
      assert len(np.unique(np.round(want[MASK], 5))) > 1, name
    got = weights(name, *bounds)
    np.testing.assert_allclose(got[MASK], want[MASK], rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(got[~MASK], 1)


@pytest.mark.parametrize("kind", off_policy.CORRECTIONS)
def test_a_sampler_that_agrees_or_says_nan_needs_no_correction(kind):
  for same in (INPUTS["old_logps"], np.full(MASK.shape, np.nan)):
    np.testing.assert_array_equal(weights(kind, sampler=same), 1)


@pytest.mark.parametrize("kind", off_policy.CORRECTIONS)
def test_weights_carry_no_gradient(kind):
  def total(old):
    return off_policy.importance(
      kind, old, INPUTS["sampler_logps"], MASK, low=0.5, high=2.0
    ).sum()

  slope = jax.grad(total)(jnp.asarray(INPUTS["old_logps"]))
  np.testing.assert_array_equal(slope, 0)


def test_only_bad_and_stale_sequences_are_dropped():
  length = MASK.sum(1, keepdims=True)
  stale = -GAP.sum(1, keepdims=True) / length
  edge = float(np.median(stale))
  for sign in (1.0, -1.0):
    kept = off_policy.on_policy(
      INPUTS["old_logps"],
      INPUTS["sampler_logps"],
      np.full(MASK.shape, sign),
      MASK,
      edge,
    )
    want = np.broadcast_to((stale <= edge) | (sign > 0), MASK.shape)
    np.testing.assert_array_equal(kept, want)
    assert want.all() == (sign > 0)


def test_the_share_of_tokens_with_the_highest_entropy():
  entropy = np.where(MASK, INPUTS["entropies"], 99.0)  # masked: never chosen
  chosen = np.asarray(off_policy.top_entropy(entropy, MASK, 0.25))
  assert not (chosen & ~MASK).any()
  assert abs(chosen.sum() - 0.25 * MASK.sum()) <= 1
  assert entropy[chosen].min() >= entropy[MASK & ~chosen].max()
  everything = off_policy.top_entropy(entropy, MASK, 1.0)
  np.testing.assert_array_equal(everything, MASK)


def test_an_unknown_correction_is_refused():
  with pytest.raises(UserError, match="allowed are none, token_truncate"):
    weights("tis")
