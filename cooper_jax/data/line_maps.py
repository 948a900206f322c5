"""Units, classes and the camera that a JSONL line names, or all lines share."""

import dataclasses
import functools
import math
import pathlib
from typing import Any, NamedTuple

from cooper_jax import modalities
from cooper_jax.data import own_questions, picture_files, records
from cooper_jax.errors import UserError
from cooper_jax.modalities import class_lists

MOST_CAMERA = 1_000_000  # pixels of a focal length or a principal point


@dataclasses.dataclass(frozen=True)
class Usual:
  """What holds for the lines that do not say it themselves.

  scale: units a metre of the files of maps; 0 = as is usual. classes: the list
  of the ids of class maps; "" = the run's.
  """

  scale: float = 0.0
  classes: str = ""

  def __post_init__(self):
    if not (math.isfinite(self.scale) and self.scale >= 0):
      raise UserError(
        f"depth_scale is {self.scale}; allowed: 0 and more units a metre"
      )


PLAIN = Usual()


class Known(NamedTuple):
  """What a line says of its maps and its picture."""

  scales: dict[str, float]
  camera: tuple[float, ...]
  classes: tuple[str, ...]


def of(
  record: dict[str, Any],
  usual: Usual,
  folder: pathlib.Path,
  problems: list[str],
) -> Known:
  """What a line says; what is wrong with it is added to `problems`."""
  scales = _scales(record, problems)
  for name, module in modalities.found().items():
    if module.SCALED and usual.scale and record.get(name):
      scales.setdefault(name, usual.scale)
  which, classes = record.get(records.CLASSES) or usual.classes, ()
  if which:
    try:
      classes = _class_list(which, folder)
    except UserError as error:
      problems.append(str(error))
  return Known(scales, _camera(record, problems), classes)


@functools.lru_cache(maxsize=16)
def _class_list(which: str, folder: pathlib.Path) -> tuple[str, ...]:
  """Names of a packaged list, or of a text file beside the lines."""
  if which not in class_lists.packaged():
    which = picture_files.beside(folder, which)
  return class_lists.read(which).names


def told_apart(field: str, value: Any) -> Any:
  """What of a source's setting makes other data.

  Of a file of classes its names do, which are told of every sample, and not
  where it lies.
  """
  file = field == records.CLASSES and value
  return "a file" if file and value not in class_lists.packaged() else value


def _camera(record: dict[str, Any], problems: list[str]) -> tuple[float, ...]:
  """The line's fx, fy, cx, cy, pixels of its picture; () without any."""
  if records.CAMERA not in record:
    return ()
  written = record[records.CAMERA]
  if isinstance(written, list) and len(written) == 4:
    numbers = [each for each in written if isinstance(each, records.Number)]
    found = tuple(float(each) for each in numbers)
    if (
      len(found) == 4
      and max(map(abs, found)) <= MOST_CAMERA
      and min(found[:2]) >= 1
    ):
      return found
  problems.append(
    f"'camera' is {records.said(written)}; it should be [fx, fy, cx, cy],"
    " numbers in pixels of the picture (not shares of its sides), the first"
    f" two from 1, none beyond {MOST_CAMERA:,}"
  )
  return ()


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
