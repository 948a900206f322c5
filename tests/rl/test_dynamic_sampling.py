"""Dynamic sampling: groups without advantage are replaced, rows stay whole."""

import dataclasses
import types

import flax.struct
import numpy as np
import pytest

from cooper_jax.rl import dynamic_sampling
from cooper_jax.rl.questions import Questions
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.sampling import grammar

GROUP = 3


@flax.struct.dataclass
class Out:
  tokens: np.ndarray
  map_modality: np.ndarray
  stop: np.ndarray


def sampled(first, alive, *, maps=(), nan=()):
  """Prompts numbered from `first`; every row carries its prompt's number."""
  count = len(alive)
  number = np.repeat(np.arange(first, first + count), GROUP)
  total = np.where(np.repeat(alive, GROUP), np.arange(len(number)) % GROUP, 1.0)
  modality = np.full((len(number), 1), -1)
  quality = np.full((len(number), 1), np.nan)
  for prompt in maps:
    rows = slice(prompt * GROUP, prompt * GROUP + GROUP)
    modality[rows], quality[rows, 0] = 0, [0.1, 0.5, 0.9]
  total[list(nan)] = np.nan
  names = [f"q{n}" for n in range(first, first + count)]
  return RolloutBatch(
    questions=Questions(first, names),
    trunks=[types.SimpleNamespace(name=name) for name in names],
    ids_R=number * GROUP + np.arange(len(number)) % GROUP,
    rollout=Out(
      number[:, None] * np.ones((1, 4)), modality, stops(number % 2 == 0)
    ),
    total_R=total.astype(np.float32),
    rewards_RE=number[:, None].astype(np.float32),
    quality_RM=quality.astype(np.float32),
    metrics={"first": first},
  )


def stops(truncated):
  return np.where(truncated, grammar.LENGTH, grammar.EOS)


def check(made, names):
  assert made.items == names == [trunk.name for trunk in made.trunks]
  numbers = np.repeat([int(name[1:]) for name in names], GROUP)
  np.testing.assert_array_equal(made.rollout.tokens[:, 2], numbers)
  np.testing.assert_array_equal(made.rewards_RE[:, 0], numbers)
  np.testing.assert_array_equal(made.truncated_R, numbers % 2 == 0)
  np.testing.assert_array_equal(made.ids_R // GROUP, numbers)
  np.testing.assert_array_equal(
    made.group_R, np.repeat(np.arange(len(names)), GROUP)
  )


def test_a_group_is_informative_by_its_rewards_or_by_its_maps():
  made = sampled(0, [True, False, False, True], maps=[2], nan=[9, 10])
  # The last has one reward that counts: nothing to compare it with.
  assert dynamic_sampling.informative(made).tolist() == [
    True,
    False,
    True,
    False,
  ]


def test_a_reward_that_does_not_count_keeps_no_group_alive():
  """Two rewards that differ in each group, one of them of weight 0."""
  made = sampled(0, [False, True, False])
  differ = np.arange(9.0) % GROUP
  same = np.zeros(9)
  made = dataclasses.replace(made, rewards_RE=np.stack([same, differ], axis=1))
  assert dynamic_sampling.informative(made).tolist() == [False, True, False]
  counts = np.array([True, False])  # GDPO: each of its own, if it counts
  assert dynamic_sampling.informative(made, each=counts).tolist() == [
    False,
    True,
    False,
  ]
  assert dynamic_sampling.informative(made, each=~counts).all()


@pytest.mark.parametrize(
  ("cut", "lives"),
  [
    ([], True),
    ([2], False),  # the one that differs
    ([0], True),  # the others still do
    ([0, 1], False),  # one is left: nothing to compare it with
    ([0, 1, 2], False),
  ],
)
@pytest.mark.parametrize("what", ["rewards", "parts", "maps"])
def test_rollouts_that_are_filtered_keep_no_group_alive(what, cut, lives):
  made = sampled(0, [False, False])
  values = np.array([1.0, 1.0, 0.0] if cut != [0] else [1.0, 1.0, 0.5])
  both = np.concatenate([values, np.ones(3)]).astype(np.float32)
  truncated = np.isin(np.arange(6), cut)
  out = made.rollout.replace(stop=stops(truncated))
  made = dataclasses.replace(made, rewards_RE=np.ones((6, 1)), rollout=out)
  if what == "rewards":
    made = dataclasses.replace(made, total_R=both)
  elif what == "parts":
    made = dataclasses.replace(made, rewards_RE=both[:, None])
  else:
    out = out.replace(map_modality=np.zeros((6, 1), int))
    made = dataclasses.replace(made, quality_RM=both[:, None], rollout=out)
  each = np.array([True])
  alive = dynamic_sampling.informative(made, each=each, overlong=False)
  assert alive.tolist() == [lives, False]
  # Without the filter they are in the loss, and count.
  assert dynamic_sampling.informative(made, each=each).tolist() == [True, False]


def test_dead_groups_are_replaced_until_the_batch_is_full():
  asked = []

  def another(turn):
    asked.append(turn)
    return sampled(
      10 * turn, [[False] * 4, [False, True, True, True]][turn - 1]
    )

  first = sampled(0, [False, True, True, False])
  made, figures = dynamic_sampling.fill(first, another, 5)
  check(made, ["q1", "q2", "q21", "q22"])
  assert asked == [1, 2]
  assert figures == {
    "dynamic/dead_at_first": 0.5,
    "dynamic/dead_left": 0.0,
    "dynamic/rounds": 2.0,
  }


@pytest.mark.parametrize("alive", [[True] * 3, [False] * 3])
def test_rounds_are_bounded_and_none_is_taken_where_none_is_needed(alive):
  asked = []

  def another(turn):
    asked.append(turn)
    return sampled(10 * turn, [False] * 3)

  made, figures = dynamic_sampling.fill(sampled(0, alive), another, 2)
  check(made, ["q0", "q1", "q2"])
  assert asked == ([] if alive[0] else [1, 2])
  assert figures["dynamic/dead_left"] == (0.0 if alive[0] else 1.0)
