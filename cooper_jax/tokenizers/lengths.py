"""Lengths as text: 48 preferred numbers, each one token, about 10 % apart."""

import bisect
import re

import numpy as np

# Preferred numbers E24, about 10 % apart: each is one token of the text.
_MANTISSAS = (
  "1.0 1.1 1.2 1.3 1.5 1.6 1.8 2.0 2.2 2.4 2.7 3.0"
  " 3.3 3.6 3.9 4.3 4.7 5.1 5.6 6.2 6.8 7.5 8.2 9.1"
).split()


def _preferred():
  texts = []
  for exponent in (-2, -1, 0, 1):
    for mantissa in _MANTISSAS:
      digits = mantissa.replace(".", "")
      if exponent == -2:
        texts.append("0.0" + digits)
      elif exponent == -1:
        texts.append("0." + digits)
      elif exponent == 0:
        texts.append(mantissa)
      else:
        texts.append(digits)
  return (*texts, "100")


NUMBERS = _preferred()  # as written: "0.010" ... "0.47", "2.4", "12" ... "100"


NUMBER_VALUES = np.array([float(text) for text in NUMBERS])


_EDGES = np.sqrt(NUMBER_VALUES[1:] * NUMBER_VALUES[:-1]).tolist()


# A length in a trace: its number, between spaces and before its unit.
LENGTH = re.compile(r"(?:^|(?<= ))(\d+\.?\d*)(?= m(?: |$))")


def metres(value: float) -> str:
  """Writes a length as the nearest E24 number: 2.31 -> "2.4"."""
  return NUMBERS[bisect.bisect_right(_EDGES, value)]
