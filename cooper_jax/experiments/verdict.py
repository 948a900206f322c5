"""Verdicts on the claims of an experiment, or why there is none.

Of each claim all comparisons must be above 0, interval included, for it to be
shown; one that is below 0, interval included, refutes it. An interval that
holds 0 tells neither. Nothing is told either by runs that hardly learned the
task: their base must be well above the best constant answers.
"""

import dataclasses
import math

from cooper_jax.experiments.comparisons import Difference

HOLDS, REFUTED, NONE = "shown", "refuted at this size", "no verdict"
LEAST_ABOVE = 0.10  # of the base over the constant, of all answers
LEAST_SEEDS = 3  # or the interval would hardly be one over seeds


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a claim has come to, and the figures that decide."""

  claim: str
  said: str  # HOLDS, REFUTED or NONE
  why: str

  def __str__(self) -> str:
    return f"{self.claim}: {self.said}. {self.why}."


def verdicts(module, rows, differences) -> list[Verdict]:
  """A verdict on each of a config file's CLAIMS; [] of a file without any.

  rows: of the table; differences: of its comparisons, by their names.
  """
  made = {each.name: each for each in differences}
  found = []
  for claim, names in module.CLAIMS.items():
    row = module.BASE.get(claim)
    doubt, base = _base(row, rows) if row else ("", "")
    found.append(_judge(claim, [made[name] for name in names], doubt, base))
  return found


def _judge(claim, compared: list[Difference], doubt: str, base: str) -> Verdict:
  gaps = [f"{each.name}: {each.gap}" for each in compared if each.gap]
  if gaps or doubt:
    return Verdict(claim, NONE, "; ".join([*gaps, *filter(None, [doubt])]))
  figures = "; ".join(filter(None, [*map(_figures, compared), base]))
  seeds = len(compared[0].seeds)
  lows, highs = zip(*(each.found[1:3] for each in compared))
  if seeds < LEAST_SEEDS:
    return Verdict(
      claim, NONE, f"{seeds} seeds, it takes {LEAST_SEEDS}; {figures}"
    )
  if min(lows) > 0:
    return Verdict(claim, HOLDS, figures)
  if min(highs) < 0:
    return Verdict(claim, REFUTED, figures)
  return Verdict(claim, NONE, f"an interval holds 0; {figures}")


def _figures(each: Difference) -> str:
  mean, low, high, n = each.found
  points = f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
  beside = f", {each.said}" if each.said else ""
  return f"{each.name} {points}, n {n}{beside}"


def _base(name: str, rows) -> tuple[str, str]:
  """(why the base tells nothing, "" if it does; its figures).

  It is looked at where it has the most labelled scenes, of several such rows
  in the one that is no point of a curve, or the longest trained.
  """
  arms = [row for row in rows if row.arm == name]
  if not arms:
    return f"row {name} was not asked for", ""
  row = max(arms, key=lambda row: (row.scenes, row.name == name, row.steps))
  if row.gap:
    return f"row {row.name} {row.gap}", ""
  right, constant = row.right, row.constant
  if math.isnan(right) or math.isnan(constant):
    return f"row {row.name} was not asked about distance and size", ""
  figures = (
    f"{row.name} is {100 * (right - constant):.1f} points above the constant"
    f" ({100 * right:.1f} and {100 * constant:.1f} %)"
  )
  if right - constant < LEAST_ABOVE - 1e-9:
    return f"{figures}, it takes {100 * LEAST_ABOVE:.0f}", figures
  return "", figures
