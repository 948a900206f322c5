"""The format reward: whole and well-formed, or nothing."""

import numpy as np
import pytest

from cooper_jax.rl.rewards.format import Config, reward
from cooper_jax.rollouts.response import Responses

THINK, ANSWER = "<think> look </think>", "<answer> 3 </answer>"


def _score(text, truncated=False, **settings):
  view = Responses.from_texts([text], truncated=np.array([truncated]))
  config = Config(**settings)
  return float(reward(view, {}, config)[0])


@pytest.mark.parametrize(
  "text",
  [
    f"{THINK} {ANSWER}",
    f"{THINK}\n{ANSWER}\n",
    f"{THINK} <depth> {THINK} {ANSWER}",
    f"{THINK} <depth> {THINK} <segmentation> {THINK} {ANSWER}",
    f"<think> red ball <at 0.1 0.2> 2.4 m </think> {ANSWER}",
  ],
)
def test_turns_that_end_in_an_answer_are_well_formed(text):
  assert _score(text) == 1
  assert _score(text, truncated=True) == 0


@pytest.mark.parametrize(
  "text",
  [
    "",
    ANSWER,  # without a thought
    THINK,
    f"{THINK} <depth>",
    f"{THINK} {THINK} {ANSWER}",
    f"<depth> {THINK} {ANSWER}",
    f"{THINK} <depth> <segmentation> {THINK} {ANSWER}",
    f"{THINK} <depth> {ANSWER}",
    f"{THINK} hello {ANSWER}",
    f"{THINK} {ANSWER} bye",
    f"{THINK} {ANSWER} {THINK} {ANSWER}",
    f"{THINK} <answer> 3",
    f"{THINK} <answer> <answer> 3 </answer>",
    f"<think> a <think> b </think> {ANSWER}",
    f"{THINK} <colour> {THINK} {ANSWER}",  # no such map
    f"{THINK} <at 0.1 0.2> {THINK} {ANSWER}",
    f"&lt;think> look </think> {ANSWER}",
  ],
)
def test_everything_else_is_not(text):
  assert _score(text) == 0


@pytest.mark.parametrize("thought", ["", " ", " ... ", " <at 0.1 0.2> ; "])
def test_an_empty_thought_does_not_pay(thought):
  text = f"<think>{thought}</think> {ANSWER}"
  assert _score(text) == 0
  assert _score(text, thoughts=False) == 1
  assert _score(f"{THINK} <depth> {text}") == 0


def test_an_empty_answer_does_not_pay():
  assert _score(f"{THINK} <answer> . </answer>") == 0
  assert _score("<answer> </answer>", allow_direct=True) == 0


def test_a_direct_answer_is_allowed_where_configured():
  assert _score(ANSWER, allow_direct=True) == 1
  assert _score(f"{THINK} {ANSWER}", allow_direct=True) == 1
  assert _score(f"hello {ANSWER}", allow_direct=True) == 0
  assert _score(f"{ANSWER} {ANSWER}", allow_direct=True) == 0
