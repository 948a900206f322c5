r"""What a response answers: a value, and how it was found.

Order of precedence: the last `<answer>..</answer>`, inside it `\boxed{}`; then
an unclosed `<answer>`; then `\boxed{}` anywhere; then the text without its
thoughts. In each place a choice is read as a letter, then as an option's text;
a number with its unit. Nothing is ever evaluated, and two different answers
are no answer: naming every option does not pay.

This is our own reader. Benchmarks that prescribe a rule report theirs beside.
"""

import re
import string
from collections.abc import Sequence
from typing import NamedTuple

from cooper_jax.eval import quantities


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
  text = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}", r"\1", text)
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
  if inner is None:
    return [(place, plain(body))]
  return [("boxed" if place == "whole" else place, plain(inner))]


def choice(response: str, options: Sequence[str]) -> Extraction:
  """The option (its text) that a response chooses."""
  for place, body in places(response):
    index, kind = _read_choice(body, list(options))
    if index is not None:
      return Extraction(options[index], f"{place}/{kind}")
    if _REFUSAL.search(body):
      return Extraction(None, "refusal")
  return NOTHING


def yes_no(response: str) -> Extraction:
  """ "yes" or "no"."""
  found = choice(response, ("yes", "no"))
  # The letters A and B stand for the options only where options were shown.
  return NOTHING if found.how.endswith("/letter") else found


def number(response: str) -> Extraction:
  """The number that a response gives, lengths in metres, bare ones as is."""
  for place, body in places(response):
    found = quantities.read(body, last_sentence=place == "whole")
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
  response: str, answer_type: str, options: Sequence[str] = ()
) -> Extraction:
  """The answer of a response to a question of this type."""
  if answer_type == "choice":
    return choice(response, options)
  if answer_type == "yes_no":
    return yes_no(response)
  if answer_type == "number":
    return number(response)
  return text(response)


def _read_choice(body: str, options: list[str]):
  """(index of the option, letter or text), (None, "") where none is clear."""
  letters = string.ascii_uppercase[: len(options)]
  bare = _bare(body)
  names = [_bare(option) for option in options]
  # 1. Nothing but an option or a letter.
  if bare in names:
    return names.index(bare), "text"
  if len(bare) == 1 and bare.upper() in letters:
    return letters.index(bare.upper()), "letter"
  # 2. A letter that opens the answer: "B) the ball", "B\n\nExplanation ..".
  opening = re.match(r"\W*([A-Z])\s*(?:[).:]|\n|$)", body)
  if opening and opening[1] in letters:
    return letters.index(opening[1]), "letter"
  # 3. "the answer is B".
  said = re.findall(
    r"(?:answer|option|choice|答案|选项)\s*(?:is|:|：|=)?[\s\W]*"
    r"(?:option\s+)?([A-Z])(?![A-Za-z'])(?!\s+[a-z]+\s+[a-z])",
    body,
    re.IGNORECASE,
  )
  said = [letter for letter in said if letter in letters]
  if said:
    return letters.index(said[-1]), "letter"
  # 4. The conclusion alone, then everything: one letter, or one option's text.
  clauses = re.split(
    r"\b(?:but|however|so|therefore|thus|hence)\b", body, flags=re.IGNORECASE
  )
  for clause in (clauses[-1], body) if len(clauses) > 1 else (body,):
    index = _single_letter(clause, letters)
    if index is not None:
      return index, "letter"
    index = _single_option(clause, names)
    if index is not None:
      return index, "text"
  return None, ""


def _single_letter(clause: str, letters: str):
  """The one option letter that stands alone; an article "A" is no letter."""
  found = re.findall(r"(?<![A-Za-z'\-])([A-Z])(?![A-Za-z'\-])(.{0,12})", clause)
  verbs = ("is", "and", "or", "as", "because", "since", "looks", "seems")
  seen = set()
  for letter, after in found:
    word = re.match(r"\s+([a-z]+)", after)
    if letter == "A" and word and word[1] not in verbs:
      continue
    if letter in letters:
      seen.add(letter)
  return letters.index(seen.pop()) if len(seen) == 1 else None


def _single_option(clause: str, names: list[str]):
  """The one option whose text appears and is not denied.

  "front left" hides the "left" inside it: longer texts are looked for first.
  """
  clause = f" {_bare(clause)} "
  seen = []
  for name in sorted(names, key=len, reverse=True):
    if not name:
      continue
    pattern = rf"(?<![\w.])(?:the |an? )?{re.escape(name)}(?!\w|\.\d)"
    clause = re.sub(rf"\b(?:not|isn't|never|than) {pattern}", " ", clause)
    clause, count = re.subn(pattern, " ", clause)
    if count:
      seen.append(names.index(name))
  return seen[0] if len(seen) == 1 else None


def _bare(text: str) -> str:
  """Lower case, no leading article, no punctuation at the ends."""
  text = re.sub(r"\s+", " ", text.lower()).strip(" \t\n.,;:!?()[]\"'")
  return re.sub(r"^(?:the|an?) (?=\w)", "", text)
