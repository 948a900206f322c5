"""Class files: pictures whose values are ids of a class list.

8 bits where 255 is no class and so says "ignore", 16 where a list has more.
"""

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.modalities.class_lists import ClassList


def read(file, classes: ClassList, named: str) -> np.ndarray:
  """Class ids [h, w] of a `MapFile`, "ignore" of classes that say nothing.

  named: what `config.maps.segmentation.classes` is, for messages.
  Raises UserError for ids that the list has not, and for a map without any.
  """
  wide = classes.dtype == np.uint16
  modes = ("L", "P", "I;16", "I;16B", "I;16L") if wide else ("L", "P")
  ids = file.pixels(
    lambda mode: mode in modes,
    wanted=f"write {'a 16-bit grey' if wide else 'an 8-bit grey or palette'}"
    " PNG whose values are class ids",
  )
  present, known, ignore = np.unique(ids), len(classes), classes.ignore
  if wide and ids.dtype == np.uint8 and 255 in present:
    raise UserError(
      f"{file.said} has 8 bits and the value 255, which is class"
      f" {classes.names[255]!r} of config.maps.segmentation.classes="
      f"{named} or means ignore; write a 16-bit grey PNG, {ignore} ="
      " ignore"
    )
  strange = [int(i) for i in present if i >= known and i != ignore]
  if strange:
    few = ", ".join(map(str, strange[:5])) + ", ..." * (len(strange) > 5)
    raise UserError(
      f"{file.said} has class ids above {known - 1} ({few}); map them"
      f" to the {known} of config.maps.segmentation.classes={named},"
      f" or to {ignore} (ignore), or name the list that has them"
    )
  read = np.append(np.where(classes.ignored, ignore, np.arange(known)), ignore)
  ids = read[np.minimum(ids.astype(np.int64), known)].astype(classes.dtype)
  if (ids == ignore).all():
    few = ", ".join(map(str, present[:5])) + ", ..." * (present.size > 5)
    raise UserError(
      f"{file.said} has no reading, all is {few} (ignore); leave"
      " the map out of its line"
    )
  return ids
