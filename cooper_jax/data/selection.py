"""Selection: the scenes and questions a stage learns from, and their words.

An experiment asks what one kind of training gives to another. It needs stages
that differ in what they are told: text without lengths, some families alone,
few scenes. What is selected here is a part of what there is; by default all.
"""

import dataclasses
from collections.abc import Callable, Iterable

from cooper_jax.data import traces
from cooper_jax.data.mixture import Mixture, draw_index, questions_of
from cooper_jax.data.sources import Source
from cooper_jax.errors import UserError, nearest
from cooper_jax.sample import Question, Sample
from cooper_jax.world.questions import rephrasing

USUAL_WORDS, HELDOUT_WORDS = "usual", "heldout"
WORDS = (USUAL_WORDS, HELDOUT_WORDS)  # what questions are put in
PHRASED = ("sft", "grpo")  # stages with a setting for that
FIRST, SKIPPED = "config.sft.scenes", "config.grpo.skip_scenes"


@dataclasses.dataclass(frozen=True)
class Selection:
  """Sample -> the sample with the questions that a stage trains on.

  families: question families that are kept; () = all.
  without_lengths: no text tells a length: what is found and listed is told
    without it, and questions whose trace or answer needs one are left out.
  """

  families: tuple[str, ...] = ()
  without_lengths: bool = False

  def __call__(self, sample: Sample) -> Sample:
    if not self.families and not self.without_lengths:
      return sample
    questions = self.asked(sample.questions)
    grounding = sample.grounding
    if self.without_lengths:
      told = [
        dataclasses.replace(q, reasoning=traces.without_lengths(q.reasoning))
        for q in grounding
      ]
      # One that says nothing but its length is left as it was, and goes.
      grounding = [q for q in told if not traces.tells_length(q)]
    return dataclasses.replace(
      sample, questions=tuple(questions), grounding=tuple(grounding)
    )

  def asked(self, questions: Iterable[Question]) -> list[Question]:
    """Those of some questions that are trained on."""
    return [
      q
      for q in self.kept(questions)
      if not (self.without_lengths and traces.tells_length(q))
    ]

  def kept(self, questions: Iterable[Question]) -> list[Question]:
    """Those of some questions whose family is kept."""
    return [
      q for q in questions if not self.families or q.family in self.families
    ]


@dataclasses.dataclass(frozen=True)
class Part:
  """The scenes `start` to `stop` of a source, in its own order."""

  source: Source
  start: int
  stop: int

  def __len__(self) -> int:
    return self.stop - self.start

  def __getitem__(self, index: int) -> Sample:
    if not 0 <= index < len(self):
      raise IndexError(index)
    return self.source[self.start + index]

  def questions(self, index: int) -> tuple[Question, ...]:
    """A scene's questions alone."""
    if not 0 <= index < len(self):
      raise IndexError(index)
    return questions_of(self.source, self.start + index)

  def __repr__(self) -> str:
    return f"{self.start} to {self.stop} of {self.source!r}"


@dataclasses.dataclass(frozen=True)
class Asking:
  """A source whose samples ask other questions: some of theirs, or reworded."""

  source: Source | Mixture
  change: Callable[[Iterable[Question]], Iterable[Question]]
  words: str = ""  # of its name

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> Sample | None:
    sample = self.source[index]
    if sample is None:
      return None
    questions = tuple(self.change(sample.questions))
    return dataclasses.replace(sample, questions=questions)

  def draw_index(self, rng) -> int:
    """As the source has it, whose samples these are."""
    return draw_index(self.source, rng)

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions alone."""
    return tuple(self.change(questions_of(self.source, index)))

  def __repr__(self) -> str:
    return f"{self.source!r}{self.words}"


def first(source: Source | Mixture, count: int) -> Source | Mixture:
  """The first `count` scenes of a source, 0: all; more contain fewer.

  Raises UserError where there are fewer, or the source is a mixture, of which
  no scene is the first.
  """
  if not count:
    return source
  check_scenes(FIRST, count, len(source), sources=_number(source))
  return Part(source, 0, count)


def after(source: Source | Mixture, count: int) -> Source | Mixture:
  """The scenes of a source after the first `count`; raises as `first`."""
  if not count:
    return source
  check_scenes(SKIPPED, count, len(source) - 1, sources=_number(source))
  return Part(source, count, len(source))


def phrased(source: Source | Mixture, phrasings: str) -> Source | Mixture:
  """The source with its questions in usual or in held-out words."""
  if phrasings == HELDOUT_WORDS:
    return Asking(source, rephrasing.rephrased, " in held-out words")
  return source


def in_words(questions: Iterable[Question], phrasings: str):
  """Questions in usual or in held-out words, less what has no such words."""
  return (
    rephrasing.rephrased(questions)
    if phrasings == HELDOUT_WORDS
    else tuple(questions)
  )


def _number(source) -> int:
  return len(source.sources) if isinstance(source, Mixture) else 1


def check_scenes(setting: str, count: int, most: int, *, sources=1) -> None:
  """Raises UserError for too many scenes, or for some of several sources."""
  if count and sources > 1:
    raise UserError(
      f"{setting} is {count}, and config.data.source names several sources,"
      " which have no common order; name one, or set it to 0"
    )
  if count > most:
    raise UserError(
      f"{setting} is {count}; the training split allows up to {most}: lower it,"
      " or add scenes (of the world: config.data.train_scenes)"
    )


def check_families(setting: str, named: Iterable[str], asked: Iterable[str]):
  """Raises UserError for the first named family that nobody asks.

  setting: as `config.sft.families`. asked: families of the training split.
  """
  known = list(dict.fromkeys(asked))
  for family in named:
    if family not in known:
      raise UserError(
        f'{setting} names "{family}"; the training split asks'
        f" {', '.join(known)}{nearest(family, known)}"
      )
