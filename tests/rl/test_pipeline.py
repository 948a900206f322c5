"""Sampling a step ahead: one step old, and the same after a stop."""

import jax
import numpy as np
import pytest

from cooper_jax.policy import start_from
from cooper_jax.rl.questions import Questions
from cooper_jax.training.checkpoint import Checkpoints
from tests.rl import toy
from tests.rl.toy import CONFIG, ITEMS


def make_step(updates=1):
  config = CONFIG.copy_and_resolve_references()
  config.grpo.rl.pipeline, config.grpo.steps = True, 5
  config.grpo.rl.updates = updates
  return toy.make_step(config, stream=Shuffled(), scorer=toy.letter_e)


class Shuffled:
  """The four questions in an order that belongs to the step."""

  def draw(self, number, turn=0):
    order = np.random.default_rng(number).permutation(4)
    return Questions(number, [ITEMS[i] for i in order], turn)


def run(step, state, numbers):
  found = []
  for number in numbers:
    state, metrics = step(state, Shuffled().draw(number))
    found.append(jax.device_get(metrics))
  return state, found


@pytest.fixture(scope="module")
def step():
  return make_step()


@pytest.fixture(scope="module")
def whole(step):
  """(state, metrics) of five steps in one go."""
  state = toy.fresh(stale_params=True)
  return run(step, state, range(5))


@pytest.mark.ci
def test_after_a_stop_it_goes_on_in_the_same_bits(step, whole, tmp_path):
  fresh = toy.fresh(stale_params=True)
  state, first = run(step, toy.fresh(stale_params=True), range(3))
  step.keywords["sample"].begun = None  # what a stop loses
  saved = Checkpoints(tmp_path)
  saved.save(3, state, data_state={}, meta={})
  state = saved.restore(fresh)[0]
  saved.close()
  state, rest = run(step, state, range(3, 5))
  jax.tree.map(
    np.testing.assert_array_equal,
    (state.params, state.stale_params),
    (whole[0].params, whole[0].stale_params),
  )
  jax.tree.map(np.testing.assert_array_equal, first + rest, whole[1])


@pytest.mark.ci
def test_with_two_updates_a_stop_loses_nothing_either():
  step = make_step(updates=2)
  state = toy.fresh(stale_params=True)
  whole, _ = run(step, state, range(3))
  state = toy.fresh(stale_params=True)
  state, _ = run(step, state, range(2))
  step.keywords["sample"].begun = None
  state, _ = run(step, state, range(2, 3))
  jax.tree.map(np.testing.assert_array_equal, state.params, whole.params)


def test_the_first_rollouts_are_of_the_stage_before():
  trained = toy.fresh(seed=1, stale_params=True).params
  state = start_from(
    toy.POLICY, toy.OPTIMIZER, trained, seed=0, stale_params=True
  )
  jax.tree.map(np.testing.assert_array_equal, state.stale_params, trained)
  # A step takes the state's memory, and the reference policy keeps its own.
  jax.tree.map(lambda leaf: leaf.delete(), (state.params, state.stale_params))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))


@pytest.mark.ci
def test_the_rollouts_are_of_the_parameters_before_the_last_step(step, whole):
  """The first step is on its own policy; later ones are not, and say so."""
  kl = [np.divide(*metrics["approx_kl/text"]) for metrics in whole[1]]
  assert abs(kl[0]) < 1e-6
  assert min(kl[1:]) > 1e-4
  # Nothing is begun that will not be learned from.
  assert step.keywords["sample"].begun is None
