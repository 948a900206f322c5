"""Claims about scoring: order, abstaining, failures, read-only inputs."""

import itertools
import sys
import types

import numpy as np
import pytest

from cooper_jax import plugins
from cooper_jax.errors import UserError
from cooper_jax.rl import scoring
from cooper_jax.rl.rewards.format import Config
from cooper_jax.rl.scoring import Scorer
from cooper_jax.rollouts.response import DrawnMap, Responses

GOOD = (
  "<think> measure the depth </think> <depth> <think> red ball 2.4 m </think> "
  "<answer> red ball </answer>"
)
WRONG = "<think> hm </think> <answer> blue ball </answer>"
BROKEN = "<think> hm </think>"


def _ramp(shape=(8, 8)):
  return np.geomspace(1, 8, shape[0] * shape[1]).reshape(shape)


def _view():
  depth = DrawnMap("depth", np.arange(4), _ramp())
  texts = [GOOD, WRONG, BROKEN, GOOD]
  return Responses.from_texts(
    texts, maps=[(depth,), (), (), (depth,)], group=[0, 0, 0, 0]
  )


def _columns(rows=4):
  return {
    "answer": ["red ball"] * rows,
    "answer_type": ["choice"] * rows,
    "options": [("red ball", "blue ball")] * rows,
    "unit": [""] * rows,
    "value": [None] * rows,
    "flag": ["positive"] * rows,
    "depth": [_ramp()] * rows,
    "segmentation": [None] * rows,
  }


WEIGHTS = {
  "answer": 1.0,
  "format": 0.3,
  "exploration": 0.7,
  "depth": 0.0,
  "segmentation": 0.0,
  "length": 0.1,
}


def test_scores_by_hand():
  scores = Scorer(WEIGHTS, {"length": {"limit": 20, "buffer": 10}})(
    _view(), _columns()
  )
  np.testing.assert_array_equal(scores.rewards["answer"], [1, 0, 0, 1])
  np.testing.assert_array_equal(scores.rewards["format"], [1, 1, 0, 1])
  # G = 4: tau = ceil(12/8) = 2, two drew: not fewer.
  np.testing.assert_array_equal(scores.rewards["exploration"], np.zeros(4))
  np.testing.assert_allclose(scores.rewards["depth"], [1, np.nan, np.nan, 1])
  assert np.isnan(scores.rewards["segmentation"]).all()
  # GOOD has 16 words: (16 - 10) / 10 = .6 of the penalty.
  np.testing.assert_allclose(
    scores.rewards["length"], [-0.6, 0, 0, -0.6], rtol=1e-6
  )
  np.testing.assert_allclose(scores.total, [1.24, 0.3, 0, 1.24], rtol=1e-6)
  np.testing.assert_allclose(scores.map_quality, [[1], [np.nan], [np.nan], [1]])


def test_the_order_of_the_rewards_changes_no_bit():
  view, columns = _view(), _columns()
  first = Scorer(WEIGHTS)(view, columns)
  for names in itertools.islice(itertools.permutations(WEIGHTS), 0, 720, 60):
    again = Scorer({name: WEIGHTS[name] for name in names})(view, columns)
    assert first.total.tobytes() == again.total.tobytes()
    for name in names:
      assert first.rewards[name].tobytes() == again.rewards[name].tobytes()


def test_permuting_the_rollouts_permutes_the_scores():
  view, columns = _view(), _columns()
  order = [2, 0, 3, 1]
  mixed = Responses.from_texts(
    [view.text[i] for i in order],
    maps=[view.maps[i] for i in order],
    group=view.group[order],
  )
  columns = {k: [v[i] for i in order] for k, v in columns.items()}
  straight = Scorer(WEIGHTS)(view, _columns()).total
  np.testing.assert_array_equal(
    Scorer(WEIGHTS)(mixed, columns).total, straight[order]
  )


def test_abstaining_counts_as_nothing_and_abstaining_all_as_nan():
  nan = np.nan
  rewards = {
    "a": np.array([1.0, nan, nan, 0.5]),
    "b": np.array([2.0, 3.0, nan, nan]),
  }
  got = scoring.weighted_sum(rewards, {"a": 1.0, "b": 0.5})
  np.testing.assert_allclose(got, [2.0, 1.5, nan, 0.5])


def test_a_batch_that_no_reward_scores_is_refused():
  nan = np.full(4, np.nan, np.float32)
  scores = scoring.RewardScores(
    {"answer": nan}, nan, nan[:, None], {}, {"answer": 0}
  )
  with pytest.raises(UserError, match="any of the 4 rollouts"):
    scoring.check_any_scored(scores)
  one = np.array([np.nan, 0, np.nan, np.nan], np.float32)
  scoring.check_any_scored(scores._replace(total=one))
  # It raised: that has been shown, and is counted.
  scoring.check_any_scored(scores._replace(exceptions={"answer": 1}))


@pytest.fixture
def plug(monkeypatch):
  """Adds a reward made of a function for the length of one test."""

  def add(name, reward):
    module = types.ModuleType(f"cooper_jax.rl.rewards.{name}")
    module.reward, module.Config = reward, Config
    monkeypatch.setitem(sys.modules, module.__name__, module)
    files = plugins._files

    def with_it(kind):
      return files(kind) | ({name} if kind == "rewards" else set())

    monkeypatch.setattr(plugins, "_files", with_it)

  return add


def test_a_failing_reward_is_counted_abstains_and_finally_stops(plug, caplog):
  def reward(view, columns, config):
    raise ZeroDivisionError("no judge")

  plug("flaky", reward)
  scorer = Scorer({"answer": 1.0, "flaky": 1.0}, failures_allowed=2)
  for count in (1, 2):
    scores = scorer(_view(), _columns())
    assert scores.exceptions == {"answer": 0, "flaky": count}
    assert scores.metrics()["reward/flaky/exceptions"] == count
    assert scores.metrics()["reward/flaky/abstained"] == 1
    np.testing.assert_array_equal(scores.total, [1, 0, 0, 1])
  with pytest.raises(ZeroDivisionError, match="no judge"):
    scorer(_view(), _columns())


@pytest.mark.parametrize(
  ("values", "reason"),
  [(np.zeros(3), "shape|returned"), (np.full(4, np.inf), "infinite")],
)
def test_a_reward_of_the_wrong_shape_or_infinite_is_a_failure(
  plug, values, reason
):
  plug("odd", lambda view, columns, config: values)
  with pytest.raises(ValueError, match=reason):
    Scorer({"odd": 1.0}, failures_allowed=0)(_view(), _columns())


@pytest.mark.parametrize("what", ["text", "column", "target", "map"])
def test_a_reward_that_writes_into_its_input_fails(plug, what):
  def reward(view, columns, config):
    if what == "text":
      view.text[0] = view.text[0][3:]
    elif what == "column":
      columns["answer"] = ["x"] * len(view)
    elif what == "target":
      columns["depth"][0][:] = 0
    else:
      view.maps[0][0].target[:] = 0
    return np.zeros(len(view))

  plug("writer", reward)
  columns = _columns()
  with pytest.raises((TypeError, ValueError)):
    Scorer({"writer": 1.0}, failures_allowed=0)(_view(), columns)
  assert columns["depth"][0].all()


def test_bad_settings_are_refused():
  with pytest.raises(UserError, match=r"answr.*answer"):
    Scorer({"answr": 1.0})
  with pytest.raises(UserError, match="'tolerence'; it has tolerance"):
    Scorer({"answer": 1.0}, {"answer": {"tolerence": 0.2}})
  with pytest.raises(UserError, match="no reward has a weight"):
    Scorer({"answer": 0.0})
  with pytest.raises(ValueError, match="'flag' has 3 entries for 4"):
    Scorer(WEIGHTS)(_view(), _columns() | {"flag": ["positive"] * 3})


def test_metrics_are_finite_where_something_scored():
  figures = Scorer(WEIGHTS)(_view(), _columns()).metrics()
  assert figures["reward/answer"] == 0.5
  assert figures["reward/depth/abstained"] == 0.5
  assert np.isnan(figures["reward/segmentation"])
  assert figures["reward/answer/seconds"] >= 0
