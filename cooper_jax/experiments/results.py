"""Results of an experiment: its rows, and how they compare.

Everything is read off the answers that the evaluations left, paired by question
and seed; a row that is not finished for every seed is a gap.
"""

import dataclasses
import math
import shlex

import numpy as np

from cooper_jax.eval import comparison, pairing
from cooper_jax.experiments import (
  comparisons,
  lengths,
  rows_file,
  runs,
  verdict,
)
from cooper_jax.experiments.jobs import Experiment
from cooper_jax.grading import intervals
from cooper_jax.training import json_files
from cooper_jax.world.questions import families

DISTANCE_AND_SIZE = "distance and size"


@dataclasses.dataclass(frozen=True)
class TableRow:
  """One row of the table; without `values` where `gap` says what is missing."""

  name: str
  seeds: tuple[int, ...]
  mode: str = ""
  gap: str = ""
  values: dict = dataclasses.field(default_factory=dict)  # column -> mean
  bounds: tuple = (math.nan, math.nan)  # 95 % interval of DISTANCE_AND_SIZE
  factors: lengths.Lengths | None = None
  constant: float = math.nan  # right in DISTANCE_AND_SIZE with one answer each
  modes: tuple = ()  # (mode, before, after, (gain, low, high, n)), in shares
  scenes: int = 0  # labelled
  steps: int = 0  # of SFT

  @property
  def arm(self) -> str:
    """The row's name less the point of a curve."""
    return self.name.partition("-")[0]

  @property
  def right(self) -> float:
    """Share of answers about DISTANCE_AND_SIZE that are right, NaN of a gap."""
    return self.values.get(DISTANCE_AND_SIZE, math.nan)


@dataclasses.dataclass(frozen=True)
class Results:
  """All of an experiment."""

  rows: list
  unlearned: dict  # chance, constant and blind -> column -> accuracy
  differences: list
  verdicts: list
  command: str


def parts() -> dict[str, tuple[str, ...]]:
  """Column -> the families whose answers it is the accuracy of."""
  return {
    **{n: f for n, f in comparison.groups().items() if n != DISTANCE_AND_SIZE},
    "other 3-D": ("occlusion", "viewpoint"),
    "2-D": ("left_right", "above_below"),
    "counts": ("count", "exists"),
    "all": families.names(),
    DISTANCE_AND_SIZE: comparison.groups()[DISTANCE_AND_SIZE],
  }


def collect(asked: Experiment, jobs, argv) -> Results:
  """Reads what is finished. Raises UserError where an answer can't be read."""
  module = rows_file.load(asked.file)
  found = {row: runs.find(module, asked, jobs, row) for row in asked.rows}
  rows = [_row(asked, name, run) for name, run in found.items()]
  made = []
  points = [name[len(name.partition("-")[0]) :] for name in found]
  for point in dict.fromkeys(["", *points]):
    for name, (one, other, over) in module.COMPARISONS.items():
      own = other in comparisons.OWN_SFT
      there = one + point, other if own else other + point
      if point:
        name = " - ".join(there)
        if not {*(there[:1] if own else there)} <= {*found}:
          continue
      made += comparisons.differences(name, there, over, found, asked.seeds)
  said = shlex.join(["python", "-m", "cooper_jax.sweep", *argv])
  done = [run for run in found.values() if not run.gap]
  unlearned = _unlearned(done[0].folders) if done else {}
  judged = verdict.verdicts(module, rows, made)
  return Results(rows, unlearned, made, judged, said)


def _unlearned(folders) -> dict[str, dict[str, float]]:
  """What needs no learning, or no looking: accuracy by column, over seeds."""
  found = {}
  for name in ("chance", "constant", "blind"):
    each = [_over_families(folder, name) for folder in folders]
    found[name] = {
      column: float(np.mean([one[column] for one in each]))
      for column in each[0]
    }
  return found


def _over_families(folder, name: str) -> dict[str, float]:
  """Column -> accuracy, of what the summary has by family."""
  summary = json_files.read_json(folder / "summary.json")
  found = {}
  for column, names in parts().items():
    rates, counts = [], []
    for family in names:
      rates.append(summary.get(f"qa/accuracy/{family}/{name}", 0.0))
      counts.append(summary.get(f"qa/accuracy/{family}/constant/n", 0))
    some = sum(counts) > 0
    found[column] = (
      float(np.average(rates, weights=counts)) if some else math.nan
    )
  return found


def _row(asked: Experiment, name: str, run: runs.Run) -> TableRow:
  row = TableRow(
    name, asked.seeds, ", ".join(filter(None, (run.mode, run.benchmark))),
    run.gap,
    scenes=run.config.sft.scenes, steps=run.config.sft.steps,
  )  # fmt: skip
  if run.gap:
    return row
  lines = [list(each[run.mode].values()) for each in run.answers()]
  each = [
    _values(own, json_files.read_json(folder / "summary.json"), run.stage)
    for own, folder in zip(lines, run.folders)
  ]
  values = {
    column: float(np.mean([one[column] for one in each])) for column in each[0]
  }
  about = comparison.groups()[DISTANCE_AND_SIZE]
  hits = [
    np.array([one["hit"] for one in own if one["family"] in about], float)
    for own in lines
  ]
  bounds = (math.nan, math.nan)
  if all(map(len, hits)):
    bounds = intervals.nested_bootstrap(hits)
  changed = ()
  # Reinforcement may begin with released weights, which nobody was asked about.
  if run.stage == pairing.AFTER and pairing.BEFORE in run.config.pipeline:
    changed = _modes(run.answers(pairing.BEFORE), run.answers())
  return dataclasses.replace(
    row,
    values=values,
    bounds=bounds,
    modes=changed,
    factors=lengths.measure(lines),
    constant=_unlearned(run.folders)["constant"][DISTANCE_AND_SIZE],
  )


def _values(lines, summary: dict, stage: str) -> dict[str, float]:
  """Column -> share or figure of one seed's answers, NaN without any."""

  def mean(values):
    values = list(values)
    return float(np.mean(values)) if values else math.nan

  found = {
    column: mean(line["hit"] for line in lines if line["family"] in names)
    for column, names in parts().items()
  }
  for part in ("pair", "words"):
    found[f"held-out {part}"] = summary.get(
      f"heldout/accuracy/{part}/{stage}", math.nan
    )
  found["within 10 %"] = mean(line["hit"] for line in lengths.of_lines(lines))
  for column, key in (
    ("AbsRel", "depth/abs_rel"),
    ("mIoU", "segmentation/miou"),
  ):
    found[column] = summary.get(f"maps/{stage}/{key}", math.nan)
  found["draws"] = mean(bool(line["drew"]) for line in lines)
  return found


def _modes(before, after) -> tuple:
  """Each mode of use before and after reinforcement."""
  found = []
  for mode in before[0]:
    if all(mode in each for each in (*before, *after)):
      gaps = [comparisons.gaps(a[mode], b[mode]) for a, b in zip(after, before)]
      sides = [comparisons.accuracy(each, mode) for each in (before, after)]
      found.append((mode, *sides, comparisons.interval(gaps)))
  return tuple(found)
