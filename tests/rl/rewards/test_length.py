"""The length reward counts tokens, and cut-off rollouts pay in full."""

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.rl.rewards import length
from cooper_jax.rollouts.response import Responses


def test_the_penalty_grows_over_the_buffer():
  tokens = np.array([0, 80, 90, 100, 130, 20])
  view = Responses.from_texts(
    ["x" * 1000] * 6,
    text_tokens=tokens,
    code_tokens=np.full(6, 5000),
    truncated=np.arange(6) == 5,
  )
  config = length.Config(limit=100, buffer=20, penalty=2.0)
  got = length.reward(view, {}, config)
  np.testing.assert_allclose(got, [0, 0, -1, -2, -2, -2])


def test_a_buffer_beyond_the_limit_is_refused():
  with pytest.raises(UserError, match=r"allowed is 1..limit \(10\)"):
    length.Config(limit=10, buffer=20)


def test_a_penalty_that_pays_is_refused():
  with pytest.raises(UserError, match="pays for long responses"):
    length.Config(penalty=-1.0)
