"""Whole gold responses in markup: think, draw, think, answer.

The markup is one string of words between single spaces, in which
`<depth>` / `<segmentation>` stand for a drawn map, `<segmentation id=3>` for
the map of one object, `<depth corrupted>` for a map that is wrong on purpose,
`<depth counterfactual>` for one that was changed on purpose
(`data/counterfactual.py`) and `<at y x>` for a place as fractions of the
image's height and width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cooper_jax.errors import UserError
from cooper_jax.sample import Question
from cooper_jax.tokenizers.lengths import LENGTH

# In the order in which they are drawn, with the thought that calls for each.
CALLS = {
  "depth": "measure the depth",
  "segmentation": "find the objects",
}
DOUBT = "the map does not fit the image"
_LENGTH = re.compile(LENGTH.pattern + " m")


def compose(
  question: Question,
  maps: Sequence[str] | None = ("depth",),
  *,
  corrupted: bool = False,
  counterfactual: bool = False,
) -> str:
  """Builds the whole response to a question.

  Args:
    maps: which maps to draw; () reasons in text only, None answers directly.
    corrupted: the last map drawn is a wrong one, and the reasoning says so.
    counterfactual: the depth map is a changed one, which the question is of.

  Raises:
    UserError: `maps` names a map that no trace can draw.
  """
  answer = f"<answer> {question.answer} </answer>"
  if maps is None:
    return answer
  unknown = [name for name in maps if name not in CALLS]
  if unknown:
    raise UserError(
      f'a trace was asked to draw "{unknown[0]}"; it can draw'
      f" {', '.join(CALLS)}"
    )
  drawn = [name for name in CALLS if name in maps]
  steps = []
  for name in drawn:
    option = " counterfactual" if counterfactual and name == "depth" else ""
    option = " corrupted" if corrupted and name == drawn[-1] else option
    steps.append(f"<think> {CALLS[name]} </think> <{name}{option}>")
  reasoning = question.reasoning
  if corrupted and drawn:
    reasoning = f"{DOUBT} ; {reasoning}"
  return " ".join([*steps, f"<think> {reasoning} </think>", answer])


def without_lengths(reasoning: str) -> str:
  """The reasoning without its lengths: what can be said before measuring.

  One that would say nothing then is left as it is.

  In: "red ball <at .4 .7> 2.4 m ; can <at .5 .2> 3.0 m ; 1.1 m ; closer"
  Out: "red ball <at .4 .7> ; can <at .5 .2> ; closer"
  """
  steps = (_LENGTH.sub("", step).split() for step in reasoning.split(" ; "))
  return " ; ".join(" ".join(step) for step in steps if step) or reasoning
