"""Numbers and lengths in text: "5 feet 4 inches" is 1.6256 m.

Lengths come out in metres, counts as they are. A range of lengths counts as its
middle, one of bare numbers as nothing; of "2.5 ± 0.3 m" the margin and of
"3 m (9.8 feet)" the conversion is left out. Two different answers are none.
"""

import itertools
import math
import re
from typing import NamedTuple

from cooper_jax.grading import numerals
from cooper_jax.grading.numerals import NUMBER

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
  "cms": 0.01,
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
# "in" is a word where a place follows: "3 in the image".
_PLACE = (
  r"\s+(?:the|this|that|an?|my|your|each|every|total|all|front|view|image"
  r"|between|it)\b"
)
_LETTERS = "|".join(sorted(filter(str.isalpha, UNITS), key=len, reverse=True))
_UNIT = "|".join(
  re.escape(unit)
  + (r"(?![a-z])" if unit.isalpha() else "")
  + (rf"(?!{_PLACE})" if unit == "in" else "")
  for unit in sorted(UNITS, key=len, reverse=True)
)
_QUANTITY = re.compile(
  rf"(?<![\w.])(-?{NUMBER})(?!\d|\.\d)(?:\s*-?\s*(?:of\s+an?\s+)?({_UNIT}))?"
)
# "3 kg": a number of something else, of which a length is not to be read.
_NO_LENGTH = re.compile(
  rf"(?<![\w.])-?{NUMBER}\s*(?:°|%|(?:kg|kilograms?|grams?|g|lbs?|pounds?"
  r"|degrees?|deg|pixels?|px|percent|seconds?|sec|s|minutes?|hours?|lit(?:er|re)s?"
  r")\b)"
)
_ALONE = r"(?!\d|[.,]\d|\s*[-–/x×]?\s*[a-z'\"%°\d])"  # of no unit, no thing
_TURN = re.compile(
  r"\b(?:so|but|therefore|thus|hence|however|total of|total is)\b|[=≈]"
)
# What stands between two numbers, and what that makes of them.
_MARGINS = {"±", "+/-", "+-", "plus or minus", "give or take"}
_RANGES = {"-", "–", "—", "~", "to"}
_SUMS = {"", ",", "and"}
_LISTS = {"", ",", ";", "/", "&", "or", "and", ", or", ", and", "x", "×", "by"}
_SHARE = _LISTS | _RANGES | _MARGINS  # the unit of the second serves both
_SAME = 0.02  # two lengths that differ by less are one, converted


class Quantity(NamedTuple):
  """A number; a length, in metres, where it has a unit."""

  value: float
  unit: str  # "m" or "" for a bare number


def to_metres(value: float, unit: str) -> float | None:
  """A length in metres; None where the unit is none of length ("kg", "")."""
  scale = UNITS.get(unit.strip().rstrip(".").lower())
  return None if scale is None else value * scale


def is_length(unit: str) -> bool:
  """Whether a unit is one of length: "cm" is, "kg" and "" are not."""
  return to_metres(1.0, unit) is not None


def read(
  text: str, *, last_sentence: bool = False, length: bool | None = None
) -> Quantity | None:
  """The one quantity that a text gives, None where there is none.

  Two different ones are none, but a number with a unit says more than one
  without ("2 objects are 3 m apart"), and of "so", "=" what follows counts.
  With `last_sentence`, of the last sentence that has a number: where a response
  is not marked up, the conclusion stands at its end.  `length`, where it is
  known what was asked for: a sentence with a length, or with a bare number,
  comes before one of the other kind, and no weight or angle is a length.
  """
  text = _tidy(text)
  if length:
    text = _NO_LENGTH.sub(" ", text)
  sentences = re.split(r"(?<=[.!?])\s+|\n+", text) if last_sentence else [text]
  sentences = [each for each in sentences if _QUANTITY.search(each)]
  if length is not None and len(sentences) > 1:
    asked = [each for each in sentences if _holds(each, length)]
    sentences = asked or sentences
  return _read(sentences[-1]) if sentences else None


def _holds(sentence: str, length: bool) -> bool:
  """Whether a sentence gives a length, or else a bare number."""
  return any(bool(part[2]) == length for part in _QUANTITY.finditer(sentence))


def _tidy(text: str) -> str:
  text = numerals.plain(text, _UNIT)
  text = re.sub(r"\.{2,}|…", " to ", text)
  # "240 (cm)", "distance (cm): 240", "in cm: 240"
  text = re.sub(rf"(\d)\s*\(\s*({_LETTERS})\s*\)", r"\1 \2", text)
  text = re.sub(
    rf"(?:\(\s*|\bin )({_LETTERS})\s*\)?\s*[:=]\s*(-?{NUMBER})"
    rf"(?!\d|\.\d|\s*-?\s*(?:{_UNIT}))",
    r": \2 \1",
    text,
  )
  # "1 m 80", "6 foot 2"
  text = re.sub(rf"(\d\s*m(?:et(?:er|re)s?)?) (\d\d){_ALONE}", r"\1 \2cm", text)
  text = re.sub(rf"(\d\s*f(?:oo|ee)?t) (1[01]|\d){_ALONE}", r"\1 \2in", text)
  # "1m80", "2m30cm", "5'4", "5 ft. 4 in.", "between 1 and 2"
  text = re.sub(
    rf"(\dm)(\d\d)(?!\d|\.\d|\s*-?\s*(?:{_UNIT}))", r"\1 \2cm", text
  )
  text = re.sub(rf"(?<=\d)\s?({_LETTERS})(?=\d)", r"\g<0> ", text)
  text = re.sub(r"(\d'\s*\d{1,2})(?![\d.]|\s*['\"a-z])", r'\1"', text)
  text = re.sub(r"(?<=\d)(\s*(?:ft|in|yd))\.(?=\s*\d)", r"\1", text)
  text = re.sub(
    rf"\bbetween\s+(-?{NUMBER}\s*(?:{_UNIT})?)\s*and\s+(?={NUMBER})",
    r"\1 to ",
    text,
  )
  # A conversion in brackets is left out, "(2.5 ± 0.3) m" is not one.
  text = re.sub(rf"\(([^()]*)\)(?=\s*-?\s*(?:{_UNIT}))", r" \1 ", text)
  without = re.sub(r"\([^()]*\)", " ", text)
  text = without if _QUANTITY.search(without) else re.sub("[()]", " ", text)
  # "2.4 m, 90 % sure"
  sure = re.sub(rf"(?<![\w.]){NUMBER}\s*(?:%|percent\b)", " ", text)
  text = sure if _QUANTITY.search(sure) else text
  # "3 of the 5 chairs"
  return re.sub(rf"(?:\bout|(?<=\d)) of (?:the |these )?{NUMBER}", " ", text)


def _read(sentence: str) -> Quantity | None:
  turns = list(_TURN.finditer(sentence))
  told = _parts(sentence[turns[-1].end() :]) if turns else []
  whole = _parts(sentence)
  if told and (told[0].unit or not any(part.unit for part in whole)):
    whole = told
  parts = [part for part in whole if part.unit] or whole
  if not parts:
    return None
  first = parts[0]
  slack = _SAME * abs(first.value) if first.unit else 0.0
  # NaN, from a range of bare numbers, equals nothing.
  same = all(abs(part.value - first.value) <= slack for part in parts)
  return first if same else None


def _parts(text: str) -> list[Quantity]:
  """The quantities of a text, those that make up one put together."""
  found = [
    [float(m[1]), m[2], m.start(), m.end()] for m in _QUANTITY.finditer(text)
  ]
  gaps = [
    text[one[3] : other[2]].strip() for one, other in itertools.pairwise(found)
  ]
  for index in reversed(range(len(gaps))):  # "2, 3 m" are both metres
    if gaps[index] in _SHARE and not found[index][1]:
      found[index][1] = found[index + 1][1]
  for index, gap in enumerate(gaps):
    if gap in _RANGES and not found[index + 1][1]:
      found[index + 1][1] = found[index][1]
  parts, last = [], 0.0  # metres in the smallest unit so far
  for (value, name, *_), gap in zip(found, [None, *gaps]):
    scale = UNITS.get(name)
    part = Quantity(value * (scale or 1), "m" if scale else "")
    if gap in _MARGINS:
      continue
    if gap in _RANGES:
      middle = (parts[-1].value + part.value) / 2
      parts[-1] = Quantity(middle if scale else math.nan, part.unit)
    elif gap in _SUMS and scale and value >= 0 and scale < last:
      parts[-1] = Quantity(parts[-1].value + part.value, "m")
    else:
      parts.append(part)
    last = scale or 0.0
  return parts
