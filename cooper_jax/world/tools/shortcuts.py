"""Shortcuts of the world's questions: how far cheating answers them.

  python -m cooper_jax.world.tools.shortcuts --questions=4000

Five cheats: the words of the question alone, one picture cue, one constant,
2-D boxes with names, and of "is there a" how many things have the colour and
how many the shape; and the honest program's inputs (depth over masks), which
must do much better than the boxes. --near_misses looks at such a world.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.sample import Question, Sample
from cooper_jax.world import scenes
from cooper_jax.world.config import COLOURS, SHAPES, SPLITS, WorldConfig
from cooper_jax.world.questions import families
from cooper_jax.world.tools.classifiers import logistic, perceptron

Pair = tuple[Sample, Question]


def choices() -> tuple[str, ...]:
  """Families that are answered by a choice, or yes or no."""
  return families.where(lambda family: not families.is_number(family))


def comparisons() -> tuple[str, ...]:
  """Families that compare distances: depth must tell more than boxes do."""
  return families.where(
    lambda family: (
      hasattr(family, "RELATION")
      and getattr(family, "MEASURES", "") == "distance"
    )
  )


def pairs(samples: Iterable[Sample]) -> dict[str, list[Pair]]:
  """Questions with their samples, by family."""
  found = collections.defaultdict(list)
  for sample in samples:
    for question in sample.questions:
      found[question.family].append((sample, question))
  return found


def first_is_right(question: Question) -> bool:
  """The answer of a choice or yes/no question as one bit."""
  return question.answer == question.options[0]


def _halves(features, truth, decide: Callable) -> float:
  """Accuracy when each half is judged by what is learned from the other."""
  odd = np.arange(len(truth)) % 2 == 1
  right = 0
  for held in (odd, ~odd):
    decision = decide(features[~held], truth[~held], features[held])
    right += int((decision == truth[held]).sum())
  return right / len(truth)


def _linear(features, truth, held):
  weights = logistic(features, truth, penalty=8.0)
  return held @ weights > 0


def words(question: Question) -> list[str]:
  """Features of a question: words, neighbours, and words of each option."""
  tokens = question.text.lower().split()
  found = [*tokens, *(f"{a} {b}" for a, b in itertools.pairwise(tokens))]
  names = []
  for place, token in enumerate(tokens):
    if token in COLOURS and place + 1 < len(tokens):
      names.append((token, tokens[place + 1]))
  for place, (colour, shape) in enumerate(names):
    found += [f"{place} {colour}", f"{place} {shape}"]
  return found


def question_only(found: Sequence[Pair]) -> float:
  """Accuracy of a bag-of-words classifier that sees no image."""
  counts = collections.Counter(w for _, q in found for w in set(words(q)))
  known = {
    word: i
    for i, word in enumerate(sorted(w for w, n in counts.items() if n >= 4))
  }
  features = np.zeros((len(found), len(known) + 1))
  features[:, -1] = 1
  for row, (_, question) in enumerate(found):
    for word in words(question):
      if word in known:
        features[row, known[word]] = 1
  truth = np.array([first_is_right(q) for _, q in found])
  return _halves(features, truth, _linear)


def _box(sample: Sample, instance: int) -> np.ndarray:
  """Top, bottom, left, right, area of an instance, as image fractions."""
  mask = sample.instances == instance
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  size = len(mask)
  edges = [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]
  return np.array([*(e / size for e in edges), mask.mean()])


def cue(found: Sequence[Pair], name: str) -> float:
  """How often "the larger" or "the lower" object is the closer one."""
  right = []
  for sample, question in found:
    a, b = (_box(sample, i) for i in question.evidence["ids"])
    guess = a[4] > b[4] if name == "area" else a[1] > b[1]
    depth = question.evidence["depth"]
    right.append(guess == (depth[0] < depth[1]))
  return float(np.mean(right))


def _place(sample, box):
  """Middle of a box on the plane one metre ahead (uses the focal length)."""
  focal = sample.camera[0, 0] / len(sample.image)
  row, column = (box[0] + box[1]) / 2, (box[2] + box[3]) / 2
  return np.array([(column - 0.5) / focal, (row - 0.5) / focal])


def measurements(found: Sequence[Pair], *, depth: bool) -> np.ndarray:
  """Classifier inputs from boxes and, if asked, from depth over masks."""
  rows = []
  for sample, question in found:
    ids = question.evidence["ids"]
    boxes = [_box(sample, i) for i in ids]
    row = [*np.concatenate(boxes), *(np.log(b[4]) for b in boxes)]
    # Which side of the relation is asked about is in the words.
    row.append(float("behind" in question.text))
    sign = 1 - 2 * row[-1]
    flat = [_place(sample, box) for box in boxes]
    row += [sign * (boxes[0][4] - boxes[1][4])]
    row += [sign * (boxes[0][1] - boxes[1][1])]
    if len(ids) == 3:
      apart = [np.linalg.norm(flat[i] - flat[2]) + 0.01 for i in (0, 1)]
      row += [*np.log(apart), np.log(apart[0] / apart[1])]
    if depth:
      z = [
        float(np.median(sample.maps["depth"][sample.instances == i]))
        for i in ids
      ]
      row += [*np.log(z), sign * np.log(z[0] / z[1])]
      if len(ids) == 3:
        solid = [np.array([*(p * d), d]) for p, d in zip(flat, z)]
        apart = [np.linalg.norm(solid[i] - solid[2]) + 0.01 for i in (0, 1)]
        row += [*np.log(apart), np.log(apart[0] / apart[1])]
    rows.append(row)
  return np.array(rows)


def classifier(found: Sequence[Pair], *, depth: bool) -> float:
  """Accuracy of a small perceptron on boxes, or on depth over masks too."""
  features = measurements(found, depth=depth)
  truth = np.array([first_is_right(q) for _, q in found])
  return _halves(features, truth, perceptron)


def attributes(found: Sequence[Pair]) -> float:
  """Accuracy of the best table of how many have the colour, and the shape.

  Of "is there a": who counts both, and sees not that they are of one thing.
  """
  table = collections.defaultdict(collections.Counter)
  for sample, question in found:
    (listed,) = (q for q in sample.grounding if q.family == "list")
    seen, asked = listed.reasoning.split(), question.text.split()
    pair = [next(w for w in asked if w in names) for names in (COLOURS, SHAPES)]
    table[tuple(map(seen.count, pair))][question.answer] += 1
  return sum(max(row.values()) for row in table.values()) / len(found)


def constant(values: Sequence[float]) -> dict[str, float]:
  """The best that one constant answer does on lengths.

  MRA is the mean relative accuracy over the tolerances .50, .45, ... .05;
  factor 2 counts answers between half and twice the truth.
  """
  truth = np.asarray(values)
  guesses = np.exp(np.linspace(np.log(truth.min()), np.log(truth.max()), 200))
  ratio = guesses[:, None] / truth
  error = np.abs(ratio - 1)
  tolerances = 1 - np.arange(0.5, 0.96, 0.05)
  mra = np.mean([(error < t).mean(1) for t in tolerances], axis=0)
  return {
    "mra": float(mra.max()),
    "factor_2": float((np.abs(np.log(ratio)) < np.log(2)).mean(1).max()),
  }


def measure(samples: Sequence[Sample]) -> dict[str, float]:
  """All measurements, as a flat dict; rates between 0 and 1."""
  found = pairs(samples)
  result: dict[str, float] = {}
  for family in choices():
    mine = found[family]
    if not mine:
      continue
    yes = np.mean([first_is_right(q) for _, q in mine])
    result[f"blind/{family}"] = question_only(mine)
    result[f"majority/{family}"] = float(max(yes, 1 - yes))
    result[f"n/{family}"] = len(mine)
  both = [pair for name in comparisons() for pair in found[name]
          if "depth" in pair[1].evidence]  # fmt: skip
  result["cue/area"] = cue(both, "area")
  result["cue/lower_edge"] = cue(both, "lower")
  lengths = {
    f: [q.value for _, q in found[f]] for f in families.lengths() if found[f]
  }
  lengths["all"] = [v for values in lengths.values() for v in values]
  for family, values in lengths.items():
    for name, rate in constant(values).items():
      result[f"constant/{family}/{name}"] = rate
    result[f"n/{family}"] = len(values)
  counts = collections.Counter(q.answer for _, q in found["count"])
  result["constant/count"] = max(counts.values()) / sum(counts.values())
  result["n/count"] = sum(counts.values())
  if found["exists"]:
    result["attributes/exists"] = attributes(found["exists"])
  for family in comparisons():
    if not found[family]:
      continue
    for name, depth in (("boxes", False), ("depth", True)):
      result[f"{name}/{family}"] = classifier(found[family], depth=depth)
  return result


def main(argv=None) -> int:
  """Prints a line a measurement; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.world.tools.shortcuts",
    description=__doc__.splitlines()[0],
  )
  parser.add_argument("--questions", type=int, default=4000)
  parser.add_argument("--split", default="train", choices=SPLITS)
  parser.add_argument("--image_size", type=int, default=64)
  parser.add_argument("--near_misses", action="store_true")
  options = parser.parse_args(argv)
  try:
    if options.questions < 1:
      raise UserError(
        f"--questions={options.questions}: give 1 or more, 4000 is usual"
      )
    config = WorldConfig(
      image_size=options.image_size,
      shaded=False,
      near_misses=options.near_misses,
    )
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  samples: list[Sample] = []
  total = 0
  while total < options.questions:
    more = scenes.generate(
      config, split=options.split, start=len(samples), count=64
    )
    total += sum(len(sample.questions) for sample in more)
    samples += more
  print(f"{total} questions about {len(samples)} scenes")
  for name, rate in measure(samples).items():
    print(f"{name:34s} {rate:8.3f}" if rate < 2 else f"{name:34s} {rate:8.0f}")
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
