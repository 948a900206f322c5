"""Folder sources: data sets read where they were unpacked, as they are.

A file of `data/sources/` lists the samples of a data set by their paths below
its root, and says how its numbers become metres and classes; all the rest is
here: what is missing is said with the layout that should be there, a path that
leaves the root is refused, splits hold whole sequences, files are opened when a
sample is read, and a fingerprint tells whether they changed.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cooper_jax import modalities
from cooper_jax.data import (
  fingerprints,
  fitting,
  map_files,
  picture_files,
  pictures,
  splits,
)
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.modalities import SetUp
from cooper_jax.parallel import processes
from cooper_jax.sample import Question, Sample

FEW = 4  # samples of a split that are decoded before a run
NAMED = 20  # bad samples that a message names
FEWEST_GROUPS = 3  # sequences, below which single samples are divided


@dataclasses.dataclass(frozen=True)
class MapPath:
  """File of a map: its path below the root, and what its numbers are.

  scale: units a metre. names: of the file's class ids; () = the run's list.
  read: read(file) -> the array [h, w] as stored, where it is no plain picture.
  """

  path: str
  scale: float | None = None
  names: tuple[str, ...] = ()
  read: Callable[[map_files.MapFile], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Listed:
  """One sample of a data set, by its paths.

  group: the sequence it is of, which is not divided. camera: fx, fy, cx, cy,
  pixels of the picture. read: read(path, where) -> RGB, where the image is no
  plain picture.
  """

  id: str
  image: str
  maps: Mapping[str, MapPath] = dataclasses.field(default_factory=dict)
  split: str = ""  # that its authors put it in; "" = none
  group: str = ""
  camera: tuple[float, ...] = ()
  questions: tuple[Question, ...] = ()
  read: Callable[[str, str], Image.Image] | None = None

  @property
  def paths(self) -> tuple[str, ...]:
    """All files that it names."""
    return (self.image, *(each.path for each in self.maps.values()))


class FolderSource:
  """Samples of one split of a data set."""

  def __init__(
    self,
    name: str,
    root: Path,
    listed: Sequence[Listed],
    size: int,
    *,
    fit: str = fitting.SQUASH,
    modalities: Mapping[str, Any] | None = None,
  ):
    """modalities: those that are not as they stand, as `set_up` gives them."""
    self.name, self.root, self.listed = name, root, listed
    self.size, self.fit = size, fit
    # Those that are modules are found again: a module can't be pickled.
    given = (modalities or {}).items()
    self.modalities = {n: each for n, each in given if isinstance(each, SetUp)}

  def __len__(self) -> int:
    return len(self.listed)

  def kind(self, index: int) -> tuple[str, ...]:
    """Which maps a sample has."""
    return tuple(sorted(self.listed[index].maps))

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions; no file is opened."""
    return self.listed[index].questions

  def __getitem__(self, index: int) -> Sample:
    one = self.listed[index]
    image, sides = self._image(one)
    place = fitting.place(self.fit, sides, self.size)
    frame = pictures.Frame(*sides)
    maps = {
      name: place.array(self._map(one, name, frame), self._own(name).fill())
      for name in one.maps
    }
    camera = None
    if one.camera:
      fx, fy, cx, cy = one.camera
      whole = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
      camera = place.camera(whole, sides)
    return Sample(
      id=f"{self.name}/{one.id}",
      source=self.name,
      image=place.image(image),
      maps=maps,
      camera=camera,
      questions=one.questions,
    )

  def native(self, index: int) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """The picture as it is, and its maps [h, w] at their own sizes."""
    one = self.listed[index]
    image, sides = self._image(one)
    frame = pictures.Frame(*sides)
    return image, {name: self._map(one, name, frame) for name in one.maps}

  def map_alone(self, index: int, name: str) -> np.ndarray:
    """One map [h, w] at its own size, without a look at its picture."""
    return self._map(self.listed[index], name, None)

  def _own(self, name: str):
    return self.modalities.get(name) or modalities.found()[name]

  def _where(self, one: Listed) -> str:
    return f"{self.name}: {one.id}"

  def _image(self, one: Listed) -> tuple[Image.Image, tuple[int, int]]:
    """The picture upright in RGB, and its (width, height)."""
    where = self._where(one)
    path = inside(self.root, one.image, where)
    if one.read:
      rgb = one.read(path, where)
      return rgb, rgb.size
    with picture_files.opened(path, where, "image") as picture:
      if picture_files.orientation(picture) != 1 and one.maps:
        raise UserError(
          f"{where}: EXIF turns the picture, which its maps do not say; save it"
          " upright"
        )
      rgb = pictures.upright(picture, where)
      return rgb, rgb.size

  def _map(self, one: Listed, name: str, frame) -> np.ndarray:
    each, where = one.maps[name], self._where(one)
    file = map_files.MapFile(
      name,
      inside(self.root, each.path, where),
      where,
      frame,
      each.scale,
      written=each.path,
      names=each.names,
    )
    own = self._own(name)
    if each.read is None:
      return own.read_file(file)
    with reading(file.said):
      raw = each.read(file)
    file.check_sides(raw)
    return own.convert(raw, file)

  def __repr__(self) -> str:
    return f"FolderSource({self.name}, {len(self)}, {self._fingerprint})"

  @functools.cached_property
  def _fingerprint(self) -> str:
    """Of what is asked and of what the samples' files hold, read once."""
    asked = hashlib.sha256()
    for one in self.listed:
      scales = [(n, m.scale, m.names) for n, m in one.maps.items()]
      asked.update(repr((one.id, one.camera, one.questions, scales)).encode())
    written = [path for one in self.listed for path in one.paths]
    files = fingerprints.of_files(written, [self.root / w for w in written])
    return f"{asked.hexdigest()[:6]}{files}"


@contextlib.contextmanager
def reading(said: str):
  """What a reader raises of a broken file becomes one line."""
  try:
    yield
  except (*picture_files.BROKEN, EOFError) as error:
    raise UserError(
      f"{said} can't be read: {picture_files.reason(error)}"
    ) from error


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A downloaded data set: what to get, where its files lie, how to list them.

  `check`, `source` and `survey` are what a file of `data/sources/` has.
  """

  name: str  # of the source
  download: str  # what to get, where, and its licence
  layout: str  # paths below the root, as they are unpacked
  samples: Callable[[Path, Any], list[Listed]]  # samples(root, own settings)

  def root(self, config: DataConfig) -> Path:
    """The folder that is set; UserError where it is none."""
    key = f"config.data.settings.{self.name}.root"
    written = config.own(self.name).root
    if not written:
      raise UserError(
        f"config.data.source={config.source} reads a folder and {key} names"
        f" none; set --{key}=FOLDER. {self.wanted}"
      )
    root = Path(written).expanduser()
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
    )

  def source(self, config: DataConfig, split: str) -> FolderSource:
    """The samples of a split; bad ones left out where some are allowed."""
    divided, note = divide(self.listed(config))
    if note:
      _say(f"note: {self.name}: {picture_files.shown(note)}")
    mine = divided.get(split, [])
    if not mine:
      there = ", ".join(n for n, each in divided.items() if each)
      raise UserError(
        f"{self.name}: {self.root(config)} has no samples of split {split!r},"
        f" only of {there}. {self.wanted}"
      )
    mine = self._present(config, mine)
    return self.opened(config, mine)

  def _present(self, config: DataConfig, mine: list[Listed]) -> list[Listed]:
    """Those whose files are there; UserError where too many are not."""
    root = self.root(config)
    good, bad = [], []
    for one in mine:
      lost = _lost(root, one, f"{self.name}: {one.id}")
      bad.append(lost) if lost else good.append(one)
    if bad and (not good or len(bad) > config.bad_samples * len(mine)):
      more = f"; and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
      raise UserError(
        f"{'; '.join(bad[:NAMED])}{more} ({len(bad):,} of {len(mine):,} samples"
        f" are bad; config.data.bad_samples={config.bad_samples:g} allows no"
        " more)"
      )
    if bad:
      _say(
        f"note: {self.name}: {len(bad):,} of {len(mine):,} samples left out:"
        f" {bad[0]}"
      )
    return good

  def survey(self, config: DataConfig) -> list[str]:
    """What a run's plan says; some samples of each split are decoded."""
    lines = [f"data {self.name} {self.root(config)}"]
    for split in splits.NAMES:
      found = self.source(config, split)
      for index in range(0, len(found), max(1, len(found) // FEW)):
        try:
          found[index]
        except UserError:
          if not config.bad_samples:
            raise
      have = ", ".join(
        f"{name} of {sum(name in each.maps for each in found.listed):,}"
        for name in modalities.names()
      )
      lines.append(f"  {split:10s} {len(found):,} images; {have}")
    return lines


@functools.lru_cache(maxsize=8)
def _listed(data: DataSet, root: Path, own: Any) -> list[Listed]:
  """Listed once for all splits; an id names one sample."""
  found = data.samples(root, own)
  seen = set()
  for one in found:
    if one.id in seen:
      raise UserError(f"{data.name}: {one.id} stands twice in {root}")
    seen.add(one.id)
  return found


def _lost(root: Path, one: Listed, where: str) -> str:
  """What is wrong with a sample's paths, "" where they are files."""
  for written in one.paths:
    try:
      path = inside(root, written, where)
    except UserError as error:
      return str(error)
    if not os.path.isfile(path):
      return f"{where}: {picture_files.shown(written)} does not exist"
  return ""


def inside(root: Path, written: str, where: str) -> str:
  """The path of a file below the root; UserError where it leaves it.

  Paths of a downloaded index are not the user's own words.
  """
  below = os.path.normpath(written)
  outside = below == os.pardir or below.startswith(os.pardir + os.sep)
  if not written or os.path.isabs(written) or outside or "\0" in written:
    raise UserError(
      f"{where}: path {picture_files.shown(written)!r} is not below"
      f" {root}; nothing else is read"
    )
  return str(root / below)


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


def pinhole(fx, fy, cx, cy, *, first: float = 0) -> tuple[float, ...]:
  """fx, fy, cx, cy with pixel centres at .5, as a sample has them.

  first: where the data set has the centre of the first pixel; most at 0,
  MATLAB at 1.
  """
  return fx, fy, cx + 0.5 - first, cy + 0.5 - first


def colours(file: map_files.MapFile) -> np.ndarray:
  """RGB u8 [h, w, 3] of a map whose colours stand for classes."""
  with picture_files.opened(file.path, file.where, file.what) as picture:
    if picture.mode not in ("RGB", "P") or picture.format != "PNG":
      raise UserError(
        f"{file.said} is {picture.format} of mode {picture.mode}; classes are"
        " an 8-bit RGB PNG"
      )
    return np.asarray(picture.convert("RGB"))


def files(root: Path, ending: str) -> list[str]:
  """Paths below the root that end so, sorted; links of folders are followed."""
  found = []
  for folder, below, names in os.walk(root, followlinks=True):
    below.sort()
    inner = os.path.relpath(folder, root)
    found += [
      name if inner == "." else f"{inner}/{name}"
      for name in names
      if name.endswith(ending)
    ]
  return sorted(found)


@functools.cache
def _say(note: str) -> None:
  """Once, though each stage of each process opens its splits."""
  if processes.is_first():
    print(note, file=sys.stderr, flush=True)
