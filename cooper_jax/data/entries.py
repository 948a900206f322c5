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
  line_maps,
  map_files,
  own_questions,
  picture_files,
  pictures,
  records,
  tag_checks,
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
  classes: tuple[str, ...] = ()  # of its class ids; () = those of the run


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
    check_places(path, entries, fit)
    self.path, self.entries, self.size, self.fit = path, entries, size, fit
    self.left_out: tuple[str, ...] = ()  # a line of each bad sample
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

  def ids(self) -> list[str]:
    """Every sample's id; no file is opened."""
    return [entry.id for entry in self.entries]

  def cameras(self) -> bool:
    """Whether any sample has a camera; no file is opened."""
    return any(entry.camera for entry in self.entries)

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
        names=entry.classes,
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
        map_files.MapFile(
          name, path, where, frame, scale, written=written, names=entry.classes
        )
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
    """Of what the samples' lines and files hold, read once."""
    written = [
      name
      for entry in self.entries
      for name in (entry.image, *entry.maps.values())
    ]
    beside = [picture_files.beside(self.path.parent, name) for name in written]
    # The numbers of lines are no part: a blank one changes nothing.
    lines = [repr(dataclasses.replace(e, line=0)) for e in self.entries]
    return fingerprints.of_files(written, beside, lines)


def check_places(path: pathlib.Path, entries: list[Entry], fit: str) -> None:
  """UserError where a trace points and its picture is not shown whole.

  `<at Y X>` are shares of the picture as it is, and what `crop` and `pad` make
  of it has the same point elsewhere.
  """
  if fitting.stretches(fit):
    return
  whole = "".join((fitting.SQUASH, *fit.partition(":")[1:]))
  for entry in entries:
    if any(tag_checks.points(q.reasoning) for q in entry.questions):
      raise UserError(
        f"{path}:{entry.line}: a trace about this image points (<at Y X>), by"
        f" shares of the whole picture, and config.data.fit={fit} shows"
        f" another square; set config.data.fit={whole}, or leave"
        " places out of the traces"
      )


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
    scale = entry.scales.get(name)
    tried(check, written, scale=scale, frame=frame, names=entry.classes)
  return errors


def read_entries(
  path: pathlib.Path, usual: line_maps.Usual = line_maps.PLAIN
) -> list[Entry]:
  """Checks every line of the file and groups lines of the same image.

  Raises UserError `file.jsonl:17: reason` of the first line that is wrong.
  """
  entries, errors = scan(path, usual)
  if errors:
    raise UserError(errors[0])
  return entries


def scan(
  path: pathlib.Path, usual: line_maps.Usual = line_maps.PLAIN
) -> tuple[list[Entry], list[str]]:
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
    for record, problems in records.parse(raw):
      question = None
      if {"answer", "question"} <= set(record):
        question, more = own_questions.make(record)
        problems = problems + more
      known = line_maps.of(record, usual, path.parent, problems)
      if not problems:
        problems = _add(entries, record, known, question, number, path)
      if not problems:
        problems = _check(entries[-1], question, ids, kinds, number)
      errors += [f"{path}:{number}: {problem}" for problem in problems]
  return entries, errors


def _add(
  entries: list[Entry],
  record: dict[str, Any],
  known: line_maps.Known,
  question: Question | None,
  number: int,
  path: pathlib.Path,
) -> list[str]:
  """Adds a line as a sample, or as a question of the sample before it."""
  maps = {name: record[name] for name in modalities.names() if record.get(name)}
  last = entries[-1] if entries else None
  asked = () if question is None else (question,)
  scales, camera, classes = known
  if last is None or last.image != record["image"]:
    name = record.get("id") or f"{path.stem}-{number}"
    entries.append(Entry(number, name, record["image"], maps, asked, *known))
    return []
  problems = [
    f"{key} is {now}, line {last.line} with the same image has {before}"
    for key, now, before in (
      (records.CAMERA, list(camera), list(last.camera)),
      (records.CLASSES, len(classes), len(last.classes)),
    )
    if now and before and now != before
  ]
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
      classes=last.classes or classes,
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
