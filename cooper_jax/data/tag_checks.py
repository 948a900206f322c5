"""Checks the tags, `<...>`, in the answers and traces of own data.

A trace may point, `<at .4 .7>`, by fractions of height and width, and draw a
map that its image has, `<depth>`. Any other tag would be met in the middle of
training, where no line is known any more.
"""

import re

from cooper_jax import modalities
from cooper_jax.errors import UserError, nearest

TAG = re.compile(r"<[^<>]*>")
_AT = re.compile(r"<at (\d+\.?\d*|\.\d+) (\d+\.?\d*|\.\d+)>", re.ASCII)


def points(reasoning: str) -> bool:
  """Whether a trace names a place in the image."""
  return any(_AT.fullmatch(tag) for tag in TAG.findall(reasoning))


def problems(answer: str, reasoning: str) -> list[str]:
  """What is wrong with the tags of a line; maps that it lacks: `lacking`."""
  known = [f"<{name}>" for name in modalities.names()]
  wrong = []
  if tags := TAG.findall(answer):
    wrong.append(f"the answer holds the tag {tags[0]!r}; answers are words")
  for tag in TAG.findall(reasoning):
    at = _AT.fullmatch(tag)
    if at and all(float(side) <= 1 for side in at.groups()):
      continue
    if tag not in known:
      wrong.append(
        f"the reasoning holds the tag {tag!r}; write places as <at Y X>,"
        " fractions of height and width from 0 to 1, and maps as"
        f" {' or '.join(known)}{nearest(tag, known)}"
      )
  return wrong


def lacking(questions, maps) -> list[str]:
  """The maps that traces about an image draw and that it does not have."""
  tags = {tag for q in questions for tag in TAG.findall(q.reasoning)}
  named = (name for name in modalities.names() if name not in maps)
  return [name for name in named if f"<{name}>" in tags]


def check(questions, maps, where: str) -> None:
  """UserError where a trace draws a map that its image does not have."""
  for name in lacking(questions, maps):
    raise UserError(
      f"{where}: a trace about this image draws <{name}>, and it has no {name}"
    )
