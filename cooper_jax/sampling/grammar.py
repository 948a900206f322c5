"""Grammar of a rollout: text, a map of exactly Q codes, a forced close, done.

The grammar is small on purpose. It makes maps well formed and lets the policy
be free elsewhere, so that format is something to be learned and rewarded.
Modes of use (direct, text only, always depth, ...) are constraints on the same
model: maps that may not be opened and tokens that are forced at the start of a
turn.
"""

import dataclasses
import itertools

import numpy as np

from cooper_jax import errors
from cooper_jax.models.cache import LANES
from cooper_jax.sequences.segments import Format

RUNNING, EOS, LENGTH = range(3)  # why a row stopped


@dataclasses.dataclass(frozen=True)
class Limits:
  """Static sizes of a rollout.

  text: tokens in one turn of text, the forced first included.
  maps: maps in one answer; turns of text are one more.
  script: forced tokens at the start of a turn, at most.
  rung: positions of a turn of text whose keys and values are held together, at
    least, where it has so many; a map's are together. A kernel that reads one
    array (`models/cached_attention.py`) reads it in pieces of so many. None =
    64 where layers are unrolled, as on a CPU, 128 elsewhere.
  reads_ahead: whether rungs that hold nothing yet are read too. They add exact
    zeros, so that it takes longer and changes nothing else, but the order in
    which some CPUs add up: for tests.
  """

  text: int
  maps: int
  script: int = 8
  rung: int | None = None
  reads_ahead: bool = False

  def __post_init__(self):
    if self.text < 2 or self.maps < 0 or self.script >= self.text:
      raise errors.UserError(
        f"a turn of {self.text} tokens with {self.script} forced ones and"
        f" {self.maps} maps is no rollout; set text > script and maps >= 0"
      )

  def positions(self, form: Format) -> int:
    """T, generated positions of a row: turns of text and maps alternate."""
    return (self.maps + 1) * self.text + self.maps * form.model.map_positions

  def text_start(self, turn: int, form: Format) -> int:
    """First position of a turn of text."""
    return turn * (self.text + form.model.map_positions)

  def map_start(self, index: int, form: Format) -> int:
    """First position of a map."""
    return self.text_start(index, form) + self.text

  def ladder(self, form: Format) -> tuple[tuple[int, int], ...]:
    """Rungs of the positions, (first, end) each: of one turn or one map."""
    found = []
    for turn in range(self.maps + 1):
      found += self.text_rungs(turn, form)
      if turn < self.maps:
        start = self.map_start(turn, form)
        found.append((start, start + form.model.map_positions))
    return tuple(found)

  def _rung(self, form: Format) -> int:
    if self.rung is not None:
      return self.rung
    return 64 if form.model.unroll else 128

  def text_rungs(self, turn: int, form: Format) -> list[tuple[int, int]]:
    """Those of a turn of text; 300 tokens in rungs of some 128: 144, 156.

    Where one array is read in pieces they end with a piece, unless that leaves
    few positions and saves little: 464 to 656 are 464 to 512 and 512 to 656.
    """
    start, least = self.text_start(turn, form), self._rung(form)
    if form.model.attention == "splash" and not form.model.unroll:
      stop, few = start + self.text, least // 4
      pieces = range(start - start % least, stop, least)
      edges = [at for at in pieces if start + few <= at <= stop - few]
      return list(itertools.pairwise([start, *edges, stop]))
    count = max(self.text // least, 1)
    size = max(self.text // count // LANES, 1) * LANES
    edges = range(size, self.text - size + 1, size)
    edges = [start, *(start + edge for edge in edges), start + self.text]
    return list(itertools.pairwise(edges))


@dataclasses.dataclass(frozen=True)
class Mode:
  """A way of answering, as constraints on decoding.

  allowed_maps: bit set of the modalities that may be drawn.
  script: for each turn of text, the ids forced at its start.
  """

  allowed_maps: int
  script: tuple[tuple[int, ...], ...] = ()

  def forced(self, limits: Limits) -> np.ndarray:
    """Returns forced ids [turns, script], -1 where the model is free."""
    out = np.full((limits.maps + 1, limits.script), -1, np.int32)
    for turn, ids in enumerate(self.script[: limits.maps + 1]):
      if len(ids) > limits.script:
        raise errors.UserError(
          f"a mode forces {len(ids)} tokens, limits.script is {limits.script}"
        )
      out[turn, : len(ids)] = ids
    return out
