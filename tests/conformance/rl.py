"""Compares this project's RL arithmetic with a file of expected values.

  python -m tests.conformance.rl tests/vectors/rl.json

Reads any file of the form of `tests/vectors/rl.json`: the same inputs in any
shape, and any of the cases listed here; sections that begin with "losses" are
losses. Computes in f64, prints the largest absolute error of each case's values
and gradient, and exits with 1 where one is past 1e-6, with 2 where the file
can't be read. What is not known here is listed and counted, and the rest is
still compared; a file of which nothing is known fails.
"""

import argparse
import json
import sys

import jax
import numpy as np

from tests.conformance.cases import loss_cases as loss_cases
from tests.conformance.computed import Computed, Unknown

TOLERANCE = 1e-6


def error(found, wanted) -> float:
  """The largest absolute difference; a null or NaN only fits a NaN or 0."""
  wanted = np.array(wanted, np.float64)
  found = np.asarray(found, np.float64)
  if wanted.ndim == 1 and found.ndim == 2:
    found = found[:, 0]
  if found.ndim == 1 and wanted.ndim == 2:
    found = np.broadcast_to(found[:, None], wanted.shape)
  if found.shape != wanted.shape:
    return float("inf")
  abstained = np.isnan(wanted) & ((found == 0) | np.isnan(found))
  gaps = np.where(abstained, 0.0, np.abs(found - wanted))
  return float(np.nan_to_num(gaps, nan=np.inf).max(initial=0.0))


def _pairs(wanted):
  """(lengths, values) of an overlong table: {length: value}, or lists."""
  if isinstance(wanted, dict):
    numbers = all(str(key).lstrip("-").isdigit() for key in wanted)
    if numbers:
      return [int(key) for key in wanted], list(wanted.values())
    lists = list(wanted.values())
    return lists[0], lists[1]
  return tuple(zip(*wanted, strict=True))


SECTIONS = (
  "advantages kl_per_token_unmasked kl_masked_mean losses sampler_is logits"
).split()


def compare(expected: dict):
  """Yields (case, error of the values, error of the gradient or None).

  Where a case, or a part of one, is not known here: (case, None, None).
  """
  computed = Computed(expected["inputs"])
  for title, section in expected.items():
    kind = "losses" if title.startswith("losses") else title
    if title == "inputs" or isinstance(section, str):  # a note
      continue
    if kind not in SECTIONS or _is_mask(section):
      yield from _known(_alone, title, section, computed)
    elif not isinstance(section, dict):
      yield title, None, None
    else:
      for name, wanted in section.items():
        label = f"{title}/{name}"
        if _is_mask(wanted):
          yield from _known(_alone, label, wanted, computed)
        elif not isinstance(wanted, str):
          compute = getattr(computed, kind)
          yield from _known(_case, label, section, compute, name)


def _known(cases, label: str, *args):
  try:
    yield from list(cases(label, *args))
  except (Unknown, LookupError, TypeError, ValueError, AttributeError):
    yield label, None, None


def _is_mask(section) -> bool:
  return isinstance(section, dict) and {"threshold", "keep"} <= set(section)


def _alone(title: str, section, computed: Computed):
  if _is_mask(section):
    found, section = computed.on_policy(section["threshold"]), section["keep"]
  elif isinstance(section, dict) and any(map(_is_mask, section.values())):
    for name, each in section.items():
      label = f"{title}/{name}"
      if _is_mask(each):
        yield from _alone(label, each, computed)
      elif not isinstance(each, str):
        yield label, None, None
    return
  else:
    found = computed.alone(title, section)
  if callable(found):
    lengths, section = _pairs(section)
    found = found(lengths)
  yield title, error(found, section), None


def _case(label: str, section: dict, compute, name: str):
  wanted = section[name]
  found = compute(name, section)
  if not isinstance(found, dict):
    yield label, error(found, wanted), None
    return
  values = []
  for key, value in wanted.items():
    if found.get(key) is None:
      yield f"{label}/{key}", None, None
    elif key != "grad_logps":
      values.append(error(found[key], value))
  slope = wanted.get("grad_logps")
  yield (
    label,
    max(values, default=0.0),
    None if slope is None else error(found["grad_logps"], slope),
  )


def main(argv=None) -> int:
  """Prints a line a case; gives the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m tests.conformance.rl", description=__doc__.splitlines()[0]
  )
  parser.add_argument("file", help="JSON like tests/vectors/rl.json")
  asked = parser.parse_args(argv)
  try:
    with open(asked.file, encoding="utf-8") as file:
      expected = json.load(file)
    if "mask" not in expected["inputs"]:
      raise ValueError("no inputs")
  except (OSError, ValueError, KeyError, TypeError) as problem:
    print(
      f"error: {asked.file} is no file of RL vectors: {problem!r}",
      file=sys.stderr,
    )
    return 2
  worst, known, unknown = 0.0, 0, 0
  with jax.enable_x64(True):
    for label, value, slope in compare(expected):
      if value is None:
        unknown += 1
        print(f"{label:60s} not known here, not compared")
        print(f"note: case {label} is not known here", file=sys.stderr)
        continue
      known += 1
      shown = "" if slope is None else f"  gradient {slope:.1e}"
      print(f"{label:60s} value {value:.1e}{shown}")
      worst = max(worst, value, slope or 0.0)
  print(
    f"{known} cases compared, {unknown} not known; largest error {worst:.1e},"
    f" allowed {TOLERANCE:.0e}"
  )
  return int(not (known and worst <= TOLERANCE))


if __name__ == "__main__":
  sys.exit(main())
