"""A reward of a user's file is called as TRL calls one; errors are one line."""

import numpy as np
import pytest

from cooper_jax.errors import UserError
from cooper_jax.rl import scoring
from cooper_jax.rl.rewards import user
from cooper_jax.rollouts.response import Responses

VIEW = Responses.from_texts(["short", "a longer one"], group=[0, 0])
COLUMNS = {"question": ("Is it near ?",) * 2, "answer": ("yes", "no")}


def _reward(tmp_path, body, name="reward"):
  path = tmp_path / "mine.py"
  path.write_text(body, encoding="utf-8")
  # A file is run once a process: each test has a folder of its own.
  return user.reward(VIEW, COLUMNS, user.Config(f"{path}:{name}"))


def test_it_sees_questions_responses_and_columns_and_may_abstain(tmp_path):
  got = _reward(
    tmp_path,
    "def reward(prompts, completions, answer, maps, **others):\n"
    "  assert prompts[0] == 'Is it near ?' and maps == ((), ())\n"
    "  assert list(others['groups']) == [0, 0]\n"
    "  assert not any(others['truncated'])\n"
    "  return [len(c) if a == 'yes' else None\n"
    "          for c, a in zip(completions, answer)]\n",
  )
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, [5.0, np.nan])


def test_it_counts_in_the_sum_as_any_other(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def half(completions, **_): return [0.5] * len(completions)")
  scorer = scoring.Scorer({"user": 2.0}, {"user": {"function": f"{path}:half"}})
  scores = scorer(VIEW, COLUMNS)
  np.testing.assert_array_equal(scores.total, [1.0, 1.0])
  assert scores.exceptions == {"user": 0}


@pytest.mark.parametrize(
  ("body", "said"),
  [
    ("def reward(**_):\n\n  return 1 / 0", "line 3.*ZeroDivisionError"),
    ("def reward(prompts): return [1, 1]", "TypeError: .*completions"),
    ("def reward(**_): return [1]", "returned 1 numbers for 2 responses"),
    ("def reward(**_): return ['a', 'b']", r"returned \['a', 'b'\]"),
    ("def reward(**_): return 1.0", "returned 1.0"),
    ("def reward(**_): return [1, float('inf')]", "infinite"),
    ("def rewards(**_): return [1, 1]", 'it has rewards.*"rewards"'),
    ("x = 1\ndef reward(:\n", "line 2.*SyntaxError"),
    ("import nothing_there", "line 1.*ModuleNotFoundError"),
  ],
)
def test_whatever_is_wrong_is_one_line(tmp_path, body, said):
  with pytest.raises(UserError, match=said) as caught:
    _reward(tmp_path, body)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("named", "said"),
  [
    ("", "name a file and a function"),
    ("mine.py", "name a file and a function"),
    ("nowhere/mine.py:reward", "there is no such file"),
  ],
)
def test_a_function_that_is_not_there_is_refused_before_the_run(named, said):
  with pytest.raises(UserError, match=said):
    user.check(user.Config(named))
