"""Origins of a model's arrays: what each was imported from, or how it was made.

A part that was forgotten has the values of a fresh model, which trains and is
worse: so every array has a line, and what has none is an error.
"""

import dataclasses

from cooper_jax.errors import UserError

DRAWN = "drawn, as of a new model"


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where one array comes from; `imported` or `initialised` says something.

  A table may have both: rows of a folder, and rows of our own behind them.
  """

  path: str  # in our tree
  imported: str  # pattern of the keys in a folder, "" = nothing
  initialised: str  # how the rest was made, "" = there is none
  shape: tuple[int, ...]
  dtype: str  # in the folder; ours where nothing is imported


def table(imported: list[Origin], tree: dict) -> list[Origin]:
  """The origins of all arrays of a tree, in its order.

  tree: each array, or its shape and dtype, by path. Raises UserError where an
  import has no place in the tree.
  """
  found = {origin.path: origin for origin in imported}
  extra = sorted(found.keys() - tree.keys())
  if extra:
    raise UserError(
      f"the model has no {extra[0]}, which {found[extra[0]].imported} would be;"
      " its settings are of another family"
    )
  rows = []
  for path, array in tree.items():
    shape, dtype = tuple(array.shape), str(array.dtype)
    origin = found.get(path, Origin(path, "", DRAWN, shape, dtype))
    own = shape[0] - origin.shape[0] if path in found and shape else 0
    if own > 0:
      origin = dataclasses.replace(
        origin, initialised=f"last {own:,} rows {DRAWN}", shape=shape
      )
    if origin.shape != shape:
      raise UserError(
        f"{path} has shape {list(shape)} in the model and {list(origin.shape)}"
        f" from {origin.imported}"
      )
    rows.append(origin)
  return rows


def lines(origins: list[Origin]) -> list[str]:
  """The table as text, a line an array."""
  cells = [("array", "imported from", "initialised", "shape", "dtype")]
  for origin in origins:
    shape = " x ".join(map(str, origin.shape))
    said = (origin.imported or "-", origin.initialised or "-", shape)
    cells.append((origin.path, *said, origin.dtype))
  widths = [max(map(len, column)) for column in zip(*cells)]
  return [
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in cells
  ]


def as_json(origins: list[Origin]) -> list[dict]:
  """The table as JSON has it, to be stored beside a checkpoint."""
  return [dataclasses.asdict(origin) for origin in origins]
