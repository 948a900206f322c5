"""Format reward: 1 for a whole, well-formed response, 0 for any other.

Every turn is `<think>..</think>` followed by one map or, in the last turn, by
`<answer>..</answer>`; nothing stands between or after, and nothing was cut
off. (Paper: R_fmt.)

Ways to game it: an empty thought (no word in it: 0), an empty answer (0), a
tag spelt out in letters (the view writes its `<` as `&lt;`, so it is none). A
well-formed wrong answer does score: keep its weight well below the answer's.
"""

import dataclasses
import re

import numpy as np

from cooper_jax import plugins
from cooper_jax.rollouts.response import turns


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the format reward."""

  allow_direct: bool = False  # a bare <answer>..</answer> is well-formed too
  thoughts: bool = True  # every thought must hold a word or a number


_DIRECT = re.compile(
  r"\s*<answer>(?:(?!</?answer>|</?think>).)*\w"
  r"(?:(?!</?answer>|</?think>).)*</answer>\s*",
  re.DOTALL,
)


def reward(view, columns, config: Config) -> np.ndarray:
  """1 where a response is whole and well-formed, else 0 [R]."""
  del columns
  kinds = set(plugins.names("modalities"))
  return np.array(
    [
      not cut and well_formed(text, kinds, config)
      for text, cut in zip(view.text, view.truncated)
    ],
    np.float32,
  )


def well_formed(text: str, kinds: set[str], config: Config) -> bool:
  """Whether a whole response keeps the format; kinds: names of modalities."""
  if config.allow_direct and _DIRECT.fullmatch(text):
    return True
  found, rest = turns(text)
  if rest or not found or found[-1].action != "answer":
    return False
  if not re.search(r"\w", found[-1].content):
    return False
  if any(turn.action not in kinds for turn in found[:-1]):
    return False
  return not config.thoughts or all(_has_words(t.thought) for t in found)


def _has_words(thought: str) -> bool:
  return bool(re.search(r"\w", re.sub(r"<[^<>]*>", " ", thought)))
