"""Objects as depth, boxes and names show them, and what that answers.

For `ceilings`: numbers from which a formula's sign, or a regression, answers a
question.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from cooper_jax.sample import Question, Sample
from cooper_jax.tokenizers.lengths import metres
from cooper_jax.world.config import COLOURS, SHAPE_CLASS, SHAPES
from cooper_jax.world.questions import wording

_LISTED = re.compile(r"(\w+) (\w+) <at")
_LIMIT = re.compile(r"([\d.]+) m\b")


@dataclasses.dataclass(frozen=True)
class KnownObject:
  """An object as it is known: pixels from the middle of the image, metres."""

  high: float  # of its box
  wide: float
  edges: np.ndarray  # top, bottom, left, right
  middle: np.ndarray  # row, column
  cut: tuple[bool, bool]  # by the image, along its height and its width
  depth: float
  shape: int

  def at(self, focal: float) -> np.ndarray:
    """Its place in metres: right, down, ahead."""
    row, column = self.middle / focal
    return self.depth * np.array([column, row, 1.0])

  def size(self, focal: float) -> list[float]:
    """Logarithms of its extents in metres, and what corrects them."""
    row, column = self.middle / 32
    tall = np.log(self.high * self.depth / focal)
    wide = np.log(self.wide * self.depth / focal)
    kind = np.eye(len(SHAPES))[self.shape]
    cut = [float(each) for each in self.cut]
    # KnownObject from above, a top or a floor adds to the height of a box.
    slant = np.log(self.high / self.wide)
    corrects = [row, row**2, column**2, slant, slant * row, row * tall]
    return [tall, wide, np.log(self.depth), *corrects, *cut, *kind]


def look(sample: Sample, instance: int, cell: int) -> KnownObject:
  """An object of a sample, its places known to a cell of so many pixels."""
  mask = sample.instances == instance
  rows, columns = np.nonzero(mask)
  last, half = len(mask) - 1, len(mask) / 2

  def known(place):
    return (np.floor(place / cell) + 0.5) * cell - half

  ends = np.array([rows.min(), rows.max(), columns.min(), columns.max()])
  edges = known(ends)
  least = cell / 2 if cell > 1 else 0.0  # within one cell
  high, wide = (max(edges[i + 1] - edges[i], least) for i in (0, 2))
  if cell == 1:
    high, wide = high + 1, wide + 1
  kind = int(sample.maps["segmentation"][mask][0])
  return KnownObject(
    high=high,
    wide=wide,
    edges=edges,
    middle=known(np.array([rows.mean(), columns.mean()])),
    cut=(ends[0] == 0 or ends[1] == last, ends[2] == 0 or ends[3] == last),
    depth=float(metres(float(np.median(sample.maps["depth"][mask])))),
    shape=SHAPE_CLASS.index(kind),
  )


def _apart(one, other) -> float:
  return float(np.linalg.norm(one - other)) + 0.01


def _surfaces(
  one: KnownObject, other: KnownObject, focal: float
) -> list[float]:
  """Of a gap: the distance of middles, and extents as shares of it."""
  between = other.at(focal) - one.at(focal)
  apart = _apart(between, 0.0)
  sideways = np.hypot(*between[:2]) / apart
  off = np.zeros((3, len(SHAPES)))
  for each in (one, other):
    high, wide = np.array([each.high, each.wide]) * each.depth / focal
    off[:, each.shape] += np.array([wide, high, wide * sideways]) / apart
  return [apart, *off.ravel()]


def _overlap(one: KnownObject, other: KnownObject) -> list[float]:
  """Of boxes: how far one lies within the other, and which is in front."""
  top, bottom, left, right = zip(one.edges, other.edges)
  along = (min(bottom) - max(top)) / 8
  across = (min(right) - max(left)) / 8
  least, front = min(along, across), np.log(one.depth / other.depth)
  before = float(front > 0)
  inside = np.clip(least, -1, 1)
  return [
    inside, before, inside * before, np.tanh(4 * front), inside**2,
    float(least > 0) * before,
  ]  # fmt: skip


def _within(limit: float, apart: float) -> list[float]:
  return [np.log(limit / apart)]


def _turn(a, b, c) -> list[float]:
  """Sine of the turn from b to c as seen from a: above 0 is to the left."""
  ahead, there = b - a, c - a
  cross = ahead[0] * there[2] - ahead[2] * there[0]
  return [cross / (np.linalg.norm(ahead) * np.linalg.norm(there) + 1e-6)]


def _limit(question: Question) -> float:
  return float(_LIMIT.search(question.text)[1])


def _nearer(a: KnownObject, b: KnownObject) -> list[float]:
  return [np.log(b.depth / a.depth)]


# Family -> what tells its answer, as numbers, of its objects and the focal
# length: one number, a formula whose sign tells, or several for a regression.
TOLD = {
  "closer": lambda q, o, f: _nearer(*o),
  "front_behind": lambda q, o, f: _nearer(*o),
  "left_right": lambda q, o, f: [o[1].middle[1] - o[0].middle[1]],
  "above_below": lambda q, o, f: [o[1].middle[0] - o[0].middle[0]],
  "nearer_to": lambda q, o, f: _within(
    _apart(o[1].at(f), o[2].at(f)), _apart(o[0].at(f), o[2].at(f))
  ),
  "taller": lambda q, o, f: np.subtract(o[0].size(f), o[1].size(f)),
  "reach": lambda q, o, f: _within(_limit(q), _apart(o[0].at(f), o[1].at(f))),
  "viewpoint": lambda q, o, f: _turn(*(each.at(f) for each in o)),
  "occlusion": lambda q, o, f: _overlap(*o),
  "distance": lambda q, o, f: [np.log(o[0].depth)],
  "height": lambda q, o, f: o[0].size(f),
  "width": lambda q, o, f: o[0].size(f),
  "object_distance": lambda q, o, f: [np.log(_apart(o[0].at(f), o[1].at(f)))],
  "gap": lambda q, o, f: _surfaces(*o, f),
}
BY_NAMES = ("count", "exists")  # whatever is known of places


def by_names(sample: Sample, question: Question) -> str:
  """The answer to "count" or "exists" from the names of all that is seen."""
  (listed,) = (q for q in sample.grounding if q.family == "list")
  things = _LISTED.findall(listed.reasoning)
  words = question.text.split()
  colour = next((w for w in words if w in COLOURS), None)
  if question.family == "exists":
    shape = next(w for w in words if w in SHAPES)
    return "yes" if (colour, shape) in things else "no"
  names = {wording.PLURALS[shape]: shape for shape in SHAPES}
  shape = next((names[w] for w in words if w in names), None)
  return str(sum(c == colour or s == shape for c, s in things))
