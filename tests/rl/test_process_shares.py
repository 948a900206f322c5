"""Each process scores its own prompts, and the scores of all come together."""

import contextlib
import dataclasses

import numpy as np
import pytest

from cooper_jax.parallel import processes
from cooper_jax.rl import process_shares, scoring
from tests.rl.test_step import GROUP, PAYS, Stream, pulls_of


@pytest.fixture
def second_of_two(monkeypatch):
  """This process as the second one: of four prompts it has the last two."""
  alone = []

  @contextlib.contextmanager
  def noted():
    alone.append(True)
    yield
    alone.pop()

  def gather(scores, *, maps):
    """As if the first process had given 0 to all of its own."""
    assert maps == 1 and not alone
    both = np.concatenate([0 * scores.total, scores.total])
    return scores._replace(total=both)

  monkeypatch.setattr(processes, "share", lambda total, what: range(2, total))
  monkeypatch.setattr(processes, "alone", noted)
  monkeypatch.setattr(process_shares, "gather", gather)
  return alone


def test_a_process_reads_and_scores_its_own_prompts_alone(second_of_two):
  arm_R = np.repeat([0, 1, 2, PAYS], GROUP)
  batch = pulls_of(Stream().draw(0), arm_R)

  def respond(own):
    assert second_of_two == [True]
    return own.rollout.arm_R.tolist()

  responses = process_shares.respond_to_own(respond)(batch)
  assert responses == [2] * GROUP + [PAYS] * GROUP

  def rewards(own):
    assert second_of_two == [True]
    assert own.responses == "read before" and len(own.items) == 2
    total = (own.rollout.arm_R == PAYS).astype(np.float32)
    return scoring.RewardScores({}, total, np.zeros((2 * GROUP, 1)), {}, {})

  batch = dataclasses.replace(batch, responses="read before")
  scores = process_shares.score_own(rewards)(batch)
  np.testing.assert_array_equal(scores.total, arm_R == PAYS)
