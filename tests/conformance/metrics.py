"""Compares this project's metrics and reading of answers with expected values.

  python -m tests.conformance.metrics FILE.json

Reads files of the form of `tests/vectors/metrics.json` and `answers.json`: any
of the sections below, any number of rows. Prints the largest error of each
metric, relative where a value is above 1, and the share of hand labels that
our own (robust) reader of answers agrees with. Exits with 1 where an error is
past 1e-9 or a share below 97 %, with 2 where the file can't be read. What is
not known here is listed and counted, and the rest is still compared; a file of
which nothing is known fails.
"""

import argparse
import collections
import json
import sys
from collections.abc import Iterator

import numpy as np

from cooper_jax.grading import extract
from cooper_jax.grading.metrics import (
  choice,
  depth,
  mra,
  ratio,
  segmentation,
)
from cooper_jax.modalities.segmentation import iou

TOLERANCE = 1e-9
LEAST_SHARE = 0.97
NOTES = ("note", "definition", "formula")
RULES = {"vsi_le": "vsi", "sibench_lt": "sibench"}
ALIGNMENTS = {
  "none": "none",
  "least_squares": "lstsq",
  "median_scaling": "median",
  "median_mad": "mad",
  "disparity_least_squares": "disparity",
}

# A comparison: (name, found, wanted); found is None where it is not known.
Compared = Iterator[tuple[str, object, object]]


def rows_of_mra(section) -> Compared:
  for row in section["rows"]:
    for name, wanted in row.items():
      if name not in ("pred", "target"):
        rule = RULES.get(name)
        found = rule and mra.mra(row["pred"], row["target"], rule)
        yield name, found, wanted
  if "thresholds" in section:
    yield "thresholds", 1 - mra._BOUNDS["vsi"], section["thresholds"]


def rows_of_qspatial(section) -> Compared:
  for unit, wanted in section.get("multipliers_cm", {}).items():
    yield "multipliers_cm", ratio.centimetres(1.0, unit), wanted
  for row in section["rows"]:
    said, true = (ratio.centimetres(*row[name]) for name in ("pred", "gt"))
    for name, wanted in row.items():
      if name in ("pred", "gt"):
        continue
      factor = name.removeprefix("delta_").replace("_", ".")
      known = name.startswith("delta_") and factor.replace(".", "").isdigit()
      found = ratio.within(said, true, float(factor)) if known else None
      yield name, found, wanted


def rows_of_parse(section) -> Compared:
  for row in section["rows"]:
    yield "cm", ratio.parse(row["text"]), row["cm"]


def depths(section) -> Compared:
  shape = section["shape"]
  truth, drawn = (
    np.reshape(np.array(section[name], np.float64), shape)
    for name in ("gt", "pred")
  )
  valid = np.reshape(np.array(section["valid"], bool), shape)
  for name, wanted in section.items():
    if name in ("shape", "gt", "pred", "valid", *NOTES):
      continue
    align = ALIGNMENTS.get(name)
    if align is None:
      yield name, None, wanted
      continue
    if align == "none":
      wanted = {"metrics": wanted}
    for part, values in wanted.items():
      if part in NOTES:
        continue
      if not part.startswith("metrics"):
        found = _fitted(part, align, drawn, truth, valid)
        yield f"{name}/{part}", found, values
        continue
      bounds = None
      if part.startswith("metrics_clipped_"):
        bounds = tuple(map(float, part.split("_")[2:]))
      found = depth.image_errors(
        drawn, truth, valid=valid, align=align, bounds=bounds
      )
      for metric, value in values.items():
        yield f"{name}/{part}/{metric}", found.get(metric), value


def _fitted(part: str, align: str, drawn, truth, valid):
  """The scale or shift of an alignment."""
  drawn, truth = drawn[valid], truth[valid]
  if align == "median" and part == "scale":
    return float(np.median(truth) / np.median(drawn))
  pairs = {"lstsq": (drawn, truth), "disparity": (1 / drawn, 1 / truth)}
  if align not in pairs or part not in ("scale", "shift"):
    return None
  return depth.fit(*pairs[align])[part == "shift"]


def classes(section) -> Compared:
  true, drawn = (np.array(section[name]) for name in ("gt", "pred"))
  count = section["num_classes"]
  kept = true != section["ignore"]
  matrix = np.zeros((count, count))
  np.add.at(matrix, (true[kept], drawn[kept]), 1)
  found = segmentation.scores(matrix)
  found |= {"confusion": matrix, "iou": iou(matrix)}
  inputs = ("gt", "pred", "num_classes", "ignore", *NOTES)
  for name, wanted in section.items():
    if name not in inputs:
      yield name, found.get(name), wanted


def pairs_of_mmvp(section) -> Compared:
  for name, wanted in section.items():
    if name not in ("hits", *NOTES):
      found = choice.accuracy(section["hits"])["value"]
      yield name, found if name == "average" else None, wanted


def _labels_of_choices(section) -> Compared:
  for row in section["rows"]:
    names, options = zip(*row["choices"].items(), strict=True)
    found = extract.choice(row["text"], options).value
    letter = False if found is None else names[options.index(found)]
    for name, wanted in row.items():
      if name == "human":  # "Z" is a refusal, none for us
        yield name, letter, False if wanted == "Z" else wanted
      elif name not in ("text", "choices", *NOTES):
        yield name, None, wanted


def _labels_of_numbers(section) -> Compared:
  for row in section["rows"]:
    found, wanted = extract.number(row["text"]).value, row["value"]
    if wanted is None or found is None:
      yield "value", found is None, wanted is None
    else:
      yield "value", found, wanted


EXACT = {
  "mra": rows_of_mra,
  "qspatial": rows_of_qspatial,
  "qspatial_regex_parse": rows_of_parse,
  "depth": depths,
  "miou": classes,
  "mmvp": pairs_of_mmvp,
}
LABELS = {
  "option_extraction": _labels_of_choices,
  "number_extraction": _labels_of_numbers,
}


def gap(found, wanted) -> float:
  """The largest difference, relative to what is above 1; NaN fits NaN."""
  if isinstance(wanted, str) or isinstance(found, str):
    return 0.0 if found == wanted else float("inf")
  wanted, found = (np.asarray(x, np.float64) for x in (wanted, found))
  if found.shape != wanted.shape:
    return float("inf")
  both = np.isnan(wanted) & np.isnan(found)
  gaps = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
  gaps = np.where(both | (found == wanted), 0.0, gaps)
  return float(np.nan_to_num(gaps, nan=np.inf).max(initial=0.0))


def compare(expected: dict):
  """Yields (section/metric, gaps of its rows, how many rows are not known)."""
  for title, section in expected.items():
    if isinstance(section, str):  # a note
      continue
    reader = EXACT.get(title) or LABELS.get(title)
    if reader is None or not isinstance(section, dict):
      yield title, [], 1
      continue
    parts = [{**section, "rows": []}] if "rows" in section else [section]
    parts += [{"rows": [row]} for row in section.get("rows", ())]
    gaps = collections.defaultdict(list)
    for part in parts:
      for name, found, wanted in _read(reader, part):
        label = f"{title}/{name}".rstrip("/")
        gaps[label].append(None if found is None else gap(found, wanted))
    for label, each in gaps.items():
      known = [one for one in each if one is not None]
      yield label, known, len(each) - len(known)


def _read(reader, part) -> list:
  try:
    return list(reader(part))
  except (LookupError, TypeError, ValueError, AttributeError) as problem:
    print(f"note: of another form: {problem!r}", file=sys.stderr)
    return [("", None, None)]


def main(argv=None) -> int:
  """Prints a line a metric; gives the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m tests.conformance.metrics",
    description=__doc__.splitlines()[0],
  )
  parser.add_argument("file", help="JSON like tests/vectors/metrics.json")
  asked = parser.parse_args(argv)
  try:
    with open(asked.file, encoding="utf-8") as file:
      expected = json.load(file)
    if not isinstance(expected, dict):
      raise ValueError("no sections")
  except (OSError, ValueError) as problem:
    print(
      f"error: {asked.file} is no file of metric vectors: {problem!r}",
      file=sys.stderr,
    )
    return 2
  known, unknown, wrong, worst = 0, 0, 0, 0.0
  for label, gaps, others in compare(expected):
    unknown += others
    if others:
      print(f"{label:50s} {others:4d} x  not known here, not compared")
    if not gaps:
      continue
    known += len(gaps)
    line = f"{label:50s} {len(gaps):4d} x  "
    if label.split("/")[0] in LABELS:
      share = float(np.mean([each <= TOLERANCE for each in gaps]))
      wrong += share < LEAST_SHARE
      print(f"{line}robust agrees with {share:.1%} of hand labels")
    else:
      wrong += not max(gaps) <= TOLERANCE
      worst = max(worst, *gaps)
      print(f"{line}error {max(gaps):.1e}")
  print(
    f"{known} values compared, {unknown} not known, {wrong} wrong; largest"
    f" error {worst:.1e}, allowed {TOLERANCE:.0e}, share {LEAST_SHARE:.0%}"
  )
  return int(not known or wrong > 0)


if __name__ == "__main__":
  sys.exit(main())
