"""Own data: one JSON object per line, with image files beside it.

  {"image": "a.jpg", "question": "Which is closer ?", "answer": "red ball",
   "options": ["red ball", "blue box"], "depth": "a_depth.png",
   "segmentation": "a_classes.png", "unit": "", "reasoning": "..."}

Only `image`, `question` and `answer` are needed.  Paths are relative to the
JSONL file or absolute.  Depth is a 16-bit PNG of millimetres or a `.npy` of
metres, planar, 0 or NaN = no reading; segmentation an 8-bit PNG of class ids,
0 = unlabelled, 255 = ignore.  Lines in a row with the same image are one
sample with several questions.  `config.jsonl` may hold `{split}`; without it
the lines are divided 8:1:1 by a hash of the image's path.

`family`, `own_<answer type>` by default, groups questions in the report: one
word, no mode of use, and one answer type to a family. `id` names a sample's
maps and belongs to one image.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
from typing import Any

from cooper_jax.data import pictures
from cooper_jax.data.sample import Question, Sample
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError, nearest

REQUIRED = ("image", "question", "answer")
TEXTS = (
  *REQUIRED,
  "depth",
  "segmentation",
  "unit",
  "reasoning",
  "flag",
  "id",
  "family",
  "answer_type",
)
KEYS = (*TEXTS, "options", "value")
FLAGS = ("positive", "negative", "boundary")
ANSWER_TYPES = ("choice", "yes_no", "number", "text")
# Modes of use: in summary.json their scores stand beside the families'.
RESERVED = ("direct", "text", "depth", "segmentation", "both", "adaptive")
LINE_BYTES = 1 << 20


def source(config: DataConfig, split: str) -> "JsonlSource":
  """The samples of `config.jsonl` that belong to the split."""
  if not config.jsonl:
    raise UserError(
      "source 'jsonl' needs a file; set config.data.jsonl=path/to/{split}.jsonl"
    )
  own_file = "{split}" in config.jsonl
  path = pathlib.Path(config.jsonl.replace("{split}", split)).expanduser()
  entries = read_entries(path)
  if not own_file:
    entries = [e for e in entries if _split_of(e.image) == split]
  if not entries:
    raise UserError(
      f"{path} has no lines for split {split!r}; add some, or give each split "
      "its own file: config.data.jsonl=path/to/{split}.jsonl"
    )
  return JsonlSource(path, entries, config.image_size)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One image of the file: paths as written, line number, questions."""

  line: int
  id: str
  image: str
  depth: str
  segmentation: str
  questions: tuple[Question, ...]


class JsonlSource:
  """Samples of a JSONL file; images are opened when a sample is read."""

  def __init__(self, path: pathlib.Path, entries: list[Entry], size: int):
    self.path, self.entries, self.size = path, entries, size

  def __len__(self) -> int:
    return len(self.entries)

  def __getitem__(self, index: int) -> Sample:
    entry = self.entries[index]
    where = f"{self.path}:{entry.line}"
    folder = self.path.parent
    image = pictures.read_image(folder / entry.image, self.size, where)
    depth = segmentation = None
    if entry.depth:
      depth = pictures.read_depth(folder / entry.depth, self.size, where)
    if entry.segmentation:
      segmentation = pictures.read_classes(
        folder / entry.segmentation, self.size, where
      )
    return Sample(
      id=entry.id,
      source="jsonl",
      image=image,
      depth=depth,
      segmentation=segmentation,
      questions=entry.questions,
    )

  def __repr__(self) -> str:
    return f"JsonlSource({self.path.name}, {len(self)})"


def read_entries(path: pathlib.Path) -> list[Entry]:
  """Checks every line of the file and groups lines of the same image.

  Raises UserError `file.jsonl:17: reason` at the first line that is wrong.
  """
  entries: list[Entry] = []
  ids: dict[str, int] = {}  # line of each
  kinds: dict[str, tuple[str, int]] = {}  # answer type of a family, its line
  try:
    with path.open("rb") as file:
      for number, raw in enumerate(file, 1):
        if not raw.strip():
          continue
        try:
          record = _parse(raw)
          _add(entries, record, number, path)
          _check(entries[-1], ids, kinds, number)
        except ValueError as error:
          raise UserError(f"{path}:{number}: {error}") from error
  except OSError as error:
    raise UserError(
      f"{path}: {error.strerror}; config.data.jsonl names the file to read"
    ) from error
  return entries


def _parse(raw: bytes) -> dict[str, Any]:
  """One line's object, every value of its type; ValueError says what not."""
  if len(raw) > LINE_BYTES:
    raise ValueError(f"line has {len(raw)} bytes, the most is {LINE_BYTES}")
  try:
    record = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
  except UnicodeDecodeError as error:
    raise ValueError(f"not UTF-8 at byte {error.start}") from error
  except json.JSONDecodeError as error:
    raise ValueError(
      f"not JSON: {error.msg} at column {error.colno}"
    ) from error
  except RecursionError as error:
    raise ValueError("not JSON: nested too deeply") from error
  if not isinstance(record, dict):
    raise ValueError("not a JSON object; write {...} on each line")
  for key in record:
    if key not in KEYS:
      raise ValueError(
        f"unknown key {key!r}; allowed are {', '.join(KEYS)}"
        f"{nearest(key, KEYS)}"
      )
  for key in TEXTS:
    if not isinstance(record.get(key, ""), str):
      raise ValueError(f"{key!r} is {record[key]!r}; it should be a string")
  for key in REQUIRED:
    if not record.get(key, "").strip():
      raise ValueError(f"no {key!r}; a line needs {', '.join(REQUIRED)}")
  return record


def _check(entry: Entry, ids: dict, kinds: dict, number: int) -> None:
  """An id belongs to one image, a family to one answer type."""
  line = ids.setdefault(entry.id, entry.line)
  if line != entry.line:
    raise ValueError(
      f"id {entry.id!r} is that of line {line}; lines of one image stand"
      " together, another image needs another id"
    )
  question = entry.questions[-1]
  now = question.answer_type
  kind, line = kinds.setdefault(question.family, (now, number))
  if kind != now:
    raise ValueError(
      f"family {question.family!r} has {now} answers here and {kind} ones at"
      f" line {line}; give each its own family"
    )


def _add(
  entries: list[Entry], record: dict[str, Any], number: int, path: pathlib.Path
) -> None:
  """Adds a line as a sample, or as a question of the sample before it."""
  question = _question(record)
  maps = {key: record.get(key, "") for key in ("depth", "segmentation")}
  last = entries[-1] if entries else None
  if last is None or last.image != record["image"]:
    name = record.get("id") or f"{path.stem}-{number}"
    entries.append(
      Entry(number, name, record["image"], **maps, questions=(question,))
    )
    return
  for key, value in maps.items():
    before = getattr(last, key)
    if value and before and value != before:
      raise ValueError(
        f"{key} is {value!r}, line {last.line} with the same image has "
        f"{before!r}"
      )
    maps[key] = before or value
  questions = (*last.questions, question)
  entries[-1] = dataclasses.replace(last, **maps, questions=questions)


def _question(record: dict[str, Any]) -> Question:
  options = record.get("options", [])
  if not isinstance(options, list) or not all(
    isinstance(option, str) for option in options
  ):
    raise ValueError(
      f"'options' is {options!r}; it should be a list of strings"
    )
  answer, unit = record["answer"].strip(), record.get("unit", "")
  if options and answer not in options:
    raise ValueError(f"answer {answer!r} is none of the options {options}")
  kind = record.get("answer_type") or _answer_type(answer, options, unit)
  if kind not in ANSWER_TYPES:
    raise ValueError(
      f"answer_type {kind!r} is none of {', '.join(ANSWER_TYPES)}"
      f"{nearest(kind, ANSWER_TYPES)}"
    )
  flag = record.get("flag", "boundary")
  if flag not in FLAGS:
    raise ValueError(
      f"flag {flag!r} is none of {', '.join(FLAGS)}{nearest(flag, FLAGS)}"
    )
  # Of one answer type each, as the baselines of a family need it.
  family = record.get("family") or f"own_{kind}"
  if family in RESERVED or not re.fullmatch(r"\w+", family):
    raise ValueError(
      f"family {family!r} can't name a score; letters, digits and _ will do,"
      f" but for {', '.join(RESERVED)}"
    )
  value = record.get("value")
  if kind == "number":
    value = _number(answer.split()[0] if value is None else value)
    if value is None:
      raise ValueError(f"answer {answer!r} does not begin with a number")
    if unit and answer.split()[1:] == []:
      answer = f"{answer} {unit}"
  return Question(
    family=family,
    text=_with_options(record["question"], options),
    answer=answer,
    answer_type=kind,
    options=tuple(options),
    unit=unit,
    value=value if kind == "number" else None,
    needs=tuple(k for k in ("depth", "segmentation") if record.get(k)),
    flag=flag,
    reasoning=record.get("reasoning", ""),
  )


def _with_options(text: str, options: list[str]) -> str:
  """Names the options that the question does not: the model reads no others."""
  if all(option in text for option in options):
    return text
  return f"{text} {' / '.join(options)}"


def _answer_type(answer: str, options: list[str], unit: str) -> str:
  if options:
    return "choice"
  if answer.lower() in ("yes", "no"):
    return "yes_no"
  words = answer.split()
  alone = len(words) == 1 or words[1:] == [unit or "m"]
  return "number" if alone and _number(words[0]) is not None else "text"


def _number(value: Any) -> float | None:
  try:
    number = float(value)
  except (TypeError, ValueError):
    return None
  return number if math.isfinite(number) else None


def _refuse(constant: str) -> None:
  raise ValueError(f"not JSON: {constant} is no number")


def _split_of(image: str) -> str:
  bucket = hashlib.sha256(image.encode()).digest()[0] % 10
  return {8: "validation", 9: "test"}.get(bucket, "train")
