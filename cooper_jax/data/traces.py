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

from cooper_jax import modalities
from cooper_jax.errors import UserError
from cooper_jax.grading import quantities
from cooper_jax.sample import Question
from cooper_jax.tokenizers.lengths import LENGTH

DOUBT = "the map does not fit the image"
_LENGTH = re.compile(LENGTH.pattern + " m")


def compose(
  question: Question,
  maps: Sequence[str] | None,
  *,
  corrupted: bool = False,
  counterfactual: bool = False,
) -> str:
  """Builds the whole response to a question.

  A map is drawn where the reasoning calls for it, `<depth>`, once; those that
  it does not call for are drawn before all.

  Args:
    maps: which maps to draw; () reasons in text only, None answers directly.
    corrupted: the last map drawn is a wrong one, and the reasoning says so.
    counterfactual: the map that can be changed is, and the question is of it.

  Raises:
    UserError: `maps` names a map that no trace can draw.
  """
  answer = f"<answer> {question.answer} </answer>"
  if maps is None:
    return answer
  known = modalities.names()  # in the order in which they are drawn
  unknown = [name for name in maps if name not in known]
  if unknown:
    raise UserError(
      f'a trace was asked to draw "{unknown[0]}"; it can draw'
      f" {', '.join(known)}"
    )
  drawn = [name for name in known if name in maps]
  changed = modalities.having("move") if counterfactual else ""
  thoughts, reasoning = _turns(question.reasoning, drawn)
  steps = []
  for place, (thought, name) in enumerate(thoughts, 1):
    option = " counterfactual" if name == changed else ""
    option = " corrupted" if corrupted and place == len(thoughts) else option
    steps.append(f"<think> {thought} </think> <{name}{option}>")
  if corrupted and drawn:
    reasoning = f"{DOUBT} ; {reasoning}"
  return " ".join([*steps, f"<think> {reasoning} </think>", answer])


def _turns(reasoning: str, drawn: Sequence[str]) -> tuple[list, str]:
  """([(thought, the map drawn behind it), ...], what is thought at last).

  Calls for maps that are not drawn, or are drawn already, are left out.

  In: "Let me see. <depth> Near.", ["depth", "segmentation"]
  Out: [("find the objects", "segmentation"), ("Let me see.", "depth")], "Near."
  """
  first, *rest = re.split(f"<({'|'.join(modalities.names())})>", reasoning)
  called, text = [], first.split()
  for name, more in zip(rest[::2], rest[1::2], strict=True):
    if name in drawn and name not in [n for _, n in called]:
      called.append((" ".join(text) or call(name), name))
      text = []
    text += more.split()
  names = [name for _, name in called]
  before = [(call(name), name) for name in drawn if name not in names]
  return [*before, *called], " ".join(text)


def call(modality: str) -> str:
  """The thought that calls for a map of a modality."""
  return modalities.found()[modality].CALL


def without_lengths(reasoning: str) -> str:
  """The reasoning without its lengths: what can be said before measuring.

  One that would say nothing then is left as it is.

  In: "red ball <at .4 .7> 2.4 m ; can <at .5 .2> 3.0 m ; 1.1 m ; closer"
  Out: "red ball <at .4 .7> ; can <at .5 .2> ; closer"
  """
  steps = (_LENGTH.sub("", step).split() for step in reasoning.split(" ; "))
  return " ; ".join(" ".join(step) for step in steps if step) or reasoning


def tells_length(question: Question) -> bool:
  """Whether a trace or an answer tells a length."""
  said = bool(_LENGTH.search(question.reasoning))
  return said or quantities.is_length(question.unit)
