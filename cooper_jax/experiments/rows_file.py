"""File of an experiment, looked at before it runs: rows, and what is compared.

A config file that has also, as `configs/paper.py` does:

  ROWS          row -> function that changes a config into it
  GROUPS        name -> rows, for --rows
  MODES         row -> mode that it is asked in; free of any other
  BENCHMARKS    row -> benchmark that it is asked; the test split of any other
  STARTS        row -> row whose trained SFT it begins with
  COMPARISONS   name -> (row, row or its own SFT, families or () for all); for
                `comparisons.OWN_SFT` see there
  CLAIMS        claim -> names of the comparisons that it needs
  BASE          claim -> row without which nothing is told of it

All but ROWS may be left out. A point of a curve, as amg-1000, is as its row.
"""

import types

from cooper_jax import command
from cooper_jax.errors import UserError, nearest, short
from cooper_jax.experiments import comparisons

FILE_PARTS = (
  "ROWS", "GROUPS", "MODES", "BENCHMARKS", "STARTS", "COMPARISONS", "CLAIMS",
  "BASE",
)  # fmt: skip


def load(file: str) -> types.SimpleNamespace:
  """The file's parts and its get_config; {} for a part that it leaves out.

  Raises UserError where a part is no dict or names what there is not.
  """
  module = command.load_module(file)
  if not hasattr(module, "ROWS"):
    raise UserError(
      f"--config={file} has no ROWS; take configs/paper.py, or write a file"
      " like it"
    )
  found = types.SimpleNamespace(
    **{name: getattr(module, name, {}) for name in FILE_PARTS},
    get_config=module.get_config,
    __file__=module.__file__,
  )
  for name in FILE_PARTS:
    part = getattr(found, name)
    if not isinstance(part, dict):
      raise UserError(f"{name} of {file} is {short(part)}; make it a dict")
  _check_names(file, found)
  return found


def of_row(part: dict, row: str, other=None):
  """What a part says of a row; of a point of a curve, what it says of its row.

  In: {"amg": "text"}, "amg-1000"   Out: "text"
  """
  return part.get(row, part.get(_row(row), other))


def _check_names(file: str, found) -> None:
  """Whatever one part names is in the other."""
  for name, value in found.COMPARISONS.items():
    if not (
      isinstance(value, tuple | list)
      and len(value) == 3
      and isinstance(value[2], tuple | list)
    ):
      raise UserError(
        f'COMPARISONS of {file}: "{name}" is {short(value)}; write (row, row,'
        " families), () for all families"
      )
  rows, compared = {*found.ROWS}, found.COMPARISONS
  named = [
    *(("COMPARISONS", k, _row(v[0]), rows) for k, v in compared.items()),
    *(
      ("COMPARISONS", k, _row(v[1]), rows | {*comparisons.OWN_SFT})
      for k, v in compared.items()
    ),
    *(
      ("CLAIMS", claim, each, {*compared})
      for claim, names in found.CLAIMS.items()
      for each in names
    ),
    *(("BASE", claim, claim, {*found.CLAIMS}) for claim in found.BASE),
    *(("BASE", claim, row, rows) for claim, row in found.BASE.items()),
    *(("MODES", row, row, rows) for row in found.MODES),
    *(("BENCHMARKS", row, row, rows) for row in found.BENCHMARKS),
    *(("STARTS", row, row, rows) for row in found.STARTS),
    *(
      ("STARTS", row, _row(start), rows) for row, start in found.STARTS.items()
    ),
    *(
      ("GROUPS", group, _row(each), rows)
      for group, names in found.GROUPS.items()
      for each in names
    ),
  ]
  for part, of, name, known in named:
    if name not in known:
      raise UserError(
        f'{part} of {file}: "{of}" names "{name}"; there are'
        f" {', '.join(sorted(known)) or 'none'}{nearest(str(name), known)}"
      )

  for claim, names in found.CLAIMS.items():
    if not names:
      raise UserError(
        f'CLAIMS of {file}: "{claim}" names no comparison that it needs; name'
        " one, or leave the claim out"
      )
  for row in found.STARTS:
    before = [row]
    while start := of_row(found.STARTS, before[-1]):
      if _row(start) in before:
        raise UserError(
          f"STARTS of {file}: {' begins with '.join([*before, _row(start)])};"
          " let one of them begin with its own pretraining"
        )
      before.append(_row(start))


def _row(point) -> str:
  """The row of a point of a curve, as in amg-1000."""
  return str(point).partition("-")[0]
