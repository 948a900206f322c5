"""Samples of a JSONL file: its lines, and the image files beside it."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from cooper_jax import modalities
from cooper_jax.data import (
  fingerprints,
  fitting,
  map_files,
  own_questions,
  picture_files,
  pictures,
  records,
)
from cooper_jax.errors import UserError
from cooper_jax.modalities import SetUp
from cooper_jax.sample import Question, Sample


@dataclasses.dataclass(frozen=True)
class Entry:
  """One image of the file: paths as written, line number, questions."""

  line: int
  id: str
  image: str
  maps: dict[str, str]  # modality -> path of its file
  questions: tuple[Question, ...]
  # Modality -> units in which its file counts; absent = as is usual.
  scales: dict[str, float] = dataclasses.field(default_factory=dict)
  camera: tuple[float, ...] = ()  # fx, fy, cx, cy; () = not known


class JsonlSource:
  """Samples of a JSONL file; images are opened when a sample is read."""

  def __init__(
    self,
    path: pathlib.Path,
    entries: list[Entry],
    size: int,
    *,
    fit: str = fitting.SQUASH,
    modalities: Mapping[str, Any] | None = None,
  ):
    """modalities: those that are not as they stand, as `set_up` gives them."""
    self.path, self.entries, self.size, self.fit = path, entries, size, fit
    # Those that are modules are found again: a module can't be pickled.
    self.modalities = {
      name: each
      for name, each in (modalities or {}).items()
      if isinstance(each, SetUp)
    }

  def __len__(self) -> int:
    return len(self.entries)

  def kind(self, index: int) -> tuple[str, ...]:
    """Which maps a sample has: the same kind, the same maps."""
    return tuple(sorted(self.entries[index].maps))

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions; no file is opened."""
    return self.entries[index].questions

  def __getitem__(self, index: int) -> Sample:
    entry = self.entries[index]
    where = f"{self.path}:{entry.line}"
    folder = self.path.parent
    file = picture_files.beside(folder, entry.image)
    image = pictures.read_image(file, self.size, where, self.fit)
    known = entry.maps or entry.camera
    frame = pictures.read_frame(file, where) if known else None
    maps = {
      name: map_files.read(
        name,
        picture_files.beside(folder, written),
        self.size,
        where,
        scale=entry.scales.get(name),
        frame=frame,
        modality=self.modalities.get(name),
        fit=self.fit,
      )
      for name, written in entry.maps.items()
    }
    return Sample(
      id=entry.id,
      source="jsonl",
      image=image,
      maps=maps,
      camera=self._camera(entry, frame, where),
      questions=entry.questions,
    )

  def native(self, index: int) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """The picture as it is, upright, and its maps [h, w] at their own sizes."""
    entry = self.entries[index]
    where = f"{self.path}:{entry.line}"
    folder = self.path.parent
    file = picture_files.beside(folder, entry.image)
    frame = pictures.read_frame(file, where)
    with picture_files.opened(file, where, "image") as picture:
      image = pictures.upright(picture, where)
    maps = {}
    for name, written in entry.maps.items():
      own = self.modalities.get(name) or modalities.found()[name]
      path = picture_files.beside(folder, written)
      scale = entry.scales.get(name)
      maps[name] = own.read_file(
        map_files.MapFile(name, path, where, frame, scale, written=written)
      )
    return image, maps

  def _camera(self, entry: Entry, frame, where: str) -> np.ndarray | None:
    """Pinhole K f32 [3, 3] of the square, None where it is not known."""
    if not entry.camera:
      return None
    if frame.orientation != 1:
      raise UserError(
        f"{where}: EXIF turns the picture (orientation {frame.orientation}),"
        " which 'camera' does not say; save the picture upright"
      )
    fx, fy, cx, cy = entry.camera
    camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    placed = fitting.place(self.fit, frame.upright, self.size)
    return placed.camera(camera, frame.upright)

  def __repr__(self) -> str:
    return f"JsonlSource({self.path.name}, {len(self)}, {self._fingerprint})"

  @functools.cached_property
  def _fingerprint(self) -> str:
    """Of what the samples' files hold, read once."""
    written = [
      name
      for entry in self.entries
      for name in (entry.image, *entry.maps.values())
    ]
    beside = [picture_files.beside(self.path.parent, name) for name in written]
    return fingerprints.of_files(written, beside)


def check_files(
  path: pathlib.Path, entry: Entry, modalities: Mapping[str, Any] | None = None
) -> list[str]:
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
  for name, written in entry.maps.items():
    own = (modalities or {}).get(name)
    check = functools.partial(map_files.check, name, modality=own)
    tried(check, written, scale=entry.scales.get(name), frame=frame)
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
    scales = _scales(record, problems)
    camera = _camera(record, problems)
    if not problems:
      more = scales, camera, question
      problems = _add(entries, record, *more, number, path)
    if not problems:
      problems = _check(entries[-1], question, ids, kinds, number)
    errors += [f"{path}:{number}: {problem}" for problem in problems]
  return entries, errors


def _add(
  entries: list[Entry],
  record: dict[str, Any],
  scales: dict[str, float],
  camera: tuple[float, ...],
  question: Question | None,
  number: int,
  path: pathlib.Path,
) -> list[str]:
  """Adds a line as a sample, or as a question of the sample before it."""
  maps = {name: record[name] for name in modalities.names() if record.get(name)}
  last = entries[-1] if entries else None
  asked = () if question is None else (question,)
  if last is None or last.image != record["image"]:
    name = record.get("id") or f"{path.stem}-{number}"
    entries.append(
      Entry(number, name, record["image"], maps, asked, scales, camera)
    )
    return []
  problems = []
  if camera and last.camera and camera != last.camera:
    problems.append(
      f"camera is {list(camera)}, line {last.line} with the same image has"
      f" {list(last.camera)}"
    )
  for now, before, key in (
    (maps, last.maps, "{}"),
    (scales, last.scales, "{}_scale"),
  ):
    problems += [
      f"{key.format(name)} is {now[name]!r}, line {last.line} with the same"
      f" image has {before[name]!r}"
      for name in now
      if now[name] != before.get(name, now[name])
    ]
  if not problems:
    entries[-1] = dataclasses.replace(
      last,
      maps={**maps, **last.maps},
      scales={**scales, **last.scales},
      questions=(*last.questions, *asked),
      camera=last.camera or camera,
    )
  return problems


def _check(
  entry: Entry, question: Question | None, ids: dict, kinds: dict, number: int
) -> list[str]:
  """An id belongs to one image, a family to one kind of answer."""
  problems = []
  line = ids.setdefault(entry.id, entry.line)
  if line != entry.line:
    problems.append(
      f"id {entry.id!r} is that of line {line}; lines of one image stand"
      " together, another image needs another id"
    )
  if question is None:
    return problems
  now = own_questions.noun(question.answer_type, question.unit)
  kind, line = kinds.setdefault(question.family, (now, number))
  if kind != now:
    problems.append(
      f"family {question.family!r} has {now} answers here and {kind} ones at"
      f" line {line}; give each its own family"
    )
  return problems


def _camera(record: dict[str, Any], problems: list[str]) -> tuple[float, ...]:
  """The line's fx, fy, cx, cy, pixels of its picture; () without any."""
  if records.CAMERA not in record:
    return ()
  written = record[records.CAMERA]
  try:
    if not isinstance(written, list) or len(written) != 4:
      raise ValueError
    found = tuple(own_questions.exact(each, records.CAMERA) for each in written)
    if min(found[:2]) <= 0:
      raise ValueError
  except ValueError:
    problems.append(
      f"'camera' is {records.said(written)}; it should be [fx, fy, cx, cy] in"
      " pixels of the picture, the first two above 0"
    )
    return ()
  return found


def _scales(record: dict[str, Any], problems: list[str]) -> dict[str, float]:
  """Units of the line's map files by modality, of those that it names."""
  found = {}
  for name in modalities.names():
    key = f"{name}_scale"
    if key not in record:
      continue
    if not record.get(name):
      problems.append(f"'{key}' without '{name}'; it belongs to a map's line")
    try:
      scale = own_questions.exact(record[key], key)
    except ValueError as error:
      problems.append(str(error))
      continue
    if not scale > 0:
      problems.append(
        f"'{key}' is {scale:g}; units a metre are above 0: 1000 for"
        " millimetres, 1 for metres"
      )
    found[name] = scale
  return found
