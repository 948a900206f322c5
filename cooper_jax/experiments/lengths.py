"""Lengths of an experiment: by which factor answers miss them.

The paper calls a length right within a factor of 2 of the truth, this project
within 10 %. All measures are of the same saved answers; one that can't be read
is off by an infinite factor.
"""

import dataclasses
import math

import numpy as np

from cooper_jax.grading import grade, intervals
from cooper_jax.grading.metrics import ratio
from cooper_jax.world.questions import families

FACTORS = (2.0, 1.25)
MEDIAN = "median error factor"  # a difference of it is in hundredths


@dataclasses.dataclass(frozen=True)
class Lengths:
  """A row's answers that are lengths; each (mean, low, high), NaN of none."""

  within: dict  # factor -> share within it
  median: tuple  # of the factors
  n: int


def of_lines(lines) -> list[dict]:
  """Those of an evaluation's lines that are asked for a length."""
  return [line for line in lines if line["family"] in families.lengths()]


def factor_of(line: dict) -> float:
  """Error factor of an answer to a question for a length; inf if unread."""
  # Not as it is written, which is rounded; older answers have that alone.
  value = line.get("value")
  found = grade.grade(
    line["text"],
    answer=line["answer"],
    answer_type="number",
    unit="m",
    value=value,
    question=line["question"],
    rules=grade.Rules(tags_only=True),
  )
  return ratio.ratio(found.value, grade.truth(line["answer"], "m", value))


def measure(lines) -> Lengths:
  """Measures of a row's lines, a list a seed, with 95 % intervals."""
  runs = [np.array([factor_of(each) for each in of_lines(x)]) for x in lines]
  if not all(map(len, runs)):
    nothing = (math.nan,) * 3
    return Lengths(dict.fromkeys(FACTORS, nothing), nothing, 0)
  return Lengths(
    {most: _spread([run < most for run in runs], np.mean) for most in FACTORS},
    _spread(runs, np.median),
    sum(map(len, runs)),
  )


def _spread(runs, statistic) -> tuple[float, float, float]:
  """Mean over runs of a statistic, with its interval."""
  mean = float(np.mean([statistic(run) for run in runs]))
  if not math.isfinite(mean):  # most answers of a run can't be read
    return mean, math.nan, math.nan
  return mean, *intervals.nested_bootstrap(runs, statistic=statistic)


def paired(one, other) -> np.ndarray:
  """Factors [n, 2] of the same questions for lengths: ours and the other's.

  one, other: {question: line}, of one seed.
  """
  asked = [k for k, line in one.items() if line["family"] in families.lengths()]
  pairs = [(factor_of(one[key]), factor_of(other[key])) for key in asked]
  return np.array(pairs, float).reshape(-1, 2)


def differences(pairs) -> dict[str, tuple[tuple, str]]:
  """Measure -> ((mean, low, high, n), what is beside it) of `paired` seeds.

  Shares within a factor, and the median factor: less is better.
  () in place of figures where most answers of a seed can't be read.
  """
  n = sum(map(len, pairs))
  found = {}
  for most in FACTORS:
    gaps = [(each < most) @ np.array([1.0, -1.0]) for each in pairs]
    found[f"within a factor of {most:g}"] = (
      (*_spread(gaps, np.mean), n),
      "",
    )
  sides = np.mean([np.median(each, axis=0) for each in pairs], axis=0)
  beside = f"{sides[0]:.2f} less {sides[1]:.2f}; less is better"
  figures = ()
  if np.isfinite(sides).all():
    mean, low, high = _spread(pairs, _median_gap)
    if math.isfinite(low + high):
      figures = mean, low, high, n
  found[MEDIAN] = figures, beside
  return found


def _median_gap(pairs, axis=0):
  """Difference of two medians along an axis; NaN where one is infinite."""
  one, other = np.moveaxis(np.median(pairs, axis=axis), -1, 0)
  finite = np.isfinite(one) & np.isfinite(other)
  # An infinite one less itself would warn.
  gap = np.where(finite, one, 0.0) - np.where(finite, other, 0.0)
  return np.where(finite, gap, np.nan)
