"""Comparisons of an experiment: rows paired by question and seed.

A row is compared with another row, or with its own SFT, in the mode the row is
asked in or in the best fixed one: in right answers, and rows of an equal start
in their lengths, too.
"""

import dataclasses
import math

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.eval import pairing
from cooper_jax.experiments import lengths
from cooper_jax.grading import intervals

# Of a comparison: the SFT of the row itself, in its best fixed mode, in the
# mode of the row, and in that on the test split in place of its benchmark.
BEST_BEFORE, FREE_BEFORE = "before", "free before"
TEST_SPLIT_BEFORE = "free before, test split"
OWN_SFT = (BEST_BEFORE, FREE_BEFORE, TEST_SPLIT_BEFORE)


@dataclasses.dataclass(frozen=True)
class Difference:
  """One comparison: points [%] with an interval, or what is missing."""

  name: str
  seeds: tuple[int, ...]
  gap: str = ""
  found: tuple = ()  # (mean, low, high, n), in shares
  commits: tuple[str, ...] = ()
  said: str = ""  # what its name does not say, as the best mode


def accuracy(answers, mode: str, over=()) -> float:
  """Of a mode's answers about some families (() = all), mean over seeds."""
  rates = []
  for each in answers:
    lines = each[mode].values()
    hits = [x["hit"] for x in lines if not over or x["family"] in over]
    rates.append(np.mean(hits) if hits else math.nan)
  return float(np.mean(rates))


def gaps(one, other) -> np.ndarray:
  """Differences of hits [n] of the same questions, {question: line} each.

  Raises UserError where they are not the same.
  """
  if one.keys() != other.keys():
    raise UserError(
      "runs of one seed were not asked the same questions; give all rows the"
      " same --config.data and --config.evaluate"
    )
  return np.array(
    [line["hit"] - other[key]["hit"] for key, line in one.items()], float
  )


def interval(gaps) -> tuple[float, float, float, int]:
  """(mean, low, high, n) of differences [n], one array a seed."""
  low, high = intervals.nested_bootstrap(gaps)
  mean = float(np.mean([each.mean() for each in gaps]))
  return mean, low, high, sum(map(len, gaps))


def differences(name, there, over, runs, seeds) -> list[Difference]:
  """A comparison of right answers, and of how far lengths are off.

  there: the two rows; over: families; runs: row -> `runs.Run`.
  """
  one, other = (runs.get(row) for row in there)
  before = there[1] in OWN_SFT
  missing = []
  needed = zip(there[:1], [one]) if before else zip(there, (one, other))
  for row, run in needed:
    if run is None:
      missing.append(f"row {row} was not asked for")
    elif run.gap:
      missing.append(f"row {row} {run.gap}")
    elif before and pairing.BEFORE not in run.config.pipeline:
      missing.append(f"row {row} has no {pairing.BEFORE} of its own")
  if there[1] == TEST_SPLIT_BEFORE and not missing:
    if pairing.EMBEDDED not in one.config.evaluate.benchmarks:
      missing.append(f"row {there[0]} was not asked the test split")
    one = dataclasses.replace(one, benchmark="")
  if missing:
    return [Difference(name, seeds, gap="; ".join(missing))]
  here, said = [_about(each[one.mode], over) for each in one.answers()], ""
  if before:
    found = one.answers(pairing.BEFORE)
    mode, said = one.mode, f"{100 * accuracy(found, one.mode, over):.1f} %"
    if there[1] == BEST_BEFORE:
      if {*found[0]} == {pairing.FREE}:
        gap = f"row {there[0]} was asked in no fixed mode"
        return [Difference(name, seeds, gap=gap)]
      mode, said = _best(found, over)
    against, commits = [each[mode] for each in found], one.commits
  else:
    against = [each[other.mode] for each in other.answers()]
    commits = tuple(dict.fromkeys((*one.commits, *other.commits)))
  pairs = list(zip(here, [_about(each, over) for each in against]))
  hits = [gaps(*pair) for pair in pairs]
  if not all(map(len, hits)):
    return [Difference(name, seeds, gap="no such question was asked")]
  made = [Difference(name, seeds, "", interval(hits), commits, said)]
  factors = [lengths.paired(*pair) for pair in pairs]
  if before or not all(map(len, factors)):
    return made
  for measure, (figures, said) in lengths.differences(factors).items():
    gap = "" if figures else "most answers of a seed can't be read"
    made.append(
      Difference(f"{name} {measure}", seeds, gap, figures, commits, said)
    )
  return made


def _about(lines: dict, families) -> dict:
  """Those of {question: line} that are about some families (() = all)."""
  return {
    key: line
    for key, line in lines.items()
    if not families or line["family"] in families
  }


def _best(answers, over) -> tuple[str, str]:
  """The fixed mode that most answers are right in, over seeds; and in words."""
  modes = [mode for mode in answers[0] if mode != pairing.FREE]
  rates = {mode: accuracy(answers, mode, over) for mode in modes}
  best = max(sorted(rates), key=rates.get)
  return best, f"{best}, {100 * rates[best]:.1f} %"
