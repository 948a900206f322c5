"""The GRPO step is its four functions, and each option wraps one of them."""

import dataclasses
import inspect
import pathlib
import types

import flax.struct
import numpy as np
import pytest

from cooper_jax.rl import step, update
from cooper_jax.rl.dynamic_sampling import Resample
from cooper_jax.rl.one_step_ahead import SampleAhead
from cooper_jax.rl.questions import Questions
from cooper_jax.rl.rollout_batch import RolloutBatch
from cooper_jax.rl.rollout_log import RolloutLog, logged
from cooper_jax.rl.shuffle_rewards import shuffled
from cooper_jax.sampling import grammar
from tests.rl import toy

GROUP = 8
PAYS = 3  # the arm that is rewarded
OPTIONS = ("pipeline", "resample", "shuffle", "log", "process", "config")


# A bandit of five arms in plain numpy: a rollout is one pull, R = P * G.


@flax.struct.dataclass
class Pulls:
  """Rollouts of the bandit, with what a RolloutBatch looks at."""

  arm_R: np.ndarray
  stop: np.ndarray
  map_modality: np.ndarray


def sample(logits, questions):
  rng = np.random.default_rng([questions.number, questions.turn])
  rows = len(questions.items) * GROUP
  share = np.exp(logits) / np.exp(logits).sum()
  return pulls_of(questions, rng.choice(5, rows, p=share))


def pulls_of(questions, arm_R):
  rows = len(arm_R)
  rollout = Pulls(arm_R, np.full(rows, grammar.EOS), np.full((rows, 1), -1))
  return RolloutBatch(questions, questions.items, np.arange(rows), rollout)


def score(rollouts):
  total_R = (rollouts.rollout.arm_R == PAYS).astype(np.float32)
  return dataclasses.replace(
    rollouts,
    total_R=total_R,
    rewards_RE=total_R[:, None],
    quality_RM=np.full((len(total_R), 1), np.nan, np.float32),
    metrics={"reward": total_R.mean(), "never": np.nan, "pair": (1.0, 2.0)},
  )


def advantages(scored):
  total_PG = scored.total_R.reshape(-1, GROUP)
  mean_PG = total_PG.mean(axis=1, keepdims=True)
  answer_R = (total_PG - mean_PG).ravel()
  return types.SimpleNamespace(answer_R=answer_R, metrics={"groups": 4.0})


def learn(logits, scored, targets):
  share = np.exp(logits) / np.exp(logits).sum()
  chosen_RA = np.eye(5)[scored.rollout.arm_R] - share
  return logits + targets.answer_R @ chosen_RA / 8, {"loss": 0.0}


FUNCTIONS = {
  "sample": sample, "score": score, "advantages": advantages, "update": learn
}  # fmt: skip


class Stream:
  """Questions of a step and a turn."""

  def draw(self, number, turn=0):
    return Questions(number, [f"q{turn}"] * 4, turn)


def run(steps=40, **functions):
  logits = np.zeros(5)
  for number in range(steps):
    logits, metrics = step.grpo_step(
      logits, Stream().draw(number), **(FUNCTIONS | functions)
    )
  return float(np.exp(logits[PAYS]) / np.exp(logits).sum()), metrics


def test_four_functions_are_a_step_and_learn_a_bandit():
  share, metrics = run()
  assert share > 0.9
  assert metrics.keys() == {"loss", "reward", "pair", "groups"}  # no NaN


def test_with_shuffled_rewards_the_bandit_learns_nothing():
  share, _ = run(score=shuffled(score, seed=0))
  assert share < 0.6


def test_the_step_is_short_and_names_no_option():
  path = pathlib.Path(step.__file__)
  assert len(path.read_text(encoding="utf-8").splitlines()) <= 120
  body = inspect.getsource(step.grpo_step)
  code = body.rpartition('"""')[2].strip()
  assert len(code.splitlines()) <= 6
  assert [word for word in OPTIONS if word in code] == []
  assert list(inspect.signature(step.grpo_step).parameters) == [
    "state", "questions", *FUNCTIONS
  ]  # fmt: skip


def arguments(function) -> list[str]:
  """Names of the arguments by position that are not set yet."""
  return [
    name
    for name, each in inspect.signature(function).parameters.items()
    if each.kind is each.POSITIONAL_OR_KEYWORD
  ]


def wrapped():
  """What each option puts in the place of which function."""
  resample = Resample(sample, score, again=sample, stream=Stream(), rounds=1)
  ahead = SampleAhead(begin=sample, read=None, stream=Stream(), steps=1)
  return [
    ("score", shuffled(score, seed=0)),
    ("sample", resample.sample),
    ("score", resample.score),
    ("sample", ahead),
    ("advantages", logged(advantages, None)),
  ]


@pytest.mark.parametrize("place", range(len(wrapped())))
def test_an_option_keeps_the_signature_of_what_it_wraps(place):
  name, function = wrapped()[place]
  count = len(arguments(FUNCTIONS[name]))
  assert len(arguments(function)) == count


@pytest.mark.parametrize(
  "settings",
  [{}, {"pipeline": True}, {"resample": 2}, {"shuffle_rewards": True}],
)
def test_what_is_built_takes_what_the_toy_functions_take(settings, tmp_path):
  config = toy.CONFIG.copy_and_resolve_references()
  config.grpo.rl.update(settings)
  log = RolloutLog(
    tmp_path, policy=toy.POLICY, rewards=("answer",), every=1, steps=1
  )
  made = toy.make_step(config, stream=Stream(), log=log).keywords
  assert made.keys() == FUNCTIONS.keys()
  for name, function in FUNCTIONS.items():
    assert len(arguments(made[name])) == len(arguments(function)), name
  assert isinstance(made["update"], update.Update)
  assert isinstance(made["sample"], SampleAhead) == ("pipeline" in settings)


def test_resampling_is_by_the_state_of_the_step_and_keeps_its_metrics():
  """All arms pay in four groups; of the next lot they differ in two groups."""
  arm_R, asked = np.full(4 * GROUP, PAYS), []
  other_R = arm_R.copy()
  other_R[: 2 * GROUP : GROUP] = 0

  def again(state, questions):
    asked.append((state, questions.number, questions.turn))
    return pulls_of(questions, other_R)

  made = Resample(
    lambda state, questions: pulls_of(questions, arm_R),
    score,
    again=again,
    stream=Stream(),
    rounds=1,
  )
  full = made.score(made.sample("state", Stream().draw(7)))
  assert asked == [("state", 7, 1)]
  assert full.items == ["q1", "q1", "q0", "q0"]
  assert full.metrics["reward"] == 1  # of the first lot
  assert full.metrics["dynamic/dead_left"] == 0.5


def test_one_step_ahead_the_device_is_at_work_while_the_host_scores():
  """The next step is begun by the state of this one, before it is updated."""
  order = []

  def begin(params, questions):
    order.append(("begin", params, questions.number))
    return pulls_of(questions, np.zeros(4 * GROUP, int))

  def read(begun):
    order.append(("read", begun.questions.number))
    return begun

  made = SampleAhead(begin=begin, read=read, stream=Stream(), steps=3)
  for number in range(3):
    state = types.SimpleNamespace(params=number, stale_params=number - 1)
    assert made(state, Stream().draw(number)).questions.number == number
  assert order == [
    ("begin", -1, 0), ("read", 0), ("begin", 0, 1),
    ("read", 1), ("begin", 1, 2), ("read", 2),
  ]  # fmt: skip
