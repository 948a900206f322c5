"""A reward of a user's file is called as TRL calls one; errors are one line."""

import numpy as np
import pytest

from configs import base
from cooper_jax.errors import UserError
from cooper_jax.rl import scoring
from cooper_jax.rl.rewards import user
from cooper_jax.rollouts.response import DrawnMap, Responses
from cooper_jax.training import workdir

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


def test_a_map_is_given_as_modality_codes_and_target(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "def reward(maps, **_):\n"
    "  sums = []\n"
    "  for drawn in maps:\n"
    "    for modality, codes, target in drawn:\n"
    "      assert modality == drawn[0].modality == 'depth'\n"
    "      sums.append(codes.sum() + target.mean())\n"
    "  return sums\n"
  )
  drawn = DrawnMap("depth", np.array([1, 2]), np.full((2, 2), 0.5))
  view = Responses.from_texts(["one"], maps=[[drawn]])
  got = user.reward(view, {"question": ("?",)}, user.Config(f"{path}:reward"))
  np.testing.assert_array_equal(got, [3.5])


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
    ("def reward(**_): return [1, 'b']", "returned 'b' for response 1"),
    ("def reward(**_): return [1, '2']", "returned '2' for response 1"),
    ("def reward(**_): return '12'", "returned '12'"),
    ("def reward(**_): return {1: 2, 3: 4}", "returned {1: 2, 3: 4}"),
    ("def reward(**_): return 1.0", "returned 1.0"),
    ("def reward(**_): return [1, float('inf')]", "inf for"),
    ("def reward(**_): return [1e39, 1]", r"1e\+39 for response 0"),
    ("def reward(**_): return [1, 10**400]", "returned 1000"),
    ("def reward(**_): return [1, 10**9999]", "returned int for"),
    ("def reward(**_): return [1, float('nan')]", "nan for.*None to abstain"),
    ("def reward(**_):\n  yield 1\n  yield 1 / 0", "line 3.*ZeroDivision"),
    ("import sys\ndef reward(**_): sys.exit(0)", "line 2.*SystemExit: 0"),
    ("import sys\nsys.exit(0)", "line 2.*SystemExit: 0"),
    ("def reward(**_): raise ValueError('word ' * 999)", r"word wo\.\.$"),
    ("def rewards(**_): return [1, 1]", 'it has rewards.*"rewards"'),
    ("x = 1\ndef reward(:\n", "line 2.*SyntaxError"),
    ("import nothing_there", "line 1.*ModuleNotFoundError"),
  ],
)
def test_whatever_is_wrong_is_one_line(tmp_path, body, said):
  with pytest.raises(UserError, match=said) as caught:
    _reward(tmp_path, body)
  assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


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


def test_a_run_does_not_go_on_with_another_file(tmp_path):
  path = tmp_path / "mine.py"
  config = base.get_base("smoke", ("tokenizer", "sft", "grpo"))
  config.grpo.rl.rewards.user = 1.0
  config.grpo.rl.settings.user.function = f"{path}:reward"

  def noted(body):
    path.write_text(body, encoding="utf-8")
    made = config.copy_and_resolve_references()
    user.note(made)
    return made

  first = noted("def reward(prompts, **_): return [1.0] * len(prompts)")
  workdir.prepare(first, tmp_path / "run")
  workdir.begin(first, tmp_path / "run", "grpo")
  assert workdir.differences(first, tmp_path / "run", "grpo") == []
  other = noted("def reward(prompts, **_): return [2.0] * len(prompts)")
  (said,) = workdir.differences(other, tmp_path / "run", "grpo")
  assert "grpo.rl.settings.user.digest is" in said
  other.grpo.rl.settings.user.digest = "c0ffee"
  with pytest.raises(UserError, match="c0ffee was asked for"):
    user.note(other)
