"""Source "jsonl": own data, one JSON object a line, image files beside it.

  {"image": "a.jpg", "question": "Which is closer ?", "answer": "red ball",
   "options": ["red ball", "blue box"], "depth": "a_depth.png",
   "segmentation": "a_classes.png", "unit": "", "reasoning": "..."}

Only `image`, `question` and `answer` are needed.  Paths are relative to the
JSONL file, absolute or under `~`.  Depth is planar, 0 or NaN = no reading: a
`.npy` of metres, or integers (16-bit PNG or TIFF, `.npy`) of `depth_scale`
units a metre, 1000 by default; segmentation an 8-bit PNG of class ids, 0 =
unlabelled, 255 = ignore.  Maps have the aspect of their picture, and are turned
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
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cooper_jax.data import picture_files, splits
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes

if TYPE_CHECKING:
  from cooper_jax.data.entries import Entry, JsonlSource

SAMPLED = 16  # depth maps that show whether they are of millimetres


@dataclasses.dataclass(frozen=True)
class Config:
  """Where own data lies."""

  path: str = ""  # the JSONL file; may hold {split}


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
  entries = _entries(path, config)
  if "{split}" not in config.own("jsonl").path:
    divided, note = splits.divide([entry.image for entry in entries])
    mine = divided.get(split, set())
    entries = [entry for entry in entries if entry.image in mine]
    if note:
      _say(f"note: {path}: {picture_files.shown(note)}")
  if not entries:
    raise UserError(
      f"{path} has no lines for split {split!r}; add some, or give each split "
      "its own file: config.data.settings.jsonl.path=path/to/{split}.jsonl"
    )
  _check_depths(path, entries, strict=not config.bad_samples)
  return JsonlSource(path, entries, config.image_size)


def survey(config: DataConfig) -> list[str]:
  """What a run's plan says of the data; UserError where some of it is wrong."""
  from cooper_jax.data.survey import at_start

  check(config)
  return at_start(config)


def _entries(path: pathlib.Path, config: DataConfig) -> list[Entry]:
  """The samples of a file; bad ones are left out where some are allowed."""
  from cooper_jax.data.entries import read_entries
  from cooper_jax.data.survey import without_bad

  if not config.bad_samples:
    return read_entries(path)
  return without_bad(path, config)


def asked(config: DataConfig, split: str):
  """Yields (question, file and line of its image, maps) of a split."""
  found = source(config, split)
  for entry in found.entries:
    maps = [m for m in ("depth", "segmentation") if getattr(entry, m)]
    for question in entry.questions:
      yield question, f"{found.path}:{entry.line}", maps


@functools.cache
def _say(note: str) -> None:
  """Once, though each stage of each process opens its splits."""
  if processes.is_first():
    print(note, file=sys.stderr, flush=True)


def _path(config: DataConfig, split: str) -> pathlib.Path:
  check(config)
  written = config.own("jsonl").path
  return pathlib.Path(written.replace("{split}", split)).expanduser()


def _check_depths(
  path: pathlib.Path, entries: Sequence[Entry], *, strict: bool
) -> None:
  """Some depth maps, spread over the file, before a run has spent time.

  Raises UserError for one that has no reading or can't be metres, if strict,
  and where those that name no scale are not of millimetres, all together.
  """
  from cooper_jax.data import depth_scale, pictures

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
