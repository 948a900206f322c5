"""Numbers and lengths in text: "5 feet 4 inches" is 1.6256 m.

Lengths come out in metres, counts as they are. Ranges count as their middle,
words count as digits, a conversion in brackets is ignored.
"""

import re
from typing import NamedTuple

# Metres in one of each unit.
UNITS = {
  "m": 1.0,
  "meter": 1.0,
  "meters": 1.0,
  "metre": 1.0,
  "metres": 1.0,
  "km": 1000.0,
  "kilometer": 1000.0,
  "kilometers": 1000.0,
  "kilometre": 1000.0,
  "kilometres": 1000.0,
  "dm": 0.1,
  "decimeter": 0.1,
  "decimeters": 0.1,
  "decimetre": 0.1,
  "decimetres": 0.1,
  "cm": 0.01,
  "centimeter": 0.01,
  "centimeters": 0.01,
  "centimetre": 0.01,
  "centimetres": 0.01,
  "mm": 0.001,
  "millimeter": 0.001,
  "millimeters": 0.001,
  "millimetre": 0.001,
  "millimetres": 0.001,
  "ft": 0.3048,
  "foot": 0.3048,
  "feet": 0.3048,
  "'": 0.3048,
  "in": 0.0254,
  "inch": 0.0254,
  "inches": 0.0254,
  '"': 0.0254,
  "yd": 0.9144,
  "yard": 0.9144,
  "yards": 0.9144,
  "mi": 1609.344,
  "mile": 1609.344,
  "miles": 1609.344,
}
_WORDS = (
  "zero one two three four five six seven eight nine ten eleven twelve "
  "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: i for i, word in enumerate(_WORDS)}
_VALUES |= {word: 10 * (i + 2) for i, word in enumerate(_TENS)}

_UNIT = "|".join(
  re.escape(unit) + (r"(?![a-z])" if unit.isalpha() else "")
  for unit in sorted(UNITS, key=len, reverse=True)
)
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_QUANTITY = re.compile(
  rf"(?<![\w.])(-?{_NUMBER})(?!\d|\.\d)(?:\s*-?\s*({_UNIT}))?"
)
_RANGE = re.compile(
  rf"(?<![\w.-])({_NUMBER})\s*(?:{_UNIT})?\s*(?:-|–|\bto\b)\s*({_NUMBER})"
)
_BETWEEN = re.compile(
  rf"\bbetween\s+({_NUMBER})\s*(?:{_UNIT})?\s*and\s*({_NUMBER})"
)


class Quantity(NamedTuple):
  """A number; a length, in metres, where it has a unit."""

  value: float
  unit: str  # "m" or "" for a bare number


def to_metres(value: float, unit: str) -> float | None:
  """A length in metres; None where the unit is none of length ("kg", "")."""
  scale = UNITS.get(unit.strip().lower())
  return None if scale is None else value * scale


def read(text: str, *, last_sentence: bool = False) -> Quantity | None:
  """The first quantity of a text, None where there is none.

  With `last_sentence`, of the last sentence that has one: where a response is
  not marked up, the conclusion stands at its end.
  """
  text = _normalise(text)
  sentences = re.split(r"(?<=[.!?])\s+|\n+", text) if last_sentence else [text]
  for sentence in reversed(sentences):
    found = _read(sentence)
    if found is not None:
      return found
  return None


def _read(text: str) -> Quantity | None:
  found = list(_QUANTITY.finditer(text))
  if not found:
    return None
  # A number with a unit says more than one without: "2 objects are 3 m apart".
  chosen = next((m for m in found if m[2]), found[0])
  if not chosen[2]:
    return Quantity(float(chosen[1]), "")
  value = float(chosen[1]) * UNITS[chosen[2]]
  # "5 feet 4 inches": smaller units that follow at once are added.
  end, unit = chosen.end(), UNITS[chosen[2]]
  for more in found[found.index(chosen) + 1 :]:
    gap = text[end : more.start()].strip(" ,")
    smaller = more[2] and UNITS[more[2]] < unit
    if gap not in ("", "and") or not smaller or more[1].startswith("-"):
      break
    value += float(more[1]) * UNITS[more[2]]
    end, unit = more.end(), UNITS[more[2]]
  return Quantity(value, "m")


def _normalise(text: str) -> str:
  text = text.lower().replace("\u2212", "-")
  text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
  text = re.sub(r"(?<=\d)\s*[x×]\s*10\s*\^?\s*(?=-?\d)", "e", text)
  text = _digits(text)
  without = re.sub(r"\([^()]*\)", " ", text)
  if _QUANTITY.search(without):
    text = without

  def middle(match):
    return f"{(float(match[1]) + float(match[2])) / 2:.12g}"

  return _RANGE.sub(middle, _BETWEEN.sub(middle, text))


def _digits(text: str) -> str:
  """Number words as digits: "two and a half meters" becomes "2.5 meters".

  Where the text has digits, words count only before a unit: "the red one is
  3 m away" is about three metres.
  """
  ones = "|".join(sorted(_WORDS, key=len, reverse=True))
  tens = "|".join(_TENS)
  word = rf"(?:(?:{tens})(?:[ -](?:{ones}))?|(?:{ones}))"
  pattern = rf"\b(?:(half an?)|({word})(\s+and\s+a\s+half)?)\b"
  if re.search(r"\d", text):
    pattern += rf"(?=\s*-?\s*(?:{_UNIT}))"

  def digits(match):
    if match[1]:
      return "0.5"
    value = sum(_VALUES[w] for w in re.split("[ -]", match[2]))
    return f"{value + 0.5 * bool(match[3]):g}"

  return re.sub(pattern, digits, text)
