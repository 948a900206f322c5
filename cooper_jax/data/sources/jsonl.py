"""Source "jsonl": own data, one JSON object a line, image files beside it.

  {"image": "a.jpg", "question": "Which is closer ?", "answer": "red ball",
   "options": ["red ball", "blue box"], "depth": "a_depth.png",
   "segmentation": "a_classes.png", "unit": "", "reasoning": "..."}

Only `image`, `question` and `answer` are needed; a line with a map may be
without a question.  Paths are relative to the JSONL file, absolute or under
`~`.  A map is named by its modality, and read as
`modalities/<name>.py` says.  Depth is planar, 0 or NaN = no reading: a
`.npy` of metres, or integers (16-bit PNG or TIFF, `.npy`) of `depth_scale`
units a metre, 1000 by default; segmentation an 8-bit PNG of class ids of
`config.maps.segmentation.classes`, 255 = ignore.  `camera` is [fx, fy, cx, cy]
in pixels of the picture.  Maps have the aspect of their picture, and are turned
with it where EXIF turns it.  Lines in a row with the same image are one sample
with several questions.  The path may hold `{split}`; without it the lines
are divided 8:1:1 by a hash of the image's path (`data/splits.py`).

`family`, `own_<answer type>` by default and `own_length` of numbers with a
unit, groups questions in the report: one word, no mode of use, and one kind of
answer to a family. `id` names a sample's
maps and belongs to one image.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cooper_jax.data import fingerprints, map_files, picture_files, splits
from cooper_jax.data.line_maps import Usual
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes

if TYPE_CHECKING:
  from cooper_jax.data.entries import Entry, JsonlSource

SAMPLED = 16  # maps of a modality that are looked at together


@dataclasses.dataclass(frozen=True)
class Config:
  """Path of own data."""

  path: str = ""  # the JSONL file; may hold {split}
  # Units a metre of depth files whose line has no depth_scale; 0 = metres of
  # floats, millimetres of integers.
  depth_scale: float = 0.0
  # Class list of the ids in map files, where a line has none: a packaged name
  # or a text file; "" = maps.segmentation.classes.
  class_list: str = ""

  def __post_init__(self):
    _ = self.usual  # looks at the numbers

  @property
  def usual(self) -> Usual:
    """What holds for lines that do not say it."""
    return Usual(self.depth_scale, self.class_list)


def check(config: DataConfig) -> None:
  """Raises UserError where no file is named."""
  if not config.own("jsonl").path:
    raise UserError(
      f"config.data.source={config.source} reads a file and"
      " config.data.settings.jsonl.path names none; set"
      ' --config.data.settings.jsonl.path=FILE, with "{split}" in its name'
      " where each split has a file"
    )


def source(config: DataConfig, split: str) -> JsonlSource:
  """The samples of the file that belong to the split."""
  from cooper_jax.data.entries import JsonlSource

  path = _path(config, split)
  entries, bad = _entries(path, config)
  if "{split}" not in config.own("jsonl").path:
    divided, note = splits.divide([entry.image for entry in entries])
    mine = divided.get(split, set())
    entries = [entry for entry in entries if entry.image in mine]
    bad = bad if split == splits.NAMES[0] else ()  # they are in no split
    if note:
      _say(f"note: {path}: {picture_files.shown(note)}")
  if not entries:
    raise UserError(
      f"{path} has no lines for split {split!r}; add some, or give each split "
      "its own file: config.data.settings.jsonl.path=path/to/{split}.jsonl"
    )
  own = config.modalities
  _check_maps(path, entries, own, strict=not config.bad_samples)
  found = JsonlSource(
    path, entries, config.image_size, fit=config.fit, modalities=own
  )
  found.left_out = bad
  return found


def everything(config: DataConfig) -> JsonlSource:
  """The samples of every split."""
  from cooper_jax.data.entries import JsonlSource
  from cooper_jax.data.survey import paths_of

  check(config)
  (path, *_) = paths_of(config.own("jsonl").path).values()
  more = {"fit": config.fit, "modalities": config.modalities}
  entries, _ = _entries(path, config)
  return JsonlSource(path, entries, config.image_size, **more)


def survey(config: DataConfig) -> list[str]:
  """What a run's plan says of the data; UserError where some of it is wrong."""
  from cooper_jax.data.survey import at_start

  check(config)
  return at_start(config)


def _entries(
  path: pathlib.Path, config: DataConfig
) -> tuple[list[Entry], tuple[str, ...]]:
  """(the samples of a file, a line of each that is left out).

  Bad ones are left out where some are allowed.
  """
  from cooper_jax.data.survey import without_bad

  if config.bad_samples:
    return without_bad(path, config)
  version = fingerprints.version(path)
  return list(_read(path, version, config.own("jsonl").usual)), ()


@functools.lru_cache(maxsize=len(splits.NAMES))
def _read(path: pathlib.Path, version, usual: Usual) -> tuple:
  """The samples of a file, read once though every stage opens its splits."""
  from cooper_jax.data.entries import read_entries

  del version  # part of the key
  return tuple(read_entries(path, usual))


def asked(config: DataConfig, split: str):
  """Yields (question, file and line of its image, maps) of a split."""
  found = source(config, split)
  for entry in found.entries:
    for question in entry.questions:
      yield question, f"{found.path}:{entry.line}", [*entry.maps]


@functools.cache
def _say(note: str) -> None:
  """Once, though each stage of each process opens its splits."""
  if processes.is_first():
    print(note, file=sys.stderr, flush=True)


def _path(config: DataConfig, split: str) -> pathlib.Path:
  check(config)
  written = config.own("jsonl").path
  return pathlib.Path(written.replace("{split}", split)).expanduser()


def _check_maps(
  path: pathlib.Path,
  entries: Sequence[Entry],
  own: Mapping[str, Any],
  *,
  strict: bool,
) -> None:
  """Some maps of each modality, spread over the file, before a run.

  Raises UserError for one that can't be what it should, if strict, and where
  they are not together: of another scale than is usual.
  """
  for name, module in own.items():
    have = [entry for entry in entries if name in entry.maps]
    files = [
      map_files.MapFile(
        name,
        picture_files.beside(path.parent, entry.maps[name]),
        f"{path}:{entry.line}",
        scale=entry.scales.get(name),
        written=entry.maps[name],
        names=entry.classes,
      )
      for entry in have[:: max(1, len(have) // SAMPLED)][:SAMPLED]
    ]
    module.check_files(files, strict=strict)
