"""Calibration of the world's questions: acceptance numbers, as a table.

  python -m cooper_jax.world.tools.calibrate --scenes=6000

Takes about two minutes. Run it after any change to layout, shapes or families,
raise `config.WORLD_VERSION`, and look at `shortcuts.py` for what is left.
"""

from __future__ import annotations

import argparse
import pathlib
import pprint

import numpy as np

from cooper_jax.world.config import COLOURS, SHAPES, WorldConfig
from cooper_jax.world.layout import sample
from cooper_jax.world.questions import (
  debias,
  debias_table,
  measure,
  select,
  templates,
)
from cooper_jax.world.questions.debias_table import TABLE
from cooper_jax.world.render import render
from cooper_jax.world.tools.classifiers import logistic

_PAIRS = ("closer", "front_behind", "left_right", "above_below", "taller")
_NAMES_ONLY = ("left_right", "above_below")
_LENGTHS = ("distance", "object_distance", "gap", "height", "width")
_LEAST = 0.02  # acceptance of the commonest bin
_SPLIT = "train"
PATH = pathlib.Path(debias_table.__file__)
_FIRST = 10_000_000  # scenes that no training run gets to
_EACH = 0.62  # of a family per scene, where there are that many


def observe(scenes: int, start: int) -> dict:
  """Asked questions of many scenes: features, truth and value per family."""
  config = WorldConfig(shaded=False)
  seen: dict = {}
  for low in range(start, start + scenes, 16):
    drawn = sample.sample(config, split=_SPLIT, start=low, count=16)
    known = measure.gather(drawn, render.render(drawn, config), config)
    picks = select.choose(drawn, known, config, _SPLIT)
    features = debias.object_features(known)
    middle = known.middle / known.size
    for family in templates.FAMILIES:
      picked = picks[family]
      rows = np.flatnonzero(picked["asked"])
      items = picked["items"][rows]
      record = {"items": items}
      if items.shape[1] > 1 and family != "count":
        record["features"] = [features[rows, i] for i in items.T]
        record["middle"] = [middle[rows, i] for i in items.T]
      if family == "exists":
        record["colour"] = known.colour[rows, items[:, 0]]
        record["shape"] = known.shape[rows, items[:, 1]]
      for name in ("first", "value", "limit"):
        if name in picked:
          record[name] = picked[name][rows]
      for name, value in record.items():
        seen.setdefault(family, {}).setdefault(name, []).append(value)
  return {
    family: {name: _join(parts) for name, parts in record.items()}
    for family, record in seen.items()
  }


def _join(parts):
  if isinstance(parts[0], list):
    return [np.concatenate(column) for column in zip(*parts)]
  return np.concatenate(parts)


def fit_weights(seen: dict) -> None:
  """Fits the shortcut scores of the choice and yes/no families."""
  weights, bias = TABLE["weights"], TABLE["bias"]
  for family in _PAIRS:
    a, b = seen[family]["features"]
    columns = np.arange(debias.FEATURES)
    if family in _NAMES_ONLY:
      columns = columns[debias.BOX_FEATURES :]
    fit = np.zeros(debias.FEATURES)
    fit[columns] = logistic((a - b)[:, columns], seen[family]["first"])
    _add(weights, family, fit)
  a, b, _ = seen["nearer_to"]["features"]
  ma, mb, mc = seen["nearer_to"]["middle"]
  flat = [
    np.log(np.sqrt(((m - mc) ** 2).sum(-1)) + 0.02)[:, None] for m in (ma, mb)
  ]
  both = np.concatenate([a - b, flat[0] - flat[1]], 1)
  fit = logistic(both, seen["nearer_to"]["first"])
  _add(weights, "nearer_to", fit[:-1])
  slope = TABLE["slope"].get("nearer_to", 0.0)
  TABLE["slope"]["nearer_to"] = slope + float(fit[-1])
  a, b = seen["occlusion"]["features"]
  one = np.ones((len(a), 1))
  names = slice(debias.BOX_FEATURES, None)
  both = np.concatenate([a[:, names], b[:, names], one], 1)
  fit = logistic(both, seen["occlusion"]["first"])
  number = debias.NAME_FEATURES
  empty = np.zeros(debias.BOX_FEATURES)
  _add(
    weights,
    "occlusion",
    np.concatenate([empty, fit[:number], empty, fit[number:-1]]),
  )
  bias["occlusion"] = bias.get("occlusion", 0.0) + float(fit[-1])
  a, b = seen["reach"]["features"]
  powers = debias.limit_features(seen["reach"]["limit"])
  both = np.concatenate([a[:, names] + b[:, names], powers], 1)
  fit = logistic(both, seen["reach"]["first"])
  _add(weights, "reach", np.concatenate([empty, fit[:number]]))
  _add(TABLE["limit"], "reach", fit[number:])
  record = seen["exists"]
  colour = record["colour"][:, None] == np.arange(len(COLOURS))
  shape = record["shape"][:, None] == np.arange(len(SHAPES))
  one = np.ones((len(colour), 1))
  fit = logistic(np.concatenate([colour, shape, one], 1), record["first"])
  _add(weights, "exists", fit[:-1])
  bias["exists"] = bias.get("exists", 0.0) + float(fit[-1])


def _add(weights, family, fit):
  before = np.array(weights.get(family, np.zeros(len(fit))))
  weights[family] = (before + fit).tolist()


def fit_frequencies(seen: dict, power: float) -> None:
  """Flattens lengths and counts; a power below one goes part of the way."""
  for family in _LENGTHS:
    _flatten(family, debias.bin_of(family, seen[family]["value"]), power)
  record = seen["count"]
  colours = len(COLOURS)
  for kind, mine in (
    ("colour", record["items"][:, 0] < colours),
    ("shape", record["items"][:, 0] >= colours),
  ):
    number = np.bincount(record["value"][mine], minlength=5)[:5] + 3.0
    before = np.array(TABLE["counts"].get(kind, [1.0] * 5))
    rate = before * (number[3] / number) ** 0.8
    rate[4] = rate[3]
    TABLE["counts"][kind] = np.maximum(rate / rate.max(), 0.003).tolist()


def _flatten(family, bins, power):
  count = np.bincount(bins, minlength=debias.BINS) + 3.0
  before = np.array(TABLE["lengths"].get(family, [1.0] * debias.BINS))
  rate = before / count**power
  rate /= rate.max()
  TABLE["lengths"][family] = np.maximum(rate, _LEAST).tolist()


def fit_shares(seen: dict, scenes: int) -> None:
  """Thins the families of which there are many."""
  for family, record in seen.items():
    share = len(record["items"]) / scenes
    before = TABLE["keep"].get(family, 1.0)
    TABLE["keep"][family] = float(min(1.0, before * _EACH / share))


def write(path: pathlib.Path) -> None:
  """Writes the table as the module that `debias.py` imports."""
  rounded = {
    section: {
      name: (
        [round(float(v), 3) for v in value]
        if isinstance(value, list)
        else round(float(value), 3)
      )
      for name, value in sorted(entries.items())
    }
    for section, entries in TABLE.items()
  }
  text = pprint.pformat(rounded, width=78, compact=True, sort_dicts=False)
  path.write_text(
    '"""Measured acceptance numbers; written by `calibrate.py`."""\n\n'
    "# fmt: off\n"
    f"TABLE = (\n{text}\n)\n"
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--scenes", type=int, default=6000)
  parser.add_argument("--rounds", type=int, default=4)
  options = parser.parse_args()
  for section in TABLE.values():
    section.clear()
  for turn in range(options.rounds):
    start = _FIRST + turn * options.scenes
    seen = observe(options.scenes, start)
    share = {f: len(r["items"]) / options.scenes for f, r in seen.items()}
    print(
      f"round {turn}: " + ", ".join(f"{f} {s:.2f}" for f, s in share.items())
    )
    fit_weights(seen)
    # The last rounds would chase the noise of their counts.
    fit_frequencies(seen, 1.0 if turn < options.rounds - 2 else 0.4)
  seen = observe(options.scenes, _FIRST + options.rounds * options.scenes)
  fit_shares(seen, options.scenes)
  debias.check()
  write(PATH)


if __name__ == "__main__":
  main()
