r"""Extraction of the answer from a response: a value, and how it was found.

Order of precedence: the last `<answer>..</answer>`, inside it `\boxed{}`; then
an unclosed `<answer>`; then `\boxed{}` anywhere; then the text without its
thoughts. In each place `choices` reads an option or its letter, `quantities` a
number with its unit. Nothing is ever evaluated, and two different answers are
no answer: naming every option does not pay.

This is our own reader. Benchmarks that prescribe a rule report theirs beside.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from cooper_jax.grading import choices, marks, quantities


class Extraction(NamedTuple):
  """A value, and `place/kind` of where it was read.

  The place is tags, open_tag, boxed or whole; the kind letter, text, quantity
  (with unit) or number. Where nothing was found the value is None and `how` is
  "refusal" or "none".
  """

  value: str | float | None
  how: str

  @property
  def tagged(self) -> bool:
    """Whether it stood in a closed pair of answer tags."""
    return self.how.startswith("tags/")


NOTHING = Extraction(None, "none")

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-z_]+[^<>]*>", re.IGNORECASE)
_REFUSAL = re.compile(
  r"\b(sorry|apologi[sz]e|can(?:'|no)t|can not|unable|don't know|not sure)\b",
  re.IGNORECASE,
)


# LaTeX: braces to open, commands that are a sign.
_BRACED = "text|mathrm|mathbf|textbf|scalar|distance_unit"
_SIGNS = {"pm": "±", "times": "×", "cdot": "·", "approx": "≈"}


def scalar(text: str) -> str | None:
  r"""The last `\scalar{30} \distance_unit{inches}` (Q-Spatial), or None."""
  found = re.findall(
    r"\\scalar\s*\{[^{}]*\}(?:\s*\\distance_unit\s*\{[^{}]*\})?", text
  )
  return found[-1] if found else None


def boxed(text: str) -> str | None:
  r"""The content of the last `\boxed{}`, braces matched; None without one."""
  start = text.rfind("\\boxed")
  if start < 0:
    return None
  rest = text[start + len("\\boxed") :].lstrip()
  if not rest.startswith("{"):
    return rest.split()[0] if rest.split() else None
  depth = 0
  for index, letter in enumerate(rest):
    depth += (letter == "{") - (letter == "}")
    if not depth:
      return rest[1:index]
  return rest[1:]


def plain(text: str) -> str:
  r"""Without LaTeX (`\text{C}` is C), emphasis, tags and doubled spaces."""
  text = re.sub(rf"\\(?:{_BRACED})\s*\{{([^{{}}]*)\}}", r" \1 ", text)
  text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2 ", text)
  for command, sign in _SIGNS.items():
    text = re.sub(rf"\\{command}\b", sign, text)
  text = re.sub(r"\\[,;:! ]", " ", text)
  text = re.sub(r"\\[a-zA-Z]+", " ", text)
  text = _TAG.sub(" ", text)
  text = re.sub(r"[*_$`{}]", " ", text).replace("\u2212", "-")
  return re.sub(r"[ \t\u00a0]+", " ", text).strip()


def places(response: str) -> list[tuple[str, str]]:
  """(place, text) where the answer may stand, the first one that exists."""
  closed = _ANSWER.findall(response)
  opened = response.lower().rfind("<answer>")
  if closed:
    place, body = "tags", closed[-1]
  elif opened >= 0:
    place, body = "open_tag", response[opened + len("<answer>") :]
  else:
    place, body = "whole", _THOUGHT.sub(" ", response)
  inner = boxed(body)
  inner = scalar(body) if inner is None else inner
  if inner is None:
    return [(place, plain(body))]
  return [("boxed" if place == "whole" else place, plain(inner))]


def choice(
  response: str, options: Sequence[str], *, letters: bool = True
) -> Extraction:
  """The option (its text) that a response chooses.

  `letters`: the question showed its options by letter, so that "B" is one.
  """
  for place, body in places(response):
    index, kind = choices.read(body, options, letters=letters)
    if index is not None:
      return Extraction(options[index], f"{place}/{kind}")
    if kind == "refusal" or _REFUSAL.search(body):
      return Extraction(None, "refusal")
  return NOTHING


def yes_no(
  response: str, options: Sequence[str] = ("yes", "no"), *, letters=False
) -> Extraction:
  """ "yes" or "no"; by letter where the question showed them so."""
  return choice(response, options, letters=letters)


def number(response: str, *, length: bool | None = None) -> Extraction:
  """The number that a response gives, lengths in metres, bare ones as is.

  `length`: whether one was asked for, where that is known.
  """
  for place, body in places(response):
    found = quantities.read(body, last_sentence=place == "whole", length=length)
    if found is not None:
      kind = "quantity" if found.unit else "number"
      return Extraction(found.value, f"{place}/{kind}")
    if _REFUSAL.search(body):
      return Extraction(None, "refusal")
  return NOTHING


def text(response: str) -> Extraction:
  """Whatever stands in the place of the answer."""
  for place, body in places(response):
    if body:
      return Extraction(body, f"{place}/text")
  return NOTHING


def extract(
  response: str,
  answer_type: str,
  options: Sequence[str] = (),
  *,
  question: str = "",
  unit: str | None = None,
) -> Extraction:
  """The answer of a response to a question of this type.

  Letters count only where the text of the question shows them. `unit` is that
  of the number that was asked for, "" for a count, None where it is not known.
  """
  if answer_type == "yes_no":
    options = options or ("yes", "no")
  letters = marks.shows_letters(question, options)
  if answer_type == "choice":
    return choice(response, options, letters=letters)
  if answer_type == "yes_no":
    return yes_no(response, options, letters=letters)
  if answer_type == "number":
    length = None if unit is None else quantities.is_length(unit)
    return number(response, length=length)
  return text(response)
