"""Own data: one JSON object per line, with image files beside it.

  {"image": "a.jpg", "question": "Which is closer ?", "answer": "red ball",
   "options": ["red ball", "blue box"], "depth": "a_depth.png",
   "segmentation": "a_classes.png", "unit": "", "reasoning": "..."}

Only `image`, `question` and `answer` are needed.  Paths are relative to the
JSONL file, absolute or under `~`.  Depth is planar, 0 or NaN = no reading: a
`.npy` of metres, or integers (16-bit PNG or TIFF, `.npy`) of `depth_scale`
units a metre, 1000 by default; segmentation an 8-bit PNG of class ids, 0 =
unlabelled, 255 = ignore.  Maps have the aspect of their picture, and are turned
with it where EXIF turns it.  Lines in a row with the same image are one sample
with several questions.  `config.jsonl` may hold `{split}`; without it the lines
are divided 8:1:1 by a hash of the image's path (`data/splits.py`).

`family`, `own_<answer type>` by default and `own_length` of numbers with a
unit, groups questions in the report: one word, no mode of use, and one kind of
answer to a family. `id` names a sample's
maps and belongs to one image.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from cooper_jax.data import (
  depth_scale,
  own_questions,
  picture_files,
  pictures,
  records,
  splits,
)
from cooper_jax.data.sample import Question, Sample
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes

SAMPLED = 16  # depth maps that show whether they are of millimetres


def source(config: DataConfig, split: str) -> "JsonlSource":
  """The samples of `config.jsonl` that belong to the split."""
  path = _path(config, split)
  entries = _entries(path, config)
  if "{split}" not in config.jsonl:
    divided, note = splits.divide([entry.image for entry in entries])
    mine = divided.get(split, set())
    entries = [entry for entry in entries if entry.image in mine]
    if note:
      _say(f"note: {path}: {picture_files.shown(note)}")
  if not entries:
    raise UserError(
      f"{path} has no lines for split {split!r}; add some, or give each split "
      "its own file: config.data.jsonl=path/to/{split}.jsonl"
    )
  _check_depths(path, entries, strict=not config.bad_samples)
  return JsonlSource(path, entries, config.image_size)


def survey(config: DataConfig) -> list[str]:
  """What a run's plan says of the data; UserError where some of it is wrong."""
  from cooper_jax.data import survey as surveys  # which reads with this file

  _path(config, "train")  # refuses where none is named
  return surveys.at_start(config)


def _entries(path: pathlib.Path, config: DataConfig) -> list["Entry"]:
  """The samples of a file; bad ones are left out where some are allowed."""
  if not config.bad_samples:
    return read_entries(path)
  from cooper_jax.data import survey as surveys

  return surveys.without_bad(path, config)


def asked(config: DataConfig, split: str):
  """Yields (question, file and line of its image, maps) of a split."""
  found = source(config, split)
  for entry in found.entries:
    maps = [m for m in ("depth", "segmentation") if getattr(entry, m)]
    for question in entry.questions:
      yield question, f"{found.path}:{entry.line}", maps


@dataclasses.dataclass(frozen=True)
class Entry:
  """One image of the file: paths as written, line number, questions."""

  line: int
  id: str
  image: str
  depth: str
  segmentation: str
  questions: tuple[Question, ...]
  depth_scale: float | None = None  # units a metre; None = as is usual


class JsonlSource:
  """Samples of a JSONL file; images are opened when a sample is read."""

  def __init__(self, path: pathlib.Path, entries: list[Entry], size: int):
    self.path, self.entries, self.size = path, entries, size

  def __len__(self) -> int:
    return len(self.entries)

  def kind(self, index: int) -> tuple[bool, bool]:
    """Which maps a sample has: the same kind, the same maps."""
    entry = self.entries[index]
    return bool(entry.depth), bool(entry.segmentation)

  def __getitem__(self, index: int) -> Sample:
    entry = self.entries[index]
    where = f"{self.path}:{entry.line}"
    folder = self.path.parent
    file = picture_files.beside(folder, entry.image)
    image = pictures.read_image(file, self.size, where)
    depth = segmentation = None
    if entry.depth or entry.segmentation:
      frame = pictures.read_frame(file, where)
    if entry.depth:
      depth = pictures.read_depth(
        picture_files.beside(folder, entry.depth),
        self.size,
        where,
        scale=entry.depth_scale,
        frame=frame,
      )
    if entry.segmentation:
      segmentation = pictures.read_classes(
        picture_files.beside(folder, entry.segmentation),
        self.size,
        where,
        frame=frame,
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


def check_files(path: pathlib.Path, entry: Entry) -> list[str]:
  """What the files' headers and ends show to be wrong, as `file:line: why`."""
  where, folder = f"{path}:{entry.line}", path.parent
  frame, errors = None, []

  def tried(check, written, **more):
    try:
      return check(picture_files.beside(folder, written), where, **more)
    except UserError as error:
      errors.append(str(error))
      return None

  frame = tried(pictures.check_image, entry.image)
  if entry.depth:
    tried(
      pictures.check_depth, entry.depth, scale=entry.depth_scale, frame=frame
    )
  if entry.segmentation:
    tried(pictures.check_classes, entry.segmentation, frame=frame)
  return errors


def read_entries(path: pathlib.Path) -> list[Entry]:
  """Checks every line of the file and groups lines of the same image.

  Raises UserError `file.jsonl:17: reason` of the first line that is wrong.
  """
  entries, errors = scan(path)
  if errors:
    raise UserError(errors[0])
  return entries


def scan(path: pathlib.Path) -> tuple[list[Entry], list[str]]:
  """(entries, errors): what is right, and all that is wrong, in order.

  An error is `file.jsonl:17: reason`. Raises UserError where the file itself
  can't be read.
  """
  entries: list[Entry] = []
  errors: list[str] = []
  ids: dict[str, int] = {}  # line of each
  kinds: dict[str, tuple[str, int]] = {}  # answer type of a family, its line
  for number, raw in records.lines(path):
    if not raw.strip():
      continue
    record, problems = records.parse(raw)
    question = None
    if {"answer", "question"} <= set(record):
      question, more = own_questions.make(record)
      problems = problems + more
    scale = _scale(record, problems)
    if not problems:
      problems = _add(entries, record, scale, question, number, path)
    if not problems:
      problems = _check(entries[-1], ids, kinds, number)
    errors += [f"{path}:{number}: {problem}" for problem in problems]
  return entries, errors


@functools.cache
def _say(note: str) -> None:
  """Once, though each stage of each process opens its splits."""
  if processes.is_first():
    print(note, file=sys.stderr, flush=True)


def _path(config: DataConfig, split: str) -> pathlib.Path:
  if not config.jsonl:
    raise UserError(
      "source 'jsonl' needs a file; set config.data.jsonl=path/to/{split}.jsonl"
    )
  return pathlib.Path(config.jsonl.replace("{split}", split)).expanduser()


def _add(
  entries: list[Entry],
  record: dict[str, Any],
  scale: float | None,
  question: Question,
  number: int,
  path: pathlib.Path,
) -> list[str]:
  """Adds a line as a sample, or as a question of the sample before it."""
  maps = {key: record.get(key, "") for key in ("depth", "segmentation")}
  maps["depth_scale"] = scale
  last = entries[-1] if entries else None
  if last is None or last.image != record["image"]:
    name = record.get("id") or f"{path.stem}-{number}"
    entries.append(
      Entry(number, name, record["image"], **maps, questions=(question,))
    )
    return []
  problems = []
  for key, value in maps.items():
    before = getattr(last, key)
    if value and before and value != before:
      problems.append(
        f"{key} is {value!r}, line {last.line} with the same image has "
        f"{before!r}"
      )
    maps[key] = before or value
  questions = (*last.questions, question)
  if not problems:
    entries[-1] = dataclasses.replace(last, **maps, questions=questions)
  return problems


def _check(entry: Entry, ids: dict, kinds: dict, number: int) -> list[str]:
  """An id belongs to one image, a family to one kind of answer."""
  problems = []
  line = ids.setdefault(entry.id, entry.line)
  if line != entry.line:
    problems.append(
      f"id {entry.id!r} is that of line {line}; lines of one image stand"
      " together, another image needs another id"
    )
  question = entry.questions[-1]
  now = own_questions.noun(question.answer_type, question.unit)
  kind, line = kinds.setdefault(question.family, (now, number))
  if kind != now:
    problems.append(
      f"family {question.family!r} has {now} answers here and {kind} ones at"
      f" line {line}; give each its own family"
    )
  return problems


def _scale(record: dict[str, Any], problems: list[str]) -> float | None:
  """Units a metre of the line's depth file, None where it names none."""
  if "depth_scale" not in record:
    return None
  if not record.get("depth"):
    problems.append("'depth_scale' without 'depth'; it belongs to a map's line")
  try:
    scale = own_questions.exact(record["depth_scale"], "depth_scale")
  except ValueError as error:
    problems.append(str(error))
    return None
  if not scale > 0:
    problems.append(
      f"'depth_scale' is {scale:g}; units a metre are above 0: 1000 for"
      " millimetres, 1 for metres"
    )
  return scale


def _check_depths(
  path: pathlib.Path, entries: Sequence[Entry], *, strict: bool
) -> None:
  """Some depth maps, spread over the file, before a run has spent time.

  Raises UserError for one that has no reading or can't be metres, if strict,
  and where those that name no scale are not of millimetres, all together.
  """
  drawn = [entry for entry in entries if entry.depth]
  typical = []
  for entry in drawn[:: max(1, len(drawn) // SAMPLED)][:SAMPLED]:
    where = f"{path}:{entry.line}"
    file = picture_files.beside(path.parent, entry.depth)
    said = f"{where}: depth {entry.depth}"
    try:
      raw = pictures.raw_depth(file, where)
    except UserError:  # said where it is read, and may be left out there
      continue
    if strict:
      depth_scale.to_metres(raw, entry.depth_scale, said)
    valid = depth_scale.readings(raw)
    unsaid = raw.dtype.kind != "f" and entry.depth_scale is None
    if unsaid and valid.any():
      typical.append((depth_scale.median(raw, valid), said))
  if typical:
    depth_scale.check_together(typical)
