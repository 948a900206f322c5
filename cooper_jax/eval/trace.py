"""Responses read for people: turns of thought, answer, and what is malformed.

A small model does not always close what it opens. What can be read of such a
response is read, and it is said that the rest is malformed.
"""

import re
from typing import NamedTuple

from cooper_jax.rollouts import response
from cooper_jax.tokenizers.text import (
  PUNCTUATION,
  WORDS,
  numbers,
  read_words,
)
from cooper_jax.world.questions import families

PLACE = re.compile(r"<at ([\d.]+) ([\d.]+)>")
_AT_ONCE = re.compile(r"<answer>((?:(?!</?answer>|</?think>).)*)</answer>")
_CLOSED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_OPEN = re.compile(r"<answer>((?:(?!</?answer>).)*)\Z", re.DOTALL)
# Words with their apostrophes, numbers with their point, and other signs.
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s]|_")
_BESIDES = "# What people ask besides."  # a heading of words.txt


class Trace(NamedTuple):
  """A response taken apart."""

  turns: tuple[response.Turn, ...]  # well-formed ones, from the start on
  rest: str  # what comes after them and is none
  answer: str | None  # also one that stands in the rest
  fault: str | None  # what is wrong with its form


def read(text: str) -> Trace:
  """Takes a response apart; an answer at once, without a thought, is right."""
  turns, rest = response.turns(text)
  turns = tuple(turns)
  last = turns[-1] if turns else None
  if not rest:
    if last is not None and last.action == "answer":
      return Trace(turns, "", last.content, None)
    return Trace(turns, "", None, "it ends without an answer")
  at_once = _AT_ONCE.fullmatch(rest)
  if not turns and at_once:
    return Trace((), "", at_once[1].strip(), None)
  closed, opened = _CLOSED.findall(rest), _OPEN.search(rest)
  if closed:
    return Trace(turns, rest, plain(closed[-1]), "its tags do not pair")
  if opened:
    return Trace(turns, rest, plain(opened[1]), "its answer is cut off")
  said = last.content if last is not None and last.action == "answer" else None
  fault = "it goes on after its answer" if said else "it gives no answer"
  return Trace(turns, rest, said, fault)


def plain(text: str) -> str:
  """The words alone, without tags."""
  return " ".join(re.sub(r"<[^<>]*>", " ", text).split())


def places(text: str) -> list[tuple[float, float]]:
  """(y, x) of the places that a response names, in order, as fractions."""
  return [(float(y), float(x)) for y, x in PLACE.findall(text)]


def numbered(text: str) -> str:
  """In: "ball <at .4 .7> ; can <at .5 .2>"  Out: "ball [1] ; can [2]"."""
  order = iter(range(1, 1 + len(PLACE.findall(text))))
  return PLACE.sub(lambda _: f"[{next(order)}]", text)


def tell(text: str) -> str:
  """The response for a terminal: a line a thought, places numbered."""
  found = read(numbered(text))
  lines = []
  for turn in found.turns:
    lines.append(f"  thinks: {turn.thought}")
    if turn.action != "answer":
      lines.append(f"  draws:  {turn.action}")
  if found.fault:
    rest = f": {found.rest}" if found.rest else ""
    lines.append(f"  malformed, {found.fault}{rest}")
  if found.answer is not None:
    lines.append(f"  answer: {found.answer or '(nothing)'}")
  return "\n".join(lines)


def world_words() -> frozenset[str]:
  """Every word and sign that the world's questions and answers are made of."""
  listed = WORDS.read_text("utf-8").partition(_BESIDES)[0]
  said = [
    form for name in families.names() for form in families.find(name).TEMPLATES
  ]
  found = read_words("\n".join([listed, *map(str, said)]))
  letters = {"b", "c", "t"}  # of the templates: {b}; "a" is a word
  signs = {*PUNCTUATION, *numbers()}
  return frozenset(found).difference(letters, "{}") | signs


def as_known(question: str, known) -> str:
  """The question in the letters' case that the world writes its words in.

  In: "WHICH is closer , the Red ball"  Out: "Which is closer , the red ball"
  """

  def spelled(match):
    word = match[0]
    forms = (word, word.lower(), word.capitalize())
    return next((form for form in forms if form in known), word)

  return _WORD.sub(spelled, question)


def unknown(question: str, known) -> list[str]:
  """Words and signs of a question that are not of the world, each once."""
  found = (word for word in _WORD.findall(question) if word not in known)
  return list(dict.fromkeys(found))
