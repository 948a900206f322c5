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
_PART = rf"\b(an?|{_ONE})[ -](half|halve|third|quarter|fourth)s?\b"
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
  return _digits(_halves(text, unit), unit)


def _fraction(match) -> str:
  """In: "2 1/2"   Out: "2.5"; "2 3/1" is no mixed number."""
  whole, over, under = match[1], int(match[2]), int(match[3])
  if whole and over >= under:
    return match[0]
  return f"{int(whole or 0) + over / under:.12g}"


def _halves(text: str, unit: str) -> str:
  """In: "2 and a half feet", "a third of a foot"   Out: "2.5 feet", ..."""
  text = re.sub(
    rf"{_PART}(?= of an? (?:{unit}))",
    lambda m: f"{_VALUES.get(m[1], 1) / _PARTS[m[2]]:.12g}",
    text,
  )
  return re.sub(
    rf"{_STARTS}({NUMBER}) and a half(?=\s*-?\s*(?:{unit}))",
    lambda m: f"{float(m[1]) + 0.5:g}",
    text,
  )


def _digits(text: str, unit: str) -> str:
  """In: "two and a half meters", "2 meters and a half"   Out: "2.5 meters"."""
  one = r"(?<!of )\ban?(?=\s+(?:met(?:er|re)|foot|yard|inch|mile)\b)"
  pattern = rf"\b(?:(half an?)|({_SPELT})(\s+and\s+a\s+half)?)\b"
  if re.search(r"\d", text):
    pattern += rf"(?=\s*-?\s*(?:{unit}))"
  elif not re.search(pattern, text):  # "about a meter", and no other number
    text = re.sub(one, "1", text)

  def digits(match):
    if match[1]:
      return "0.5"
    value = 0.0
    for word in re.split("[ -]", match[2]):
      if word in _LARGE:
        value *= _LARGE[word]
      elif word in ("a", "an"):
        value = 1.0
      elif word != "and":
        value += _VALUES[word] if word in _VALUES else float(word)
    return f"{value + 0.5 * bool(match[3]):g}"

  text = re.sub(pattern, digits, text)
  return re.sub(
    rf"(?<![\d.])({NUMBER})(\s*(?:{unit}))\s+and\s+a\s+half\b",
    lambda m: f"{float(m[1]) + 0.5:g}{m[2]}",
    text,
  )
