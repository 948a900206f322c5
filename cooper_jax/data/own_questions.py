"""A question of own data: its kind, and its truth in metres or as a count.

Lengths are kept as they were written ("240 cm") and valued in metres, since
answers are read in metres whatever their unit.
"""

import itertools
import math
import re
import unicodedata
from typing import Any

from cooper_jax import modalities
from cooper_jax.data import modes, records, tag_checks
from cooper_jax.data.flags import FLAG_NAMES
from cooper_jax.data.records import said
from cooper_jax.errors import nearest
from cooper_jax.grading import quantities
from cooper_jax.sample import Question

KNOWN_TYPES = ("choice", "yes_no", "number", "text")
_LARGEST = 1e15  # beyond it whole numbers are not told apart
# By which `value` may differ from a length that is rounded in the answer.
ROUNDING = 0.05
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_UNIT = "|".join(
  sorted(map(re.escape, quantities.UNITS), key=len, reverse=True)
)
_SIGNS = "+-\N{MINUS SIGN}."  # before a number
_IN_WORDS = "-'\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{RIGHT SINGLE QUOTATION MARK}"
_IN_NUMBERS = f"{_IN_WORDS}.,:/"
_PART = re.compile(rf"({_NUMBER})\s*({_UNIT})?(?![a-z])\.?\s*", re.IGNORECASE)


def make(record: dict[str, Any]) -> tuple[Question | None, list[str]]:
  """(question, what is wrong) of a record whose values are of their types."""
  problems: list[str] = []
  options, wrong = _options(record.get("options", []))
  answer, unit = record["answer"].strip(), record.get("unit", "").strip()
  if options and answer not in options:
    answer = _lettered(answer, options)
  if options and answer not in options:
    problems.append(
      f"answer {said(answer)} is none of the options {said(options)}"
    )
  problems += wrong
  kind = record.get("answer_type") or _kind(answer, options, unit)
  if kind not in KNOWN_TYPES:
    problems.append(
      f"answer_type {said(kind)} is none of {', '.join(KNOWN_TYPES)}"
      f"{nearest(kind, KNOWN_TYPES)}"
    )
  if kind == "choice" and not options and not problems:
    problems.append(
      "a choice without 'options'; list what can be chosen, the answer too"
    )
  if kind == "yes_no":
    if answer.lower() not in ("yes", "no"):
      problems.append(f"answer {said(answer)} is neither yes nor no")
    elif options and {option.lower() for option in options} != {"yes", "no"}:
      problems.append(
        f"options {said(options)} of a yes_no; these are yes and no, others"
        " make it a choice"
      )
    answer = answer.lower()
  flag = record.get("flag", "boundary")
  if flag not in FLAG_NAMES:
    problems.append(
      f"flag {said(flag)} is none of {', '.join(FLAG_NAMES)}"
      + nearest(flag, FLAG_NAMES)
    )
  value = None
  if kind == "number" and unit and quantities.to_metres(1.0, unit) is None:
    problems.append(
      f"unit {said(unit)} is no length; allowed are m, cm, mm, km, ft, in and"
      " their names; a count has no unit"
    )
  elif kind == "number":
    try:
      answer, unit, value = _truth(answer, unit, record.get("value"))
    except ValueError as error:
      problems.append(str(error))
  if kind != "number" and kind in KNOWN_TYPES and "value" in record:
    problems.append(
      f"'value' is for answers of type number, this one is {kind}"
    )
  # Of one kind each, as the baselines of a family need it.
  family = record.get("family") or f"own_{noun(kind, unit)}"
  # In summary.json the scores of modes stand beside the families'.
  reserved = modes.every()
  if family in reserved or not re.fullmatch(r"\w+", family):
    problems.append(
      f"family {said(family)} can't name a score; letters, digits and _ will"
      f" do, but for {', '.join(reserved)}"
    )
  problems += tag_checks.problems(answer, record.get("reasoning", ""))
  if problems:
    return None, problems
  return Question(
    family=family,
    text=_with_options(record["question"], options),
    answer=answer,
    answer_type=kind,
    options=tuple(options),
    unit=unit,
    value=value,
    needs=tuple(name for name in modalities.names() if record.get(name)),
    flag=flag,
    reasoning=record.get("reasoning", ""),
  ), []


def _lettered(answer: str, options: list[str]) -> str:
  """The option that a letter names.  In: "(B)", three options   Out: the 2nd"""
  found = re.fullmatch(r"\(([A-Za-z])\)|([A-Z])[).:]?", answer)
  letter = (found[1] or found[2]).upper() if found else ""
  place = ord(letter) - ord("A") if letter else len(options)
  return options[place] if place < len(options) else answer


def noun(kind: str, unit: str) -> str:
  """What an answer is called: lengths and counts are graded otherwise."""
  return "length" if kind == "number" and unit else kind


def _options(options: Any) -> tuple[list[str], list[str]]:
  """(options as text, what is wrong with them); [] where they are no list."""
  if not isinstance(options, list) or not all(
    isinstance(option, str) for option in options
  ):
    return [], [f"'options' is {said(options)}; it should be a list of strings"]
  options = [str(option).strip() for option in options]
  seen = [_as_graded(option) for option in options]
  wrong = []
  if len(options) == 1:
    wrong.append(f"one option, {said(options[0])}: nothing is to be chosen")
  if not all(options):
    wrong.append(f"an empty option in {said(options)}")
  elif len(set(seen)) < len(seen):
    twice = next(o for o, s in zip(options, seen) if seen.count(s) > 1)
    wrong.append(f"option {said(twice)} stands twice in {said(options)}")
  return options, wrong


def _as_graded(option: str) -> str:
  """What grading reads of an option.  In: "The ball."   Out: "ball" """
  text = unicodedata.normalize("NFKC", option).casefold()
  text = "".join(c for c in text if unicodedata.category(c) != "Cf")
  words = text.strip(" .").split()
  return " ".join(words[len(words) > 1 and words[0] == "the" :])


def _with_options(text: str, options: list[str]) -> str:
  """Names the options that the question does not: the model reads no others.

  Named is what stands as whole words, and in no longer option: "in" is not
  named by "standing", nor by "in front" where that is an option too, nor "1" by
  "12". Where no spaces part the words they are told again.
  """
  left = text
  for option in sorted(options, key=len, reverse=True):
    places = _places(left, option)
    if not places:
      return f"{text} {' / '.join(options)}"
    for at in places:
      left = left[:at] + "|" * len(option) + left[at + len(option) :]
  return text


def _places(text: str, words: str) -> list[int]:
  """Where words or a number stand whole in a text, in any script."""
  found = (each.start() for each in re.finditer(re.escape(words), text))
  return [
    at
    for at in found
    if not (_joined(text, at) or _joined(text, at + len(words)))
  ]


def _joined(text: str, at: int) -> bool:
  """Whether one word, or number, goes on across a place of a text.

  In: "x-ray", 1   Out: True; of "2.4", "-1" and "don't" no part stands alone.
  """
  before, after = text[max(0, at - 2) : at], text[at : at + 2]
  if not before or not after:
    return False
  last, first = before[-1], after[0]
  if _in_word(last) and _in_word(first):
    return True
  alone = len(before) < 2 or not _in_word(before[0])
  if alone and last in _SIGNS and first.isdecimal():
    return True
  # A mark between two letters or digits: the place is before or behind it.
  for one, mark, other in (
    (before[:-1], last, first),
    (last, first, after[1:]),
  ):
    marks = _IN_NUMBERS if one.isdecimal() and other.isdecimal() else _IN_WORDS
    if mark in marks and all(side and _in_word(side) for side in (one, other)):
      return True
  return False


def _in_word(character: str) -> bool:
  """Letters, digits, what stands on them, and what joins them unseen."""
  category = unicodedata.category(character)
  return category[0] in "LMN" or category in ("Pc", "Cf")


def _kind(answer: str, options: list[str], unit: str) -> str:
  if options:
    return "choice"
  if answer.lower() in ("yes", "no"):
    return "yes_no"
  return "number" if unit or _parts(answer) else "text"


def _parts(text: str) -> list[tuple[str, str]] | None:
  """[(number, unit), ...] of a text that is a quantity and nothing else.

  In: "5 feet 4 inches"   Out: [("5", "feet"), ("4", "inches")]
  """
  parts, at = [], 0
  while at < len(text):
    found = _PART.match(text, at)
    if not found or len(found[1]) > records.DIGITS:
      return None
    parts.append((found[1], found[2] or ""))
    at = found.end()
  sizes = [quantities.to_metres(1.0, unit) for _, unit in parts]
  if len(parts) > 1 and (
    None in sizes
    or any(a <= b for a, b in itertools.pairwise(sizes))
    or any(number[0] in "+-" for number, _ in parts[1:])
  ):
    return None
  return parts or None


def _truth(answer: str, unit: str, value: Any) -> tuple[str, str, float]:
  """(answer with its unit, unit as written, value in metres or as a count).

  `value`, the exact number of a rounded answer, may be in the unit or in
  metres. Raises ValueError where it is another number than the answer.
  """
  parts = _parts(answer)
  if parts is None:
    raise ValueError(
      f"answer {said(answer)} does not begin with a number, or holds more: "
      'write "2.4", or "2.4 m"'
    )
  if not parts[0][1] and unit:
    parts = [(parts[0][0], unit)]
    answer = f"{answer} {unit}"
  unit = unit or parts[0][1]
  sizes = [
    quantities.to_metres(1.0, part) if part else 1.0 for _, part in parts
  ]
  told = sum(float(n) * size for (n, _), size in zip(parts, sizes))
  if not abs(told) <= _LARGEST or (unit and told < 0):
    raise ValueError(f"answer {said(answer)} is no {noun('number', unit)}")
  if value is None:
    return answer, unit, told
  number = exact(value, "value")
  if not unit:
    if number != told:
      raise ValueError(
        f"answer {said(answer)} and value {said(value)} contradict each "
        "other; a count is exact, keep one"
      )
    return answer, unit, told
  off = max(ROUNDING * told, 0.5 * _last_digit(parts[-1][0]) * sizes[-1])
  read = [number * size for size in (quantities.to_metres(1.0, unit), 1.0)]
  metres = min(read, key=lambda metres: abs(metres - told))
  if abs(metres - told) > off * (1 + 1e-9):
    raise ValueError(
      f"answer {said(answer)} and value {said(value)} contradict each other;"
      " leave 'value' out, or write the number behind the answer"
    )
  return answer, unit, metres


def exact(value: Any, key: str) -> float:
  """A key's number, or text of one; ValueError where it is none."""
  if isinstance(value, str) and re.fullmatch(_NUMBER, value.strip()):
    number = float(value)
    if math.isfinite(number) and abs(number) <= _LARGEST:
      return number
  raise ValueError(f"{key!r} is {said(value)}; it should be a number")


def _last_digit(number: str) -> float:
  """What one in the last digit is worth.  In: "2.40"   Out: 0.01"""
  digits, _, power = number.lower().partition("e")
  decimals = len(digits.partition(".")[2])
  return 10.0 ** (int(power or 0) - decimals)
