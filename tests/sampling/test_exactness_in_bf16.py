"""Sampler and trainer in bfloat16: how far their log-probabilities part."""

import numpy as np
import pytest

from tests import tiny
from tests.sampling.test_exactness import (
  eager_to_draw,
  run,
  trainer_log_probs,
  trunks,
)

pytestmark = pytest.mark.ci


def test_bfloat16_parts_sampler_and_trainer_by_little():
  """Printed by `pytest -s -k bfloat16`: what a correction has to mend."""
  dtypes = {"dtype": "bfloat16", "operands": "bfloat16"}
  model, form, params = tiny.make(3, tied_head=False, **dtypes)
  params = eager_to_draw(params, form)
  made = trunks(np.random.default_rng(1), form, 4)
  out = run(model, form, params, made, range(12))
  found = trainer_log_probs(model, form, params, out, made, group=3)
  gap = np.abs(found - out.log_prob)[out.trainable]
  ratio = np.exp(found - out.log_prob)[out.trainable]
  print(
    f"bfloat16: |log p trainer - log p sampler| of {gap.size} tokens: mean"
    f" {gap.mean():.1e}, largest {gap.max():.1e}; mean ratio {ratio.mean():.5f}"
  )
  # A number of bfloat16 is off by up to 2^-9, a logit here of some 10 by .02.
  assert 0 < gap.mean() < 0.02 and gap.max() < 0.25
  assert abs(ratio.mean() - 1) < 0.02


@pytest.mark.parametrize(
  "changes",
  [{"unroll": True, "mixture_of_transformers": True}, {"tied_head": True}],
  ids=["unrolled", "tied"],
)
def test_sampler_and_trainer_round_the_operands_of_products_alike(changes):
  """What is left is the order of sums in f32, not 2^-9 of a bfloat16."""
  changes = {"tied_head": False} | changes
  model, form, params = tiny.make(3, operands="bfloat16", **changes)
  if not changes["tied_head"]:
    params = eager_to_draw(params, form)
  made = trunks(np.random.default_rng(1), form, 4)
  out = run(model, form, params, made, range(12))
  assert out.trainable.sum() > 50
  found = trainer_log_probs(model, form, params, out, made, group=3)
  gap = (found - out.log_prob)[out.trainable]
  # An activation on the edge between two bfloat16 may fall to either side.
  assert np.median(np.abs(gap)) < 1e-5 and np.abs(gap).max() < 0.02
  assert abs(gap.mean()) < 1e-3
  # A control: in f32 the same tokens have other log-probabilities.
  model, form, _ = tiny.make(3, **changes)
  unrounded = trainer_log_probs(model, form, params, out, made, group=3)
  rounding = np.abs(unrounded - out.log_prob)[out.trainable]
  assert np.median(rounding) > 10 * np.median(np.abs(gap))
  assert rounding.max() < 0.25
