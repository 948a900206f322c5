"""Letters of axes: one meaning each, as docs/glossary.md has them."""

import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
FILES = sorted((ROOT / "cooper_jax").rglob("*.py"))

# A name that ends in its axes; digits are axes of that size.
SUFFIX = re.compile(r"\b_*[a-z]\w*_([A-Z][A-Z0-9]*)\b")
# Axes in brackets, in text: [B, L, D], [n, Q + 1], [layers, P, K, H, S].
AXIS = r"[\w.*]+(?: ?[-+*/] ?\w+)?"
SHAPE = re.compile(rf"\[({AXIS}(?:, ?{AXIS})*)\]")
ATTENTION = {"attention", "kernels"}  # who imports these has heads


def table(text):
  """Letter -> letters one of which must be beside it; () = none."""
  rows = re.findall(r"^\| ([A-Z]) \| [^|]+ \| ?([A-Z ]*)\|$", text, re.M)
  letters = {letter: tuple(beside.split()) for letter, beside in rows}
  assert len(letters) == len(rows), "a letter stands in two rows"
  return letters


LETTERS = table(GLOSSARY.read_text(encoding="utf-8"))


def arrays(source):
  """(line, as written, axes) of every array whose axes are told.

  Brackets are read in comments and docstrings: elsewhere they are indices.
  """
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    text, line = token.string, token.start[0]
    told = token.type == tokenize.COMMENT or text.startswith('"""')
    if told or token.type == tokenize.NAME:
      for found in SUFFIX.finditer(text):
        yield line, found[0], re.findall("[A-Z]", found[1])
    for found in SHAPE.finditer(text) if told else ():
      yield line, found[0], re.findall(r"\b[A-Z]\b", found[1])


def has_heads(source, name):
  """Whether a file is attention or imports it, so that H is a head's size."""
  imports = re.findall(r"^\s*(?:from|import) .*(?:\(\n[^)]*)?", source, re.M)
  words = set(re.findall(r"\w+", " ".join(imports)))
  return bool((words | {name}) & ATTENTION)


def faults(source, name=""):
  """What is wrong with the letters of a file, a line each."""
  heads, found = has_heads(source, name), []
  for line, written, axes in arrays(source):
    for letter in axes:
      beside = LETTERS.get(letter)
      if beside is None:
        found.append(f"{line}: {written}: {letter} is no letter of the table")
      elif beside and not set(beside) & (set(axes) - {letter}):
        found.append(f"{line}: {written}: {letter} needs {' or '.join(beside)}")
    if "W" in axes and (heads or {"N", "K"} & set(axes)):
      found.append(f"{line}: {written}: an image where H is a head's size")
  return found


def test_the_table_is_read():
  assert set("BLDNKHFVCQJRPGTMESXAW") <= LETTERS.keys()
  assert LETTERS["K"] == ("H", "S") and LETTERS["B"] == ()


def test_every_axis_is_a_letter_of_the_table():
  found = [
    f"{path.relative_to(ROOT)}:{fault}"
    for path in FILES
    for fault in faults(path.read_text(encoding="utf-8"), path.stem)
  ]
  assert len(FILES) > 200 and found == []


@pytest.mark.parametrize(
  "line",
  [
    "rewards_RK = 1",  # K is the key heads, and no rewards
    "features_BMD = 1",  # M is maps, and no image cells
    "codes_BN = 1",  # N is heads, and no codes
    "trunk_BTT = 1",  # T is of a rollout
    "drawn_BU = 1",  # no letter
    '"""Codes [n, N] of maps."""',
    "keys = 1  # [B, I * M, D]",
    "from cooper_jax.models import attention\nimage_BHWD = 1",
  ],
)
def test_a_letter_of_another_meaning_is_refused(line):
  assert len(faults(line)) >= 1


@pytest.mark.parametrize(
  "line",
  [
    "rewards_RE = logits_BLV = codes_RMQ = q_BLNH = weights_BKALS = 1",
    "image_BHW3 = 1  # [n, H, W, ...]",
    '"""Keys [layers, P, K, H, S], from [B, images, side, side, 3]."""',
    "LENGTH_S = [A, B]  # a constant, and a list",
  ],
)
def test_the_letters_of_the_table_pass(line):
  assert faults(line) == []
