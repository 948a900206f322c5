"""Samples of a folder: paths below its root, opened when a sample is read.

A file of `data/sources/` lists the samples of a data set so, and says how its
numbers become metres and classes; here they are read. A path that leaves the
root is refused, and a fingerprint tells whether the files changed.
"""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import math
import os
import zlib
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
)
from cooper_jax.errors import UserError
from cooper_jax.modalities import SetUp
from cooper_jax.sample import Question, Sample


@dataclasses.dataclass(frozen=True)
class MapPath:
  """File of a map: its path below the root, and what its numbers are.

  scale: units a metre. names: of the file's class ids; () = the run's list.
  read: read(file) -> the array [h, w] as stored, where it is no plain picture.
  held: held(path, where) -> the bytes of a file, or the array, that the file of
  the path holds. certain: the units are those of a published data set.
  """

  path: str
  scale: float | None = None
  names: tuple[str, ...] = ()
  read: Callable[[map_files.MapFile], np.ndarray] | None = None
  held: Callable[[str, str], Any] | None = None
  certain: bool = True


class EmptyMap(UserError):
  """A map that says nothing of its picture: the sample goes without it."""


@dataclasses.dataclass(frozen=True)
class Listed:
  """One sample of a data set, by its paths.

  group: the sequence it is of, which is not divided. camera: fx, fy, cx, cy,
  pixels of the picture. read: read(path, where) -> RGB, where the image is no
  plain picture. beside: more paths that the numbers come from, as masks.
  problem: what is wrong with its line or camera: it is a bad sample.
  """

  id: str
  image: str
  maps: Mapping[str, MapPath] = dataclasses.field(default_factory=dict)
  split: str = ""  # that its authors put it in; "" = none
  group: str = ""
  camera: tuple[float, ...] = ()
  questions: tuple[Question, ...] = ()
  read: Callable[[str, str], Image.Image] | None = None
  beside: tuple[str, ...] = ()
  problem: str = ""

  @property
  def paths(self) -> tuple[str, ...]:
    """All files that it names."""
    if self.problem:
      return ()
    maps = (each.path for each in self.maps.values())
    return (self.image, *maps, *self.beside)


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
    settings: Sequence[str] = (),
  ):
    """modalities: those that are not as they stand, as `set_up` gives them.

    settings: of the data set, what its numbers depend on.
    """
    self.name, self.root, self.listed = name, root, listed
    self.size, self.fit, self.settings = size, fit, tuple(settings)
    self.left_out: tuple[str, ...] = ()  # a line of each bad sample
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

  def ids(self) -> list[str]:
    """Every sample's id; no file is opened."""
    return [self._id(one) for one in self.listed]

  def cameras(self) -> bool:
    """Whether any sample has a camera; no file is opened."""
    return any(one.camera for one in self.listed)

  def __getitem__(self, index: int) -> Sample:
    one = self.listed[index]
    image, sides = self._image(one)
    place = fitting.place(self.fit, sides, self.size)
    frame = pictures.Frame(*sides)
    maps = {
      name: place.array(target, self._own(name).fill())
      for name, target in self._maps(one, frame).items()
    }
    camera = None
    if one.camera:
      fx, fy, cx, cy = one.camera
      whole = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
      camera = place.camera(whole, sides)
    return Sample(
      id=self._id(one),
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
    return image, self._maps(one, frame)

  def map_alone(self, index: int, name: str) -> np.ndarray:
    """One map [h, w] at its own size, without a look at its picture."""
    return self._map(self.listed[index], name, None)

  def _own(self, name: str):
    return self.modalities.get(name) or modalities.found()[name]

  def _id(self, one: Listed) -> str:
    return f"{self.name}/{one.id}"

  def _where(self, one: Listed) -> str:
    return f"{self.name}: {one.id}"

  def _image(self, one: Listed) -> tuple[Image.Image, tuple[int, int]]:
    """The picture upright in RGB, and its (width, height)."""
    where = self._where(one)
    if one.problem:
      raise UserError(one.problem)
    known = one.camera or (1.0, 1.0)
    if not (all(map(math.isfinite, known)) and min(known[:2]) > 0):
      raise UserError(
        f"{where}: its camera is {', '.join(f'{each:g}' for each in known)}"
        " (fx, fy, cx, cy in pixels); these are numbers, the first two above 0"
      )
    path = inside(self.root, one.image, where)
    if one.read:
      with reading(f"{where}: image"):
        rgb = one.read(path, where)
      return rgb, rgb.size
    with picture_files.opened(path, where, "image") as picture:
      alone = not one.maps and not one.camera
      rgb = pictures.upright(picture, where, alone=alone)
      return rgb, rgb.size

  def _maps(self, one: Listed, frame) -> dict[str, np.ndarray]:
    found = {}
    for name in one.maps:
      with contextlib.suppress(EmptyMap):
        found[name] = self._map(one, name, frame)
    return found

  def _map(self, one: Listed, name: str, frame) -> np.ndarray:
    each, where = one.maps[name], self._where(one)
    file = map_files.MapFile(
      name,
      inside(self.root, each.path, where),
      where,
      frame,
      each.scale,
      written=each.path,
      certain=each.certain,
      names=each.names,
    )
    own = self._own(name)
    if each.held:
      with reading(file.said):
        raw = each.held(file.path, file.said)
      if isinstance(raw, picture_files.Embedded):
        return own.read_file(dataclasses.replace(file, path=raw, written=""))
    elif each.read is None:
      return own.read_file(file)
    else:
      with reading(file.said):
        raw = each.read(file)
    whole = bool(each.names) or not own.SCALED
    if raw.ndim != 2 or raw.dtype.kind not in ("iu" if whole else "iuf"):
      wanted = "whole numbers" if whole else "numbers"
      raise UserError(
        f"{file.said} is {raw.dtype}{list(raw.shape)}; it should be {wanted}"
        " [height, width]"
      )
    file.check_sides(raw)
    return own.convert(raw, file)

  def __repr__(self) -> str:
    return f"FolderSource({self.name}, {len(self)}, {self._fingerprint})"

  @functools.cached_property
  def _fingerprint(self) -> str:
    """Of what is asked, the settings and what the files hold, read once."""
    asked = hashlib.sha256()
    for one in self.listed:
      scales = [(n, m.scale, m.names) for n, m in one.maps.items()]
      asked.update(repr((one.id, one.camera, one.questions, scales)).encode())
    # Once each: a table is beside all samples.
    written = [*dict.fromkeys(p for one in self.listed for p in one.paths)]
    files = fingerprints.of_files(
      written, [self.root / w for w in written], self.settings
    )
    return f"{asked.hexdigest()[:6]}{files}"


@contextlib.contextmanager
def reading(said: str):
  """What a reader raises of a broken file becomes one line."""
  try:
    yield
  except (*picture_files.BROKEN, EOFError, csv.Error, zlib.error) as error:
    raise UserError(
      f"{said} can't be read: {picture_files.reason(error)}"
    ) from error


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


def pinhole(fx, fy, cx, cy, *, first: float = 0) -> tuple[float, ...]:
  """fx, fy, cx, cy with pixel centres at .5, as a sample has them.

  first: where the data set has the centre of the first pixel; most at 0,
  MATLAB at 1.
  """
  return fx, fy, cx + 0.5 - first, cy + 0.5 - first


def numbers(path: Path, where: str, count: int) -> list[float]:
  """The numbers of a text file; UserError where they are not so many."""
  with reading(f"{where}: {path}"):
    found = [float(each) for each in path.read_text(encoding="utf-8").split()]
  if len(found) != count:
    raise UserError(f"{where}: {path} has {len(found)} numbers, not {count}")
  return found


def tried(read: Callable[..., Any], *given) -> tuple[Any, str]:
  """(what a function reads, "") as a camera, else ((), what is wrong).

  So a broken file of intrinsics is a bad sample, not the end of the listing.
  """
  try:
    return read(*given), ""
  except UserError as error:
    return (), str(error)


def files(root: Path, ending: str) -> list[str]:
  """Paths below the root that end so, sorted; links of folders are followed.

  But for links to a folder that they lie in, which have no end.
  """
  found = []
  for folder, below, names in os.walk(root, followlinks=True):
    below[:] = sorted(each for each in below if not _leads_up(folder, each))
    inner = os.path.relpath(folder, root)
    found += [
      name if inner == "." else f"{inner}/{name}"
      for name in names
      if name.endswith(ending)
    ]
  return sorted(found)


def _leads_up(folder: str, name: str) -> bool:
  link = os.path.join(folder, name)
  if not os.path.islink(link):
    return False
  above = os.path.join(os.path.realpath(link), "")
  return os.path.join(os.path.realpath(folder), "").startswith(above)
