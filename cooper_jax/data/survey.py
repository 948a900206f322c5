"""Survey of own data: every line and every file, read before a run.

One pass finds all that is wrong, not the first, and counts what is there. The
files' headers, sizes and ends tell most of it; maps are decoded all, or a few
of a large file, for a map without a reading has nothing wrong with its header.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cooper_jax import modalities
from cooper_jax.data import fitting, picture_files, splits, tag_checks
from cooper_jax.data.entries import (
  Entry,
  JsonlSource,
  check_files,
  scan,
)
from cooper_jax.data.line_maps import PLAIN, Usual
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.training import telemetry

FEW = 128  # samples with maps that the start of a run decodes
SIDE = 64  # pixels that a map is read at, to count its values
MOST_BAD = 0.2  # share of bad files that a message offers to leave out
AT_ONCE = 1024  # files that are waited for at a time
CHECK = "python -m cooper_jax.data.check"


@dataclasses.dataclass(frozen=True)
class Survey:
  """One JSONL file: what it holds, what is wrong, which samples are bad.

  summaries: by modality, of the maps that were decoded.
  modalities: as they were set up to read the maps.
  """

  path: Path
  entries: list[Entry]
  line_errors: list[str]
  file_errors: dict[int, list[str]]  # by index of the entry
  summaries: dict[str, list]
  modalities: Mapping[str, Any]
  fit: str = fitting.SQUASH  # as `config.data.fit`

  @property
  def errors(self) -> list[str]:
    """All errors, in the order of the lines."""
    every = [*self.line_errors, *itertools.chain(*self.file_errors.values())]
    return sorted(every, key=self._line)

  def _line(self, error: str) -> int:
    number = error.removeprefix(f"{self.path}:").partition(":")[0]
    return int(number) if number.isdecimal() else 0

  @property
  def sound(self) -> list[Entry]:
    """The samples with whose files nothing is wrong."""
    return [e for i, e in enumerate(self.entries) if i not in self.file_errors]


def look(
  path: Path,
  *,
  decode: str = "all",
  own=None,
  fit: str = fitting.SQUASH,
  usual: Usual = PLAIN,
) -> Survey:
  """Looks at a file and at all that it names, in threads.

  decode: "all" samples, or the maps of a "few".
  usual: what holds for lines that do not say it.
  own: modalities as `DataConfig.modalities` has them; None = as they stand.
  Raises UserError where the JSONL file itself can't be read, or its traces
  point into pictures that are not shown whole.
  """
  entries, errors = scan(path, usual)
  chosen = range(len(entries)) if decode == "all" else _few(entries)
  own = own or modalities.found()
  source = JsonlSource(path, entries, SIDE, fit=fit, modalities=own)
  work = functools.partial(_one, source, own, frozenset(chosen))
  file_errors, summaries = {}, {name: [] for name in modalities.names()}
  for index, (found, maps) in enumerate(_in_threads(work, len(entries))):
    if found:
      file_errors[index] = found
    for name, summary in maps.items():
      summaries[name].append(summary)
  return Survey(path, entries, errors, file_errors, summaries, own, fit)


def _few(entries: list[Entry]) -> Collection[int]:
  """Samples that have a map, spread over the file."""
  have = [i for i, e in enumerate(entries) if e.maps]
  return have[:: max(1, -(-len(have) // FEW))]


def _in_threads(work, count: int) -> Iterable:
  """work(0), work(1), ... in order; reading and decoding leave the lock."""
  with (
    concurrent.futures.ThreadPoolExecutor(4 * telemetry.cores()) as pool,
    telemetry.Progress(count, "check") as progress,
  ):
    for start in range(0, count, AT_ONCE):
      for done in pool.map(work, range(start, min(start + AT_ONCE, count))):
        progress.advance()
        yield done


def _one(source: JsonlSource, own, decoded: Collection[int], index: int):
  """(errors, {modality: what an overview needs of its map}) of a sample."""
  entry = source.entries[index]
  found = check_files(source.path, entry, source.modalities)
  found += [
    f"{source.path}:{entry.line}: a trace about this image draws <{name}>, and"
    f" none of its lines has {name!r}"
    for name in tag_checks.lacking(entry.questions, entry.maps)
  ]
  if found or index not in decoded:
    return found, {}
  try:
    sample = source[index]
  except UserError as error:
    return [str(error)], {}
  summaries = {
    name: own[name].summarize(target) for name, target in sample.maps.items()
  }
  return [], {n: s for n, s in summaries.items() if s is not None}


def paths_of(written: str) -> dict[str, Path]:
  """Split -> file, where the path holds {split}; else "" -> the file."""
  names = splits.NAMES if "{split}" in written else ("",)
  return {
    name: Path(written.replace("{split}", name)).expanduser() for name in names
  }


def by_split(found: dict[str, Survey]) -> dict[str, list[Entry]]:
  """The sound samples of each split, as a run will divide them."""
  if "" not in found:
    return {split: survey.sound for split, survey in found.items()}
  entries = found[""].sound
  divided, _ = splits.divide([entry.image for entry in entries])
  return {
    split: [entry for entry in entries if entry.image in divided[split]]
    for split in splits.NAMES
  }


def repeated(found: dict[str, Survey]) -> list[str]:
  """One line where training has pictures of validation or test, else none.

  By file, however its path is written; what `splits.divide` shares, it says.
  """

  def files(split):
    folder = found[split if split in found else ""].path.parent
    return {
      os.path.realpath(picture_files.beside(folder, entry.image)): entry.image
      for entry in divided[split]
    }

  divided = by_split(found)
  train, others = files("train"), files("validation") | files("test")
  twice = [
    others[file]
    for file in train.keys() & others.keys()
    if "" not in found or train[file] != others[file]
  ]
  if not twice:
    return []
  return [
    f"images of training that validation or test has too: {len(twice):,}"
    f" ({picture_files.shown(min(twice))}); scores on these say nothing about"
    " new images"
  ]


def at_start(config: DataConfig) -> list[str]:
  """What the plan of a run says of its own data, before any stage.

  Raises UserError as `check` does; bad files that are allowed are said.
  """
  found = {
    split: looked_at(path, config)
    for split, path in paths_of(path_in(config)).items()
  }
  check(list(found.values()), config)
  errors = [error for survey in found.values() for error in survey.errors]
  lines = []
  for split, entries in by_split(found).items():
    asked = sum(len(entry.questions) for entry in entries)
    maps = ", ".join(f"{n} of {have(entries, n):,}" for n in modalities.names())
    lines.append(
      f"  {split:10s} {len(entries):,} images, {asked:,} questions; {maps}"
    )
  lines += [f"  note: {note}" for note in repeated(found)]
  if config.names == ("jsonl",):
    train, every = by_split(found)["train"], modalities.names()
    lacking = [name for name in every if not have(train, name)]
    if lacking:
      it = "it" if len(lacking) == 1 else "them"
      lines.append(
        f"  no {' and no '.join(lacking)} to learn from: answers are trained,"
        f" drawing {it} is not"
      )
  if errors:
    total = sum(len(survey.entries) for survey in found.values())
    bad = sum(len(survey.file_errors) for survey in found.values())
    lines.append(
      f"  left out   {bad:,} of {total:,} images (config.data.bad_samples="
      f"{config.bad_samples:g}): {errors[0]}"
    )
  return [f"data {path_in(config)}", *lines]


def path_in(config: DataConfig) -> str:
  """The path of own data, as it is written."""
  return config.own("jsonl").path


def have(entries: list[Entry], name: str) -> int:
  """How many of the samples have a map."""
  return sum(name in entry.maps for entry in entries)


def looked_at(path: Path, config: DataConfig) -> Survey:
  """The file, looked at once a run; wholly decoded where bad ones may be."""
  try:
    changed = path.stat().st_mtime_ns
  except OSError:
    changed = 0  # `look` says what is wrong with it
  decode = "all" if config.bad_samples else "few"
  modules, usual = tuple(config.modalities.items()), config.own("jsonl").usual
  return _looked_at(path, changed, decode, modules, config.fit, usual)


@functools.lru_cache(maxsize=8)
def _looked_at(path: Path, changed: int, decode: str, own, fit: str, usual):
  del changed  # part of the key
  return look(path, decode=decode, own=dict(own), fit=fit, usual=usual)


def check(found: list[Survey], config: DataConfig) -> None:
  """Raises UserError for the first error, unless only allowed files are bad.

  Says how many more there are, what lists them all, and what would leave bad
  files out.
  """
  errors = [error for survey in found for error in survey.errors]
  bad = sum(len(survey.file_errors) for survey in found)
  total = sum(len(survey.entries) for survey in found)
  only_files = not any(survey.line_errors for survey in found)
  if not errors and not total:
    raise UserError(
      f"{path_in(config)} has no lines; write one for each question"
    )
  if not errors or (only_files and bad <= config.bad_samples * total):
    return
  more = []
  if len(errors) > 1:
    more.append(
      f"and {len(errors) - 1:,} more, all listed by {CHECK} {path_in(config)}"
    )
  if only_files and config.bad_samples:
    more.append(f"config.data.bad_samples={config.bad_samples:g} allows fewer")
  least = math.ceil(100 * bad / total) / 100 if total else 1.0
  if only_files and least <= MOST_BAD:
    more.append(
      f"config.data.bad_samples={least:g} would leave out"
      f" {bad:,} of {total:,} images"
    )
  raise UserError("; ".join([errors[0], *more]))


def without_bad(
  path: Path, config: DataConfig
) -> tuple[list[Entry], tuple[str, ...]]:
  """(the samples of a file but for bad ones, a line of each of these).

  UserError where too many are bad.
  """
  found = {n: looked_at(p, config)
           for n, p in paths_of(path_in(config)).items()}  # fmt: skip
  check(list(found.values()), config)
  mine = next(each for each in found.values() if each.path == path)
  return mine.sound, tuple(lines[0] for lines in mine.file_errors.values())
