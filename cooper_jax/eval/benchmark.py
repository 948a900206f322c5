"""Opens the benchmarks that a run names, and scores answers to them.

A benchmark is a file of `eval/benchmarks/`, whose docstring has the contract;
what it leaves out is filled in here.
"""

import dataclasses
from types import ModuleType

import numpy as np

from cooper_jax import plugins
from cooper_jax.data import modes
from cooper_jax.errors import UserError
from cooper_jax.eval import baselines, blind, questions
from cooper_jax.grading import intervals
from cooper_jax.grading.metrics import choice
from cooper_jax.rollouts.prompts import Item


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """One benchmark of a run: its file, its items, its blind baselines."""

  name: str
  module: ModuleType
  items: list[Item]
  blind: blind.Blind | None  # None where it has nothing to learn from

  @property
  def key(self) -> str:
    """What its keys of the summary begin with."""
    return getattr(self.module, "KEY", f"benchmarks/{self.name}")

  @property
  def modes(self) -> tuple[str, ...]:
    """The modes of use that it is asked in beside the free one."""
    return getattr(self.module, "MODES", ())

  @property
  def grade(self):
    """grade(text, item) -> Grade of one response."""
    return getattr(self.module, "grade", questions.grade_of)


def open_all(config) -> dict[str, Benchmark]:
  """The benchmarks of `config.evaluate.benchmarks`, by name, in order.

  Raises UserError where one does not exist, can't be read or asks nothing, or
  has a family whose scores would stand for those of a mode.
  """
  opened = {}
  for name in config.evaluate.benchmarks:
    module = plugins.find("benchmarks", name)
    items = module.items(config)
    if not items:
      raise UserError(
        f'benchmark "{name}" has nothing to ask; mend its files, or leave it'
        " out of config.evaluate.benchmarks"
      )
    reserved = {*questions.families(items)} & {*modes.every()}
    if reserved:
      raise UserError(
        f'benchmark "{name}" has a family {min(reserved)}, which is the name of'
        " a way of answering; call it something else"
      )
    fitted = None
    if hasattr(module, "training"):
      fitted = blind.fit(module.training(config))
    opened[name] = Benchmark(name, module, items, fitted)
  return opened


def by_family(items, grades) -> dict[str, np.ndarray]:
  """The default `score`: hits [n] of all items, and of each family."""
  hits = questions.hits(grades)
  return {"accuracy": hits} | {
    f"accuracy/{family}": hits[rows]
    for family, rows in questions.families(items).items()
  }


def scores(benchmark: Benchmark, grades, name: str) -> dict:
  """Entries of the summary `<key>/<metric>/<name>`: a stage's or baseline's."""
  score = getattr(benchmark.module, "score", by_family)
  found = {}
  for metric, values in score(benchmark.items, grades).items():
    found |= _entry(f"{benchmark.key}/{metric}/{name}", values)
  return found


def baseline_scores(benchmark: Benchmark) -> dict:
  """What is right without looking: blind and constant answers, and chance."""
  items, found = benchmark.items, {}
  if benchmark.blind is not None:
    said = baselines.answers(items, benchmark.blind)
    for name, answers in said.items():
      grades = baselines.graded(answers, items, benchmark.grade)
      found |= scores(benchmark, grades, name)
  groups = {"": np.arange(len(items))} | {
    f"/{family}": rows for family, rows in questions.families(items).items()
  }
  for part, rows in groups.items():
    asked = [items[i].question for i in rows]
    found[f"{benchmark.key}/accuracy{part}/chance"] = choice.chance(
      [q.answer_type for q in asked], [q.options for q in asked]
    )
  return found


def _entry(key: str, values) -> dict:
  """A mean with its n and interval; a single number as it is."""
  values = np.asarray(values, np.float64)
  if not values.ndim:
    return {key: float(values)}
  if np.isin(values, (0, 1)).all():
    return intervals.rate(key, values)
  return {
    key: float(np.nanmean(values)),
    f"{key}/n": int(np.sum(~np.isnan(values))),
    f"{key}/ci95": list(intervals.bootstrap(values)),
  }
