"""Data sets that people download: what to get, how it lies, how it is divided.

What is missing is said with the layout that should be there, splits hold whole
sequences, bad samples are counted, and some samples are decoded before a run.
"""

import dataclasses
import functools
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cooper_jax import modalities
from cooper_jax.data import (
  fingerprints,
  line_maps,
  mixture,
  picture_files,
  splits,
)
from cooper_jax.data.folders import FolderSource, Listed, inside, reading
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes

DECODED = 4  # samples of a split that are decoded before a run
FEWEST_GROUPS = 3  # sequences, below which single samples are divided
_NO_NAME = ("Cc", "Cs", "Zl", "Zp")  # controls, broken bytes, ends of lines
_SPLIT = re.compile(
  r"(?:^|[/_.-])(train|valid|val|dev|test)(?:ing|idation)?(?![a-z])"
)


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A downloaded data set: what to get, where its files lie, how to list them.

  `check`, `source` and `survey` are what a file of `data/sources/` has.
  """

  name: str  # of the source
  download: str  # what to get, where, and its licence
  layout: str  # paths below the root, as they are unpacked
  samples: Callable[[Path, Any], list[Listed]]  # samples(root, own settings)
  tables: tuple[str, ...] = ()  # settings that name a file outside of the root

  def root(self, config: DataConfig) -> Path:
    """The folder that is set; UserError where it is none."""
    key = f"config.data.settings.{self.name}.root"
    written = config.own(self.name).root
    if not written:
      raise UserError(
        f"config.data.source={config.source} reads a folder and {key} names"
        f" none; set --{key}=FOLDER. {self.wanted}"
      )
    # Absolute: a relative path may begin with ~, and be expanded again.
    root = Path(os.path.expanduser(written)).absolute()
    if not root.is_dir():
      raise UserError(f"{key}={written} is no folder. {self.wanted}")
    return root

  @property
  def wanted(self) -> str:
    """What to get and how it lies, in one line."""
    return f"Get {self.download}; its layout is {self.layout}"

  def check(self, config: DataConfig) -> None:
    """UserError where no folder is named, or it is not there."""
    self.root(config)

  def listed(self, config: DataConfig) -> list[Listed]:
    """All samples of the folder, of every split; files are not opened."""
    root = self.root(config)
    found = _listed(self, root, config.own(self.name))
    if not found:
      raise UserError(f"{self.name}: {root} has no samples. {self.wanted}")
    return found

  def opened(self, config: DataConfig, listed: list[Listed]) -> FolderSource:
    """Some samples as a source."""
    return FolderSource(
      self.name,
      self.root(config),
      listed,
      config.image_size,
      fit=config.fit,
      modalities=config.modalities,
      settings=self._settings(config),
    )

  def _settings(self, config: DataConfig) -> tuple[str, ...]:
    """The settings that make the numbers: all but where the files lie.

    Tables and class lists count by what they hold.
    """
    own, found = config.own(self.name), []
    for field in dataclasses.fields(own):
      value = getattr(own, field.name)
      if value and field.name in self.tables:
        path = os.path.expanduser(value)
        value = fingerprints.of_files([field.name], [path])
      if field.name != "root":
        value = line_maps.told_apart(field.name, value)
        found.append(f"{field.name}={value!r}")
    return tuple(found)

  def source(self, config: DataConfig, split: str) -> FolderSource:
    """The samples of a split; bad ones left out where some are allowed."""
    divided, note = divide(self.listed(config))
    if note:
      say(f"note: {self.name}: {picture_files.shown(note)}")
    mine = divided.get(split, [])
    if not mine:
      there = ", ".join(n for n, each in divided.items() if each)
      raise UserError(
        f"{self.name}: {self.root(config)} has no samples of split {split!r},"
        f" only of {there}. {self.wanted}"
      )
    mine, bad = self._present(config, mine)
    found = self.opened(config, mine)
    found.left_out = tuple(bad)
    return found

  def asked(self, config: DataConfig, split: str):
    """Yields (question, name of its sample, maps); no picture is read."""
    found = self.source(config, split)
    for one in found.listed:
      for question in one.questions:
        yield question, f"{self.name}: {one.id}", [*one.maps]

  def _present(
    self, config: DataConfig, mine: list[Listed]
  ) -> tuple[list[Listed], list[str]]:
    """(those whose files are there, a line of each other).

    UserError where too many are not.
    """
    root = self.root(config)
    good, bad = [], []
    for one in mine:
      lost = _lost(root, one, f"{self.name}: {one.id}")
      bad.append(lost) if lost else good.append(one)
    if bad and (not good or len(bad) > config.bad_samples * len(mine)):
      raise mixture.too_many(bad, len(mine), config.bad_samples)
    if bad:
      say(
        f"note: {self.name}: {len(bad):,} of {len(mine):,} samples left out:"
        f" {bad[0]}"
      )
    return good, bad

  def survey(self, config: DataConfig) -> list[str]:
    """What a run's plan says; some samples of each split are decoded."""
    lines = [f"data {self.name} {self.root(config)}"]
    for split in splits.NAMES:
      found = self.source(config, split)
      some = mixture.tolerant(found, config.bad_samples)
      for index in range(0, len(found), max(1, len(found) // DECODED)):
        _ = some[index]
      have = ", ".join(
        f"{name} of {sum(name in each.maps for each in found.listed):,}"
        for name in modalities.names()
      )
      lines.append(f"  {split:10s} {len(found):,} images; {have}")
    return lines


def split_in(path: str) -> str:
  """The split that a path names, "" without one.

  In: "data/validation-00000-of-00002.parquet"   Out: "validation"
  """
  found = _SPLIT.findall(path.lower())
  # "test-dev" is a part of the test, and dev-kits are no split.
  told = [each for each in found if each != "dev"] or found
  named = told[-1] if told else ""
  return "validation" if named in ("val", "valid", "dev") else named


@functools.lru_cache(maxsize=8)
def _listed(data: DataSet, root: Path, own: Any) -> list[Listed]:
  """Listed once for all splits; an id names one sample."""
  # Of a file whose source says nothing itself.
  with reading(f"{data.name}: an index or a table in {root}"):
    found = [_named(data.name, one) for one in data.samples(root, own)]
  seen = set()
  for one in found:
    if one.id in seen:
      raise UserError(f"{data.name}: {one.id} stands twice in {root}")
    seen.add(one.id)
  return found


def _named(name: str, one: Listed) -> Listed:
  """The sample; a bad one where no line and no record can hold its name."""
  if not any(unicodedata.category(c) in _NO_NAME for c in one.id):
    return one
  shown = picture_files.shown(one.id)
  problem = (
    f"{name}: {shown}: the name of its file is not UTF-8, or holds a control"
    " character; rename it"
  )
  return Listed(shown, "", split=one.split, problem=problem)


def _lost(root: Path, one: Listed, where: str) -> str:
  """What is wrong with a sample's line or paths, "" where they are files."""
  if one.problem:
    return one.problem
  for written in one.paths:
    try:
      path = inside(root, written, where)
    except UserError as error:
      return str(error)
    if not os.path.isfile(path):
      return f"{where}: {picture_files.shown(written)} does not exist"
  return ""


def divide(listed: Sequence[Listed]) -> tuple[dict[str, list[Listed]], str]:
  """(split -> its samples, one line of what was done, or "").

  As the authors have it; a split that they have not takes whole sequences of
  training, a tenth. Frames of one sequence are nearly alike: only where there
  are too few of them are single samples divided.
  """
  divided: dict[str, list[Listed]] = {name: [] for name in splits.NAMES}
  for one in listed:
    divided[one.split or "train"].append(one)
  lacking = [name for name in splits.NAMES if not divided[name]]
  train = divided["train"]
  if not lacking or not train:
    return divided, ""
  groups = {one.group or one.id for one in train}
  by_group = len(groups) >= FEWEST_GROUPS
  key = (lambda one: one.group or one.id) if by_group else lambda one: one.id
  names, note = splits.divide(sorted({key(one) for one in train}))
  if not by_group and any(one.group for one in train):
    alike = (
      f"{len(groups)} sequence{'s' * (len(groups) > 1)}, so frames of one are"
      " in several splits: scores on them say little about new scenes"
    )
    note = f"{alike}; {note}" if note else alike
  divided["train"] = [
    one
    for one in train
    if key(one) in names["train"]
    or not any(key(one) in names[lack] for lack in lacking)
  ]
  for name in lacking:
    divided[name] = [one for one in train if key(one) in names[name]]
  return divided, note


@functools.cache
def say(note: str) -> None:
  """Once, though each stage of each process opens its splits."""
  if processes.is_first():
    print(note, file=sys.stderr, flush=True)
