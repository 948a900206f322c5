"""Class ids of a map's file become those of a run's list, or one line."""

from collections.abc import Sequence

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.modalities.class_lists import ClassList


def numbers(file, classes: ClassList) -> np.ndarray:
  """The numbers [h, w] of a `MapFile`, 8 bits or, where ids need it, 16."""
  wide = classes.dtype == np.uint16
  of_data = len(file.names) > 255
  modes = ("L", "P", "I;16", "I;16B", "I;16L")[: 5 if wide or of_data else 2]
  return file.pixels(
    lambda mode: mode in modes,
    wanted="write"
    f" {'a 16-bit grey' if wide or of_data else 'an 8-bit grey or palette'}"
    " PNG whose values are class ids",
  )


def convert(ids, file, table, classes: ClassList, which: str) -> np.ndarray:
  """Ids [h, w] of a run's list, of the numbers [h, w] of a `MapFile`.

  table: the id of each of `file.names`, None = the same; which: the list as
  the run names it. Raises UserError as `checked`, and for 8 bits and a 255 that
  may be a class or "ignore".
  """
  unclear = ids.dtype == np.uint8 and (ids == 255).any()
  if classes.dtype == np.uint16 and not file.names and unclear:
    raise UserError(
      f"{file.said} has 8 bits and the value 255, which is class"
      f" {classes.names[255]!r} of config.maps.segmentation.classes="
      f"{which} or means ignore; write a 16-bit grey PNG, {classes.ignore} ="
      " ignore"
    )
  if file.names:
    ids = renumbered(ids, file.names, table, classes.ignore, file.said)
  return checked(ids, classes, file.said, which)


def checked(ids, classes: ClassList, said: str, which: str) -> np.ndarray:
  """Ids [h, w] of the list, its ignored ones and those below 0 as "ignore".

  said begins the message, which is the list as the run names it. Raises
  UserError for an id that the list has not, and where nothing is left.
  """
  present, known, ignore = np.unique(ids), len(classes), classes.ignore
  strange = [int(i) for i in present if i >= known and i != ignore]
  if strange:
    few = ", ".join(map(str, strange[:5])) + ", ..." * (len(strange) > 5)
    raise UserError(
      f"{said} has class ids above {known - 1} ({few}); map them"
      f" to the {known} of config.maps.segmentation.classes={which},"
      f" or to {ignore} (ignore), or name the list that has them"
    )
  read = np.append(np.where(classes.ignored, ignore, np.arange(known)), ignore)
  # A place below 0 would be one from the end.
  places = np.where(ids < 0, known, np.minimum(ids.astype(np.int64), known))
  ids = read[places].astype(classes.dtype)
  if (ids == ignore).all():
    few = ", ".join(map(str, present[:5])) + ", ..." * (present.size > 5)
    raise UserError(
      f"{said} has no reading, all is {few} (ignore); leave"
      " the map out of its line"
    )
  return ids


def renumbered(
  ids, names: Sequence[str], table, ignore: int, said: str
) -> np.ndarray:
  """Ids [h, w] of a run's list, of ids of `names`; table: theirs, None = same.

  Below 0, and the greatest number of the file's bits, is "ignore".
  """
  count = len(names)
  marked = ids == (255 if count <= 255 else 65_535)
  ids = np.where(marked, -1, ids.astype(np.int32))
  if ids.max(initial=0) >= count:
    raise UserError(
      f"{said} has class id {ids.max()}, the classes of this data end at"
      f" {count - 1} ({names[-1]})"
    )
  table = np.arange(count) if table is None else table
  return np.where(ids < 0, ignore, table[np.maximum(ids, 0)])


def exchanged(classes, cycle, shift: int, *, others=None) -> np.ndarray:
  """What each id becomes [n + 1]: in a cycle of ids the one `shift` on.

  others: what the ids outside become; None = they stay.
  """
  ids = (
    np.arange(len(classes)) if others is None else np.full(len(classes), others)
  )
  ids[cycle] = np.roll(cycle, -shift)
  return np.append(ids, classes.ignore).astype(classes.dtype)
