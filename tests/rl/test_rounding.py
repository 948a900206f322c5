"""A step of GRPO rounds alike where it samples and where it learns."""

import jax
import numpy as np
import optax
import pytest

from cooper_jax.policy import init_state, make_policy
from cooper_jax.runtime import bf16
from tests.rl.toy import CONFIG, asked, letter_e, make_step

pytestmark = pytest.mark.ci


def test_the_mismatch_of_a_step_with_bf16_products_is_that_of_f32(monkeypatch):
  """As on a CPU that is fast at it; in f32 see test_sharded.py."""
  monkeypatch.setattr(bf16, "speedup", lambda: 5.0)
  config = CONFIG.copy_and_resolve_references()
  config.precision = "bf16"
  policy = make_policy(config)
  assert policy.form.model.operands == "bfloat16"
  optimizer = optax.sgd(0.1)
  step = make_step(config, policy, optimizer, scorer=letter_e)
  before = init_state(policy, optimizer, seed=0)
  kept = jax.device_get(before.params)
  after, metrics = step(before, asked())
  total, tokens = map(float, metrics["mismatch_abs/text"])
  assert tokens > 20 and total / tokens < 1e-5
  moved = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), jax.device_get(after.params), kept
  )
  assert max(jax.tree.leaves(moved)) > 1e-4
  assert {str(x.dtype) for x in jax.tree.leaves(after.params)} == {"float32"}
