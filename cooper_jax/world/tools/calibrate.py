"""Measures the RATES of the question families and writes them to their files.

  python -m cooper_jax.world.tools.calibrate --scenes=6000

Takes about two minutes. Run it after any change to layout, shapes or families,
raise `config.WORLD_VERSION`, and look at `shortcuts.py` for what is left.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import pprint
import sys

import numpy as np

from cooper_jax.errors import EXIT_DONE, EXIT_USER, printable
from cooper_jax.world.config import WorldConfig
from cooper_jax.world.layout import sample
from cooper_jax.world.questions import debias, families, measure, select
from cooper_jax.world.render import render

_SPLIT = "train"
_FIRST = 10_000_000  # scenes that no training run gets to
_EACH = 0.62  # of a family per scene, where there are that many
_LEAST = 1000  # scenes; of fewer some family has too few questions for a fit


def observe(scenes: int, start: int) -> dict[str, dict[str, np.ndarray]]:
  """Asked questions of many scenes, by family, as `questions/fitting.py` has.

  {family: {items, features, middle, colour, shape, first, value, limit}}.
  """
  config = WorldConfig(shaded=False)
  seen: dict = {}
  for low in range(start, start + scenes, 16):
    drawn = sample.sample(config, split=_SPLIT, start=low, count=16)
    known = measure.gather(drawn, render.render(drawn, config), config)
    picks = select.choose(drawn, known, config, _SPLIT)
    of_slots = {
      "features": debias.object_features(known),
      "middle": known.middle / known.size,
      "colour": known.colour,
      "shape": known.shape,
    }
    for family, picked in picks.items():
      rows = np.flatnonzero(picked["asked"])
      record = {name: values[rows] for name, values in of_slots.items()}
      for name in ("items", "first", "value", "limit"):
        if name in picked:
          record[name] = picked[name][rows]
      for name, value in record.items():
        seen.setdefault(family, {}).setdefault(name, []).append(value)
  return {
    family: {name: np.concatenate(parts) for name, parts in record.items()}
    for family, record in seen.items()
  }


def fit(seen: dict, power: float) -> None:
  """Fits each family's rates; a power below one goes part of the way."""
  for family, record in seen.items():
    file = families.find(family)
    if hasattr(file, "fit"):
      file.RATES = file.fit(file.RATES, record, power)


def fit_shares(seen: dict, scenes: int) -> None:
  """Thins the families of which there are many."""
  for family, record in seen.items():
    file = families.find(family)
    if hasattr(file, "RATES"):
      share = len(record["items"]) / scenes
      keep = file.RATES.get("keep", 1.0) * _EACH / share
      file.RATES = file.RATES | {"keep": float(min(1.0, keep))}


def write(path: pathlib.Path, rates: dict) -> None:
  """Puts rates, to three digits, in the place of those in a family's file."""
  text = path.read_text("utf-8")
  place = next(
    node
    for node in ast.parse(text).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "RATES"
  )
  lines = text.splitlines()
  shown = pprint.pformat(
    _rounded(rates), width=78, compact=True, sort_dicts=False
  )
  lines[place.lineno - 1 : place.end_lineno] = ["RATES = (", shown, ")"]
  path.write_text("\n".join(lines) + "\n", "utf-8")


def _rounded(value):
  if isinstance(value, dict):
    return {name: _rounded(each) for name, each in value.items()}
  if isinstance(value, list):
    return [_rounded(each) for each in value]
  return round(float(value), 3)


def main(argv=None) -> int:
  """Writes the rates into the families' files; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.world.tools.calibrate",
    description=__doc__.splitlines()[0],
  )
  parser.add_argument("--scenes", type=int, default=6000)
  parser.add_argument("--rounds", type=int, default=4)
  options = parser.parse_args(argv)
  for name, least in (("scenes", _LEAST), ("rounds", 1)):
    if getattr(options, name) < least:  # or rates would be lost
      print(
        f"error: --{name}={getattr(options, name)}: give {least} or more",
        file=sys.stderr,
      )
      return EXIT_USER
  measured = families.where(lambda family: hasattr(family, "RATES"))
  for name in measured:
    families.find(name).RATES = {}
  for turn in range(options.rounds):
    start = _FIRST + turn * options.scenes
    seen = observe(options.scenes, start)
    share = {f: len(r["items"]) / options.scenes for f, r in seen.items()}
    print(
      f"round {turn}: " + ", ".join(f"{f} {s:.2f}" for f, s in share.items())
    )
    # The last rounds would chase the noise of their counts.
    fit(seen, 1.0 if turn < options.rounds - 2 else 0.4)
  seen = observe(options.scenes, _FIRST + options.rounds * options.scenes)
  fit_shares(seen, options.scenes)
  for name in measured:
    file = families.find(name)
    write(pathlib.Path(file.__file__), file.RATES)
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
