"""A step of GRPO rounds alike where it samples and where it learns."""

import jax
import numpy as np
import optax
import pytest

from cooper_jax.policy import init_state, make_policy
from cooper_jax.runtime import bf16
from tests.rl.toy import CONFIG, asked, letter_e, make_step


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_sampler_and_trainer_of_a_step_agree_in_each_precision(
  monkeypatch, precision
):
  """bf16 as on a CPU that is fast at it: of the operands of products."""
  monkeypatch.setattr(bf16, "speedup", lambda: 5.0)
  config = CONFIG.copy_and_resolve_references()
  config.precision = precision
  policy = make_policy(config)
  operands = {"f32": "float32", "bf16": "bfloat16"}[precision]
  assert policy.form.model.operands == operands
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
