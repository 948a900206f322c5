"""Counterfactual depth maps: a changed map, and what a trace then says of it.

What a policy draws is a function of what it sees, so a trace about its own map
never has to look: the image says the same. Here every object of a map is moved
nearer or farther by its own factor, or the whole scene by one, and the trace
says what *that* map shows. Only who reads the map gets it right.

Factors are counted in steps of the series that numbers are written in
(`lengths.NUMBERS`, 24 to the decade). A changed reading is the old one times
its factor, rounded twice: at most a step from what the map shows.
"""

import dataclasses
from pathlib import Path

import numpy as np

from cooper_jax import modalities
from cooper_jax.grading import grade, quantities
from cooper_jax.sample import Question
from cooper_jax.tokenizers import map_tokenizer
from cooper_jax.tokenizers.lengths import LENGTH, metres
from cooper_jax.training import telemetry
from cooper_jax.world.questions import families

_CHUNK = 1024  # samples in memory at once
INSTANCES = 256  # an instance map is u8
FARTHEST = 7  # steps: a factor of 2
WHOLE = 0.4  # share of the maps that are changed by one factor
LEAST_STEPS = 1.5  # steps that two objects must stay apart to be compared

_EACH = {"list", "where"}  # requests that give every object its reading


def changeable() -> str:
  """The modality whose maps can be changed, "" without one."""
  return modalities.having("move")


@dataclasses.dataclass(frozen=True)
class CounterfactualMaps:
  """One changed depth map of each sample, in the order of the source.

  codes: i32 [n, Q], -1 where a sample has no depth, no instances, or more of
    them than steps.
  steps: i8 [n, 256], by how much each instance was moved; 0 is what is none.
  """

  codes: np.ndarray
  steps: np.ndarray

  def of(self, place: int):
    """(codes [Q], steps [256]) of a sample, None where there are none."""
    if self.codes[place, 0] < 0:
      return None
    return self.codes[place], self.steps[place]


def make(
  source, codec, *, own, seed: int, path: Path | None = None
) -> CounterfactualMaps:
  """Changes the depth map of every sample, or reads what was made before.

  Args:
    source: samples by index.
    codec: of depth.
    own: codes [m, Q] of the first samples as a policy draws them: these maps
      are changed in place of the true ones; None has none.
    seed: of the factors, beside a sample's index.
    path: file that the result is kept in; None keeps nothing.
  """
  total = len(source)
  known = 0 if own is None else len(own)
  name = "" if path is None else f"{source!r} own {known} seed {seed}"
  if path is not None and Path(path).exists():
    with np.load(path) as found:
      if str(found["source"]) == name:
        return CounterfactualMaps(
          np.asarray(found["codes"]), np.asarray(found["steps"])
        )
  codes = np.full((total, codec.config.cells), -1, np.int32)
  steps = np.zeros((total, INSTANCES), np.int8)
  with telemetry.Progress(total, "counterfactual maps") as progress:
    for start in range(0, total, _CHUNK):
      end = min(start + _CHUNK, total)
      drawn = {}
      if start < known:
        shown = map_tokenizer.decode_maps(codec, own[start : min(end, known)])
        drawn = dict(enumerate(shown, start))
      places, maps = [], []
      for i in range(start, end):
        sample = source[i]
        if sample is None:  # a bad one that may be left out
          continue
        depth = drawn.get(i, codec.modality.read(sample))
        if depth is None or sample.instances is None:
          continue
        if sample.instances.max(initial=0) >= INSTANCES:
          continue
        steps[i] = choose(np.random.default_rng((seed, i)))
        places.append(i)
        maps.append(codec.modality.move(depth, sample.instances, steps[i]))
      if places:
        codes[places] = map_tokenizer.encode_maps(codec, np.stack(maps))
      progress.advance(end - start)
  if path is None:
    return CounterfactualMaps(codes, steps)
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_suffix(".partial.npz")
  np.savez(partial, codes=codes, steps=steps, source=np.array(name))
  partial.replace(path)
  return CounterfactualMaps(codes, steps)


def choose(rng) -> np.ndarray:
  """Steps i8 [256]: all the same, or each object its own and the rest 0."""
  if rng.random() < WHOLE:
    size = rng.integers(1, FARTHEST + 1) * rng.choice([-1, 1])
    return np.full(INSTANCES, size, np.int8)
  steps = rng.integers(-FARTHEST, FARTHEST + 1, INSTANCES).astype(np.int8)
  steps[0] = 0
  return steps


def rewrite_trace(question: Question, steps) -> Question | None:
  """The question as it would be asked of the scene that the changed map shows.

  None where that can't be told from the trace: several objects that moved
  apart in space, or two that came to lie about equally far.

  In: closer, steps {1: 0, 2: -6},
    "red ball <at .4 .7> 2.4 m ; blue box <at .5 .2> 3.0 m ; closer"
  Out: "red ball <at .4 .7> 2.4 m ; blue box <at .5 .2> 1.6 m ; farther"
  """
  family = question.family
  file = families.find(family) if family in families.names() else None
  if hasattr(file, "rewrite"):
    return file.rewrite(question, steps)
  moves = "each" if family in _EACH else families.moves(family)
  lengths = LENGTH.findall(question.reasoning)
  whole = bool((steps == steps[0]).all())
  if not lengths:  # who hides whom is a matter of depth, though none is said
    hides = moves == "whole" and not whole
    # Or they are said in another unit, and the answer is one of them.
    return None if hides or quantities.is_length(question.unit) else question
  ids = question.evidence.get("ids", ())
  if moves == "none":
    return None
  if not whole and (moves != "each" or len(ids) != len(lengths)):
    return None
  moved = [int(steps[0])] * len(lengths) if whole else [steps[i] for i in ids]
  by = iter(moved)
  reasoning = LENGTH.sub(
    lambda found: scaled(found[1], next(by)), question.reasoning
  )
  changes = {"reasoning": reasoning}
  if quantities.is_length(question.unit):
    length = grade.truth(question.answer, question.unit)
    changes["answer"] = f"{scaled(length, moved[0])} m"
  relation = getattr(file, "RELATION", None)
  if relation and not whole:
    verdict = _compare(question, moved)
    if verdict is None:
      return None
    changes |= _verdict(question, reasoning, relation, *verdict)
  return dataclasses.replace(question, **changes)


def scaled(number: str | float, steps: int) -> str:
  """In: "2.4", 6 (a factor of 1.78)   Out: "4.3"."""
  return metres(float(number) * 10 ** (int(steps) / 24))


def _compare(question, moved):
  """(first was closer, first is closer), None where they are about level."""
  first, second = question.evidence[changeable()]
  before = 24 * np.log10(first / second)
  after = before + moved[0] - moved[1]
  if abs(after) < LEAST_STEPS:
    return None
  return before < 0, after < 0


def _verdict(question, reasoning, relation, was: bool, now: bool) -> dict:
  if was == now:
    return {}
  said, new = relation if was else relation[::-1]
  assert reasoning.endswith(f" ; {said}"), reasoning
  other = [o for o in question.options if o != question.answer]
  return {
    "reasoning": reasoning.removesuffix(said) + new,
    "answer": other[0],
  }
