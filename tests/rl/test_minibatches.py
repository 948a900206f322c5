"""Mini-batches: a batch of rollouts as several optimiser steps."""

import jax
import numpy as np
import pytest

from configs import base
from cooper_jax.errors import UserError
from cooper_jax.rl.rollout_batch import take_prompts
from cooper_jax.settings import checks
from tests.rl import toy


def parts(minibatches, updates=1):
  config = toy.CONFIG.copy_and_resolve_references()
  config.grpo.rl.minibatches, config.grpo.rl.updates = minibatches, updates
  return toy.make_step(config, scorer=toy.letter_e).keywords


@pytest.fixture(scope="module")
def batch():
  """(scored rollouts, their targets) of a step of four prompts."""
  made = parts(1)
  scored = made["score"](made["sample"](toy.fresh(), toy.asked()))
  return scored, made["advantages"](scored)


@pytest.mark.ci
def test_each_part_is_a_step_of_its_own_and_the_old_policy_the_samplers(batch):
  scored, targets = batch
  update = parts(2, updates=2)["update"]
  state, metrics = update(toy.fresh(), scored, targets)
  # By hand: every other prompt, the others, and again.
  by_hand = toy.fresh()
  for prompts in ((0, 2), (1, 3)) * 2:
    rows = np.flatnonzero(np.isin(scored.group_R, prompts))
    tokens = jax.tree.map(lambda x, rows=rows: x[rows], targets.tokens)
    packed = update.pack(take_prompts(scored, prompts))
    by_hand, _ = update.learn(by_hand, packed, tokens)
  jax.tree.map(np.testing.assert_array_equal, state.params, by_hand.params)
  kl = [
    float(metrics[f"update{i}/approx_kl/text"][0])
    / float(metrics[f"update{i}/approx_kl/text"][1])
    for i in (1, 2, 3, 4)
  ]
  assert kl[0] < 1e-6 < min(kl[1:])  # only the first is on policy
  assert sum(
    float(metrics[f"update{i}/entropy/text"][1]) for i in (1, 2)
  ) == float(np.sum(targets.tokens.text_RT))


@pytest.mark.ci
def test_one_part_is_the_batch_in_the_same_bits(batch):
  scored, targets = batch
  whole, _ = parts(1)["update"](toy.fresh(), scored, targets)
  halves, _ = parts(2)["update"](toy.fresh(), scored, targets)
  update = parts(1)["update"]
  assert update.on_policy and not parts(2)["update"].on_policy
  once, _ = update.learn(toy.fresh(), update.pack(scored), targets.tokens)
  jax.tree.map(np.testing.assert_array_equal, whole.params, once.params)
  assert int(whole.step) == 1 and int(halves.step) == 2


@pytest.mark.parametrize(
  ("name", "value", "said"),
  [
    ("minibatches", 3, "minibatches=3 can't divide evenly"),
    ("minibatches", 0, "minibatches is 0"),
  ],
)
def test_parts_that_are_not_even_are_refused(name, value, said):
  config = base.get_base("smoke", ("sft", "grpo"))
  config.grpo.rl[name] = value
  with pytest.raises(UserError, match=said):
    checks.validate(config)
