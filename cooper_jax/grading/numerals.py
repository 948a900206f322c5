"""Numbers as people write them, rewritten as plain decimals in a text.

In: "Two and a half, 2 1/2, 1,5 or 1 000"   Out: "2.5, 2.5, 1.5 or 1000"

A comma before exactly three digits parts thousands ("1,000"), any other one
between digits is a decimal comma ("1,5", "0,500").
"""

import re
import unicodedata

_ONES = (
  "zero one two three four five six seven eight nine ten eleven twelve "
  "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: i for i, word in enumerate(_ONES)}
_VALUES |= {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_LARGE = {"hundred": 100, "thousand": 1000}

NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?"
_ONE = "(?:" + "|".join(sorted(_ONES, key=len, reverse=True)) + ")"
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[ -]{_ONE})?|{_ONE})"
_SPELT = (
  rf"(?:(?:{_ONE}|an?|{NUMBER}) (?:hundred|thousand)(?: (?:and )?{_BELOW_100})?"
  rf"|{_BELOW_100})"
)
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4}
_PART = rf"(an?|\d+|{_ONE})[ -](half|halve|third|quarter|fourth)s?\b"
_DIGIT = "(?:" + "|".join(_ONES[:10]) + ")"
_STARTS = r"(?<![\w.,/])"  # here no number is under way


def plain(text: str, unit: str) -> str:
  """The text in small letters, its numbers as decimals.

  `unit` is a pattern of units: where a text has digits, a word counts as a
  number only before one ("the red one is 3 m away").
  """
  text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
  text = re.sub(r"″|(?<=\d)\s?(?:''|’’|′′)", '"', text)
  text = unicodedata.normalize("NFKC", text).lower()
  text = text.translate(str.maketrans("\u2212\u2044′’‘“”", "-/'''\"\""))
  text = re.sub(r"(?<!\w)([\"'])([^\"']*)\1(?!\d)", r"\2", text)  # '"3"'
  # 1 234.5, 1'234.5, 1,234.5 and 1.234,5
  text = re.sub(
    rf"{_STARTS}[1-9]\d{{0,2}}"
    r"(?:([ '])\d{3}(?:\1\d{3})*(?!\d)|(?:,\d{3})+(?!\d|,\d))",
    lambda m: re.sub("[ ',]", "", m[0]),
    text,
  )
  text = re.sub(
    rf"{_STARTS}(\d{{1,3}}(?:\.\d{{3}})+),(\d+)(?![\d,])",
    lambda m: f"{m[1].replace('.', '')}.{m[2]}",
    text,
  )
  text = re.sub(rf"{_STARTS}(\d+),(\d+)(?!\d|[.,]\d)", r"\1.\2", text)
  text = re.sub(r"(?<=\d)\s*[x×·]\s*10\s*\^?\s*(?=-?\d)", "e", text)
  text = re.sub(
    rf"{_STARTS}(?:(\d+)[ -]+)?(\d+)\s?/\s?([1-9]\d*)(?![\d/.]\d|\d|/)",
    _fraction,
    text,
  )
  text = re.sub(r"(?<=\d) \. (?=\d)", ".", text)
  return _digits(_shares(_points(text), unit), unit)


def _fraction(match) -> str:
  """In: "2 1/2"   Out: "2.5"; "2 3/1" is no mixed number."""
  whole, over, under = match[1], int(match[2]), int(match[3])
  if whole and over >= under:
    return match[0]
  return f"{int(whole or 0) + over / under:.12g}"


def _points(text: str) -> str:
  """In: "two point two five", "2 point 4"   Out: "2.25", "2.4"."""

  def decimal(match):
    whole, digits = match[1], re.split("[ -]", match[2])
    digits = [str(_VALUES.get(each, each)) for each in digits]
    return f"{_whole(whole):g}.{''.join(digits)}"

  return re.sub(
    rf"(?<![\w.,/-])({_BELOW_100}|\d+)\s+point\s+"
    rf"({_DIGIT}(?:[ -]{_DIGIT})*|\d+)\b(?!\.\d)",
    decimal,
    text,
  )


def _share(number: str, part: str) -> float:
  """In: "three", "quarter"   Out: 0.75."""
  count = int(number) if number.isdigit() else _VALUES.get(number, 1)
  return count / _PARTS[part]


def _shares(text: str, unit: str) -> str:
  """In: "2 and a half feet", "a third of a foot"   Out: "2.5 feet", ..."""
  text = re.sub(
    rf"\b{_PART}(?= of an? (?:{unit}))",
    lambda m: f"{_share(m[1], m[2]):.12g}",
    text,
  )
  return re.sub(
    rf"{_STARTS}({NUMBER}) and {_PART}(?=\s*-?\s*(?:{unit}))",
    lambda m: f"{float(m[1]) + _share(m[2], m[3]):.12g}",
    text,
  )


def _digits(text: str, unit: str) -> str:
  """In: "two and a half meters", "2 meters and a half"   Out: "2.5 meters"."""
  one = r"(?<!of )\ban?(?=\s+(?:met(?:er|re)|foot|yard|inch|mile)\b)"
  pattern = rf"\b(?:(half an?)|({_SPELT})(?:\s+and\s+{_PART})?)\b"
  if re.search(r"\d", text):
    pattern += rf"(?=\s*-?\s*(?:{unit}))"
  elif not re.search(pattern, text):  # "about a meter", and no other number
    text = re.sub(one, "1", text)

  def digits(match):
    if match[1]:
      return "0.5"
    more = _share(match[3], match[4]) if match[3] else 0.0
    return f"{_whole(match[2]) + more:.12g}"

  text = re.sub(pattern, digits, text)
  return re.sub(
    rf"(?<![\d.])({NUMBER})(\s*(?:{unit}))\s+and\s+{_PART}"
    rf"(?!\s+of|\s*-?\s*(?:{unit}))",
    lambda m: f"{float(m[1]) + _share(m[3], m[4]):.12g}{m[2]}",
    text,
  )


def _whole(spelt: str) -> float:
  """In: "two hundred and five", "12"   Out: 205, 12."""
  value = 0.0
  for word in re.split("[ -]", spelt):
    if word in _LARGE:
      value *= _LARGE[word]
    elif word in ("a", "an"):
      value = 1.0
    elif word != "and":
      value += _VALUES[word] if word in _VALUES else float(word)
  return value
