"""Options and letters in a text, each replaced by a mark of one character."""

import collections
import re
import string
import unicodedata
from collections.abc import Sequence

# Marks are characters of a private plane: an option's text, its letter, or a
# letter set off as in "(B)"; plus the option's index.
_TEXT, LETTER, _HEAD = 0xF0000, 0xF1000, 0xF2000
OTHER = 0xFFF  # "(E)" where no option has that letter
MARK = "[\U000f0000-\U000f2fff]"

NOUN = (
  r"(?i:(?:the|option|choice|answer|point|box|object|region|picture|image|item"
  r"|letter|number)s?\s+)*"
)
# A capital A is an article unless one of these follows.
_AFTER_A = set(
  "is was are and or nor as because since looks seems appears has lies being"
  " than would could can cannot can't may might must isn't wasn't in on at by"
  " with from to for near over above below behind under beside rather instead"
  " while whereas but not which that so only".split()
)


def shows_letters(question: str, options: Sequence[str]) -> bool:
  """Whether the text of a question offers its options by letter.

  In: "Which ? (A) ball (B) box" or "Which ? A ball, B box"
  """
  letters = string.ascii_uppercase[: len(options)]
  marked = r".*?".join(rf"(?<!\w)[(\[]?{each}[).:\]]" for each in letters)
  beside = r".*?".join(
    rf"(?<!\w){each}[\W_]{{1,3}}(?i:{re.escape(option)})"
    for each, option in zip(letters, options)
  )
  found = re.search(rf"{marked}|{beside}", question, re.DOTALL)
  return bool(letters and found)


def in_order(options: Sequence[str]) -> dict[str, int]:
  """In: ("ball", "box")   Out: {"A": 0, "B": 1}."""
  return dict(zip(string.ascii_uppercase, range(len(options))))


def unlettered(options: Sequence[str]) -> list[str]:
  """Options without the letters that they are written with, in order.

  In: ("A. red ball", "(B) box")   Out: ["red ball", "box"]
  """
  found = [
    re.fullmatch(rf"\s*[(\[]?{letter}[).:\]]+\s*(\S.*)", option, re.DOTALL)
    for letter, option in zip(string.ascii_uppercase, options)
  ]
  lettered = len(found) == len(options) and all(found)
  return [match[1] for match in found] if lettered else list(options)


def own_letters(options: Sequence[str]) -> dict[str, int]:
  """Letters that options hold which are alike without them.

  In: ("A is closer", "B is closer", "neither")   Out: {"A": 0, "B": 1}
  """
  alike = collections.defaultdict(dict)
  for index, option in enumerate(options):
    letters = re.findall(r"(?<![\w'’-])[A-Z](?![\w'’-])", option)
    if len(letters) == 1:
      rest = re.sub(r"(?<![\w'’-])[A-Z](?![\w'’-])", "_", option)
      alike[rest][letters[0]] = index
  most = max(alike.values(), key=len, default={})
  return most if len(most) > 1 else {}


def put(body: str, options: Sequence[str], labels: dict[str, int]) -> str:
  """The text with a mark in the place of every option and letter."""
  text = unicodedata.normalize("NFKC", body)
  text = re.sub("[\U000f0000-\U000fffff]", "", text)
  alone = text.strip(" \t\n.,;:!?()[]\"'")
  if len(alone) == 1:
    text = alone.upper()  # "b"
  for index in sorted(range(len(options)), key=lambda i: -len(options[i])):
    text = _option(options[index], labels).sub(chr(_TEXT + index), text)
  if labels:
    text = _mark_letters(text, labels)
  # A letter and its own text are one: "(A) yes", "B: the ball".

  def joined(pair):
    same = (ord(pair[1]) ^ ord(pair[2])) & 0xFFF == 0
    return pair[1] if same else pair[0]

  pair = rf"({MARK})[ \t]*[:=–-]?[ \t]*({MARK})"
  return re.sub(pair, joined, re.sub(pair, joined, text))


def _option(option: str, labels: dict[str, int]) -> re.Pattern:
  """Finds an option's text, with or without its article."""
  words = option.strip(" \t\n.,;:!?()[]\"'").split() or [r"\0"]
  article = words[0].lower() in ("the", "a", "an") and words[0] not in labels
  words = words[1:] if article and len(words) > 1 else words
  pattern = r"\s+".join(
    rf"(?-i:{word})" if word in labels else re.escape(word) for word in words
  )
  if pattern.lower() == "no":  # "no ball" is not the answer no
    pattern += (
      r"(?=\s*(?:[^\w\s-]|$)|\s+[-–]\s|\s+(?:it|there|they|this|that|the)\b)"
    )
  # "3" is found in neither "-3" nor "2-3".
  negative = "(?<![-–])" if pattern[0].isdigit() else ""
  return re.compile(
    rf"(?<![\w.]){negative}(?:(?:the|an?)\s+)?{pattern}"
    r"(?!\w|\.\d|\s*[-–]\s*\d)",
    re.IGNORECASE,
  )


def _mark_letters(text: str, labels: dict[str, int]) -> str:
  def head(match):
    index = labels.get(match[1].upper())
    if index is None:
      return chr(_HEAD + OTHER) if match[1].isupper() else match[0]
    return chr(_HEAD + index) + " "

  def bare(match):
    letter, word = match[2].upper(), match[3]
    lone = not match[1] and letter in "AI"
    article = lone and word and (letter == "I" or word not in _AFTER_A)
    if letter not in labels or article:
      return match[0]
    return chr(LETTER + labels[letter])

  def small(match):
    return match[0][:-1] + bare(match)[-1:]

  text = re.sub(r"(?<!\w)[(\[]\s*([A-Za-z])\s*[)\]][.:]?", head, text)
  text = re.sub(r"(?m)^\s*([A-Za-z])\s*[).:](?=\s|$)", head, text)
  text = re.sub(
    rf"(?<![A-Za-z0-9_'’&.\-])({NOUN})([A-Z])(?![\w'’&\-]|\.\w)"
    r"(?=(?:\s+([a-z][\w'’]*))?)",
    bare,
    text,
  )
  # A small letter counts after a word that asks for one.
  return re.sub(
    r"(?i:\b(?:(?:answer|choice)(?:\s+is|\s*:)|option|point|box)\s+)()([a-z])\b"
    r"(?=(?:\s+([a-z][\w'’]*))?)",
    small,
    text,
  )
