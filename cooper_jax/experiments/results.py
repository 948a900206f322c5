"""Results of an experiment: its rows, and how they compare.

Everything is read off the answers that the evaluations left, paired by question
and seed; a row that is not finished for every seed is a gap.
"""

import dataclasses
import math
import shlex

import numpy as np

from cooper_jax import command
from cooper_jax.errors import UserError
from cooper_jax.eval import comparison, pairing
from cooper_jax.experiments.jobs import Experiment, evaluation
from cooper_jax.grading import grade, intervals
from cooper_jax.grading.metrics import ratio
from cooper_jax.training import workdir
from cooper_jax.world.questions import families

OWN_SFT = "before"  # of a comparison: the SFT of the row itself
DISTANCE_AND_SIZE = "distance and size"
FACTORS = (1.25, 2.0)


@dataclasses.dataclass(frozen=True)
class TableRow:
  """One row of the table; without `values` where `gap` says what is missing."""

  name: str
  seeds: tuple[int, ...]
  mode: str = ""
  gap: str = ""
  values: dict = dataclasses.field(default_factory=dict)  # column -> mean
  bounds: tuple = (math.nan, math.nan)  # 95 % interval of DISTANCE_AND_SIZE
  modes: tuple = ()  # (mode, before, after, (gain, low, high, n)), in shares
  scenes: int = 0  # labelled
  steps: int = 0  # of SFT

  @property
  def arm(self) -> str:
    """The row's name less the point of a curve."""
    return self.name.partition("-")[0]


@dataclasses.dataclass(frozen=True)
class Difference:
  """One comparison: points [%] with an interval, or what is missing."""

  name: str
  seeds: tuple[int, ...]
  gap: str = ""
  found: tuple = ()  # (mean, low, high, n), in shares
  commits: tuple[str, ...] = ()
  said: str = ""  # what its name does not say, as the best mode


@dataclasses.dataclass(frozen=True)
class Results:
  """All of an experiment."""

  rows: list
  unlearned: dict  # chance, constant and blind -> column -> accuracy
  differences: list
  command: str


@dataclasses.dataclass(frozen=True)
class _Run:
  """A row's evaluations, one a seed; nothing where one is missing."""

  mode: str
  stage: str
  folders: tuple
  commits: tuple[str, ...]
  config: object
  gap: str = ""

  def answers(self, stage="") -> list[dict]:
    """mode -> {question: line}, of each seed."""
    return [
      comparison.answers(folder, stage or self.stage) for folder in self.folders
    ]


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
  module = command.load_module(asked.file)
  runs = {row: _run(module, asked, jobs, row) for row in asked.rows}
  rows = [_row(asked, name, run) for name, run in runs.items()]
  made = []
  points = [name[len(name.partition("-")[0]) :] for name in runs]
  for point in dict.fromkeys(["", *points]):
    for name, (one, other, over) in module.COMPARISONS.items():
      there = one + point, other if other == OWN_SFT else other + point
      if point:
        name = " - ".join(there)
        if not {*there} <= {*runs}:
          continue
      made += _differences(name, there, over, runs, asked.seeds)
  said = shlex.join(["python", "-m", "cooper_jax.sweep", *argv])
  done = [run for run in runs.values() if not run.gap]
  unlearned = _unlearned(done[0].folders) if done else {}
  return Results(rows, unlearned, made, said)


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
  summary = workdir.read_json(folder / "summary.json")
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


def _run(module, asked: Experiment, jobs, name: str) -> _Run:
  found = {seed: evaluation(jobs, name, seed) for seed in asked.seeds}
  missing = [str(s) for s, job in found.items() if not job.is_finished()]
  gap = f"not finished: seed {', '.join(missing)}" if missing else ""
  own = [jobs[n] for job in found.values() for n in (job.name, *job.needs)]
  commits = dict.fromkeys(commit for job in own for commit in job.commits())
  config = next(iter(found.values())).config
  mode = module.MODES.get(name.partition("-")[0], pairing.FREE)
  stage = config.pipeline[-2]
  folders = tuple(job.folder for job in found.values())
  run = _Run(mode, stage, folders, tuple(commits), config, gap)
  if not gap and any(mode not in each for each in run.answers()):
    return dataclasses.replace(run, gap=f"was not asked in mode {mode}")
  return run


def _row(asked: Experiment, name: str, run: _Run) -> TableRow:
  row = TableRow(
    name, asked.seeds, run.mode, run.gap,
    scenes=run.config.sft.scenes, steps=run.config.sft.steps,
  )  # fmt: skip
  if run.gap:
    return row
  lines = [list(each[run.mode].values()) for each in run.answers()]
  each = [
    _values(own, workdir.read_json(folder / "summary.json"), run.stage)
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
  if run.stage == pairing.AFTER:
    changed = _modes(run.answers(pairing.BEFORE), run.answers())
  return dataclasses.replace(row, values=values, bounds=bounds, modes=changed)


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
  lengths = [line for line in lines if line["family"] in families.lengths()]
  factors = [factor_of(line) for line in lengths]
  found["within 10 %"] = mean(line["hit"] for line in lengths)
  for most in FACTORS:
    found[f"factor {most:g}"] = mean(factor < most for factor in factors)
  found["median factor"] = float(np.median(factors)) if factors else math.nan
  for column, key in (
    ("AbsRel", "depth/abs_rel"),
    ("mIoU", "segmentation/miou"),
  ):
    found[column] = summary.get(f"maps/{stage}/{key}", math.nan)
  found["draws"] = mean(bool(line["drew"]) for line in lines)
  return found


def factor_of(line: dict) -> float:
  """Error factor of an answer to a question for a length; inf if unread."""
  found = grade.grade(
    line["text"],
    answer=line["answer"],
    answer_type="number",
    unit="m",
    question=line["question"],
    rules=grade.Rules(tags_only=True),
  )
  return ratio.ratio(found.value, grade.truth(line["answer"], "m"))


def _modes(before, after) -> tuple:
  """Each mode of use before and after reinforcement."""
  found = []
  for mode in before[0]:
    if all(mode in each for each in (*before, *after)):
      one = [_gaps(a[mode], b[mode], _hit) for a, b in zip(after, before)]
      sides = (_accuracy(before, mode), _accuracy(after, mode))
      found.append((mode, *sides, _interval(one)))
  return tuple(found)


def _accuracy(found, mode: str, over=()) -> float:
  """Of a mode's answers about some families (() = all), mean over seeds."""
  rates = []
  for each in found:
    lines = each[mode].values()
    hits = [x["hit"] for x in lines if not over or x["family"] in over]
    rates.append(np.mean(hits) if hits else math.nan)
  return float(np.mean(rates))


def _hit(line: dict) -> float:
  return line["hit"]


def _gaps(one, other, measure, over=()) -> np.ndarray:
  """Differences of a measure [n] of the same questions about some families."""
  if one.keys() != other.keys():
    raise UserError(
      "runs of one seed were not asked the same questions; give all rows the"
      " same --config.data and --config.evaluate"
    )
  return np.array(
    [
      measure(line) - measure(other[key])
      for key, line in one.items()
      if not over or line["family"] in over
    ],
    float,
  )


def _interval(gaps) -> tuple:
  low, high = intervals.nested_bootstrap(gaps)
  mean = float(np.mean([each.mean() for each in gaps]))
  return mean, low, high, sum(map(len, gaps))


def _differences(name, there, over, runs, seeds) -> list[Difference]:
  """A comparison of right answers, and of lengths within a factor."""
  one, other = (runs.get(row) for row in there)
  before = there[1] == OWN_SFT
  gaps = []
  needed = zip(there[:1], [one]) if before else zip(there, (one, other))
  for row, run in needed:
    if run is None:
      gaps.append(f"row {row} was not asked for")
    elif run.gap:
      gaps.append(f"row {row} {run.gap}")
  if gaps:
    return [Difference(name, seeds, gap="; ".join(gaps))]
  here, said = [each[one.mode] for each in one.answers()], ""
  if before:
    found = one.answers(pairing.BEFORE)
    mode, said = _best(found, over)
    against, commits = [each[mode] for each in found], one.commits
  else:
    against = [each[other.mode] for each in other.answers()]
    commits = tuple(dict.fromkeys((*one.commits, *other.commits)))
  measures = {name: (_hit, over)}
  lengths = tuple(f for f in over if f in families.lengths())
  for most in FACTORS if not before and lengths else ():
    measures[f"{name}, lengths within a factor of {most:g}"] = (
      lambda line, most=most: float(factor_of(line) < most),
      lengths,
    )
  made = []
  for title, (measure, over_these) in measures.items():
    each = [_gaps(a, b, measure, over_these) for a, b in zip(here, against)]
    if not all(map(len, each)):
      made.append(Difference(title, seeds, gap="no such question was asked"))
      continue
    made.append(Difference(title, seeds, "", _interval(each), commits, said))
  return made


def _best(found, over) -> tuple[str, str]:
  """The fixed mode that most answers are right in, over seeds; and in words."""
  modes = [mode for mode in found[0] if mode != pairing.FREE]
  rates = {mode: _accuracy(found, mode, over) for mode in modes}
  best = max(sorted(rates), key=rates.get)
  return best, f"{best}, {100 * rates[best]:.1f} %"
