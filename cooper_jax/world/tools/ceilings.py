"""Ceilings of the world's questions: what true depth and boxes can answer.

  python -m cooper_jax.world.tools.ceilings --scenes=2000 --seeds=0,1

Depth is the true one, written as traces write it; a box and its middle are
known to a cell of 8, 4 or 1 pixels; the lens (focal length) is told or not,
with --told as a prompt tells it: in widths of the image, by a number of those
that lengths are written in.
From these and the names a formula or a regression answers each family, fitted
on one half of the test scenes and scored on the other. A model that draws and
points perfectly has little more to go by, unless it infers the lens. What the
regressions get is a lower bound: cleverer ones may get more of the same.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys

import numpy as np

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.sample import Question, Sample
from cooper_jax.tokenizers.lengths import metres
from cooper_jax.world import scenes
from cooper_jax.world.config import WorldConfig
from cooper_jax.world.questions import families
from cooper_jax.world.tools.classifiers import logistic
from cooper_jax.world.tools.known import BY_NAMES, TOLD, by_names, look

CELL_PIXELS = (8, 4, 1)
RIGHT_WITHIN = 0.1  # of a length
PENALTY = 1e-3  # of a regression, a question
WITHOUT, WITH = "without lens", "with lens"


def is_first(question: Question) -> bool:
  """The answer of a choice as one bit, whichever side was asked about."""
  relation = families.relations().get(question.family)
  if relation is None:
    return question.answer == question.options[0]
  steps = question.reasoning.split(" ; ")
  return next(s for s in steps[::-1] if s in relation) == relation[0]


def _halves(x, fit) -> np.ndarray:
  """Predictions [n] of each half by `fit(rows) -> weights` of the other."""
  odd = np.arange(len(x)) % 2 == 1
  found = np.zeros(len(x))
  for held in (odd, ~odd):
    found[held] = x[held] @ fit(~held)
  return found


def _regression(x, y) -> np.ndarray:
  """Predicted y [n] of x [n, D], of the half that has not seen it."""

  def fit(rows):
    a, penalty = x[rows], PENALTY * rows.sum() * np.eye(x.shape[1])
    return np.linalg.solve(a.T @ a + penalty, a.T @ y[rows])

  return _halves(x, fit)


def _with_one(x) -> np.ndarray:
  """x [n, D + 1] with a one, for the part that nothing tells."""
  return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _right(family: str, x, asked: list[Question]) -> np.ndarray:
  """Which of a family's questions [n] are answered right from x [n, D]."""
  if family in families.lengths():
    truth = np.array([q.value for q in asked])
    if family == "gap":  # of the distance a share is inside of the objects
      apart = x[:, 0]
      inside = _regression(_with_one(x[:, 1:]), 1 - truth / apart)
      ours = apart * (1 - inside)
    else:
      ours = np.exp(_regression(_with_one(x), np.log(truth)))
    return np.abs(ours - truth) <= RIGHT_WITHIN * truth
  truth = np.array([is_first(q) for q in asked])
  if x.shape[1] == 1:  # a formula: its sign, and a coin where it tells nothing
    return np.where(x[:, 0] == 0, 0.5, (x[:, 0] > 0) == truth)
  if family == "occlusion":
    x = _with_one(x)
  found = _halves(x, lambda rows: logistic(x[rows], truth[rows]))
  return (found > 0) == truth


def constant(family: str, asked: list[Question]) -> float:
  """Share that the best constant answer is right in."""
  if family in families.lengths():
    truth = np.array([q.value for q in asked])
    tried = np.exp(np.linspace(*np.log([truth.min(), truth.max()]), 400))
    hit = np.abs(tried[:, None] - truth) <= RIGHT_WITHIN * truth
    return float(hit.mean(1).max())
  if families.find(family).ANSWER_TYPE == "number":
    counts = collections.Counter(q.answer for q in asked)
    return max(counts.values()) / len(asked)
  share = float(np.mean([is_first(q) for q in asked]))
  return max(share, 1 - share)


def _focal(sample: Sample, told: bool) -> float:
  """The focal length in pixels, or what its number in a prompt says."""
  focal, side = float(sample.camera[0, 0]), len(sample.image)
  return float(metres(focal / side)) * side if told else focal


def measure(samples: list[Sample], *, told: bool = False) -> dict[str, dict]:
  """Family -> n, constant and, by lens, {pixels of a cell: share right}.

  told: the lens is known as a prompt tells it, not to the last digit.
  """
  found = collections.defaultdict(list)
  for sample in samples:
    for question in sample.questions:
      found[question.family].append((sample, question))
  usual = float(np.median([sample.camera[0, 0] for sample in samples]))
  rows = {}
  for family in families.names():
    pairs = found.get(family)
    if not pairs or family not in (*TOLD, *BY_NAMES):
      continue
    asked = [question for _, question in pairs]
    row = {"n": len(asked), "constant": constant(family, asked)}
    rows[family] = row | {WITHOUT: {}, WITH: {}}
    for cell in CELL_PIXELS:
      if family in BY_NAMES:
        right = np.mean([by_names(*pair) == pair[1].answer for pair in pairs])
        for lens in (WITHOUT, WITH):
          rows[family][lens][cell] = float(right)
        continue
      seen = [[look(s, i, cell) for i in q.evidence["ids"]] for s, q in pairs]
      own = [_focal(sample, told) for sample, _ in pairs]
      for lens, focal in ((WITHOUT, [usual] * len(pairs)), (WITH, own)):
        known = map(TOLD[family], asked, seen, focal)
        x = np.array(list(known), float)
        rows[family][lens][cell] = float(_right(family, x, asked).mean())
  return rows


def over_seeds(runs: list[dict]) -> dict[str, dict]:
  """Means over worlds of what `measure` gives; n is the sum."""
  found = {}
  for family in runs[0]:
    each = [run[family] for run in runs if family in run]
    found[family] = {
      "n": sum(row["n"] for row in each),
      "constant": float(np.mean([row["constant"] for row in each])),
    }
    for lens in (WITHOUT, WITH):
      found[family][lens] = {
        cell: float(np.mean([row[lens][cell] for row in each]))
        for cell in CELL_PIXELS
      }
  return found


def lines(rows: dict[str, dict]) -> list[str]:
  """The table: a family a line, in %."""
  cells = "".join(f"{f'{cell} px':>7s}" for cell in CELL_PIXELS)
  width = 7 * len(CELL_PIXELS)
  found = [
    f"{'':16s}{'n':>6s}{'constant':>10s}"
    f"  {WITHOUT:>{width}s}  {WITH:>{width}s}",
    f"{'':34s}{cells}  {cells}",
  ]
  for family, row in rows.items():
    shares = "  ".join(
      "".join(f"{100 * row[lens][cell]:7.1f}" for cell in CELL_PIXELS)
      for lens in (WITHOUT, WITH)
    )
    head = f"{family:16s}{row['n']:6d}{100 * row['constant']:10.1f}"
    found.append(f"{head}  {shares}")
  return found


def main(argv=None) -> int:
  """Prints the table, or one JSON line; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.world.tools.ceilings",
    description=__doc__.splitlines()[0],
  )
  add = parser.add_argument
  add("--scenes", type=int, default=2000, help="test scenes of each seed")
  add("--seeds", default="0", help="of worlds, as 0,1,2")
  add("--told", action="store_true", help="the lens as a prompt tells it")
  add("--json", action="store_true", help="print a JSON line alone")
  asked = parser.parse_args(argv)
  try:
    if asked.scenes < 2:
      raise UserError(f"--scenes={asked.scenes}: give 2 or more, 2000 is usual")
    try:
      seeds = [int(each) for each in asked.seeds.split(",")]
    except ValueError as error:
      raise UserError(
        f"--seeds={asked.seeds}: write whole numbers, as in 0,1,2"
      ) from error
    runs = []
    for seed in seeds:
      world = WorldConfig(seed=seed, shaded=False)
      samples = scenes.generate(
        world, split="test", start=0, count=asked.scenes
      )
      runs.append(measure(samples, told=asked.told))
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  rows = over_seeds(runs)
  if asked.json:
    print(json.dumps({"scenes": asked.scenes, "seeds": seeds, "rows": rows}))
    return EXIT_DONE
  print("\n".join(lines(rows)))
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
