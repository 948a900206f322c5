"""Class maps whose colours stand for classes, by a list of both."""

import functools
from pathlib import Path

import numpy as np

from cooper_jax.data import map_files, picture_files
from cooper_jax.errors import UserError

Colours = tuple[tuple[str, tuple[int, ...]], ...]


@functools.lru_cache(maxsize=256)
def named(path: Path, more: Colours = ()) -> Colours:
  """((name, (r, g, b)), ...) of a file of lines like "Car 255 127 80".

  more: what a data set has beside its list, where neither the name nor the
  colour is taken.
  """
  found: dict[str, tuple[int, ...]] = {}
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, ValueError) as error:
    raise UserError(
      f"list of colours {path} can't be read: {picture_files.reason(error)}"
    ) from error
  for line in lines:
    parts = line.replace(",", " ").split()
    if len(parts) == 4 and all(part.isdecimal() for part in parts[1:]):
      # Of digits without end, enough to see that they are too many.
      colour = tuple(int(part[:9]) for part in parts[1:])
      if found.setdefault(parts[0], colour) != colour:
        raise UserError(
          f"{path}: {picture_files.shown(parts[0])} has two colours,"
          f" {found[parts[0]]} and {colour}; a name has one"
        )
  if not found:
    raise UserError(f"{path} has no line of a name and three numbers")
  names: dict[tuple[int, ...], str] = {}
  for name, colour in found.items():
    shown = f"{path}: {picture_files.shown(name)} has colour {colour}"
    if max(colour) > 255:
      raise UserError(f"{shown}; its numbers are 0 to 255")
    if (other := names.setdefault(colour, name)) != name:
      raise UserError(
        f"{shown} as {picture_files.shown(other)} has; a pixel of it is of"
        " neither for certain"
      )
  for name, colour in more:
    if colour not in found.values():
      found.setdefault(name, colour)
  return tuple(found.items())


def colours(file: map_files.MapFile) -> np.ndarray:
  """RGB u8 [h, w, 3] of a file whose colours stand for classes."""
  with picture_files.opened(file.path, file.where, file.what) as picture:
    if picture.mode not in ("RGB", "P") or picture.format != "PNG":
      raise UserError(
        f"{file.said} is {picture.format} of mode {picture.mode}; classes are"
        " an 8-bit RGB PNG"
      )
    return np.asarray(picture.convert("RGB"))


def ids(rgb: np.ndarray, colors: Colours, said: str) -> np.ndarray:
  """Places in the list of colours [h, w]; UserError for one that it has not."""
  packed = rgb.astype(np.int32) @ np.array([65_536, 256, 1])
  known = np.array([(r * 256 + g) * 256 + b for _, (r, g, b) in colors])
  order = np.argsort(known)
  place = np.searchsorted(known[order], packed).clip(max=len(known) - 1)
  found = order[place]
  strange = known[found] != packed
  if strange.any():
    colour = tuple(int(each) for each in rgb[strange][0])
    raise UserError(
      f"{said} has colour {colour} at {int(strange.sum()):,} pixels, which"
      " colors.txt does not name"
    )
  return found.astype(np.int32)
