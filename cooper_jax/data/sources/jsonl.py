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

import functools
import pathlib
import sys
from collections.abc import Sequence

from cooper_jax.data import (
  depth_scale,
  picture_files,
  pictures,
  splits,
)
from cooper_jax.data.entries import Entry, JsonlSource, read_entries
from cooper_jax.data.sources import DataConfig
from cooper_jax.data.survey import at_start, without_bad
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes

SAMPLED = 16  # depth maps that show whether they are of millimetres


def source(config: DataConfig, split: str) -> JsonlSource:
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
  _path(config, "train")  # refuses where none is named
  return at_start(config)


def _entries(path: pathlib.Path, config: DataConfig) -> list[Entry]:
  """The samples of a file; bad ones are left out where some are allowed."""
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
  if not config.jsonl:
    raise UserError(
      "source 'jsonl' needs a file; set config.data.jsonl=path/to/{split}.jsonl"
    )
  return pathlib.Path(config.jsonl.replace("{split}", split)).expanduser()


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
