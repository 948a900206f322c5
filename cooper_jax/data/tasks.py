"""Tasks of pretraining and SFT: how a sample becomes text, maps and traces.

One example is one image with as many requests as a row has room for: its maps,
grounding tasks and questions, each a branch that shares the image.
"""

import dataclasses

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import counterfactual, deals, modes, traces
from cooper_jax.data.codes import INSTANCE, Codes
from cooper_jax.data.selection import Selection
from cooper_jax.data.word_kinds import kind_of
from cooper_jax.errors import UserError
from cooper_jax.sequences import packing, segments
from cooper_jax.sequences.markup import MarkupEncoder, request_of
from cooper_jax.world.questions import counting, families

_TRIES = 8  # to deal a row's modes to its questions at random


@dataclasses.dataclass(frozen=True)
class Task:
  """What both stages know: how to write, the codes, the row, the weights.

  self_map_share: chance that a map is read as the policy drew it, where
    `codes` has that: what is read off it must bear the errors it will meet.
  counterfactual: chance that a depth map is a changed one, where `codes` has
    that: what is read off it is nowhere else.
  extra_counting: how many questions are made up of how many things there are.
  extra_sizes: how many are added of how high and wide things are, where
    `world.derive` has these families.
  near_misses: whether these are as `config.world.near_misses` has them.
  any_order: whether places that are counted are mixed.
  selection: the questions that are asked, of the sample's and of these.
  """

  markup: MarkupEncoder
  codes: Codes
  shape: packing.Shape
  map_noise: float  # share of the codes read that are replaced at random
  weights: dict  # loss weight of a token: text, name, location, reading, answer
  self_map_share: float = dataclasses.field(default=0.0, kw_only=True)
  counterfactual: float = dataclasses.field(default=0.0, kw_only=True)
  extra_counting: int = dataclasses.field(default=0, kw_only=True)
  extra_sizes: int = dataclasses.field(default=0, kw_only=True)
  near_misses: bool = dataclasses.field(default=False, kw_only=True)
  any_order: bool = dataclasses.field(default=False, kw_only=True)
  selection: Selection = dataclasses.field(default=Selection(), kw_only=True)

  def row(self, sample, branches) -> dict[str, np.ndarray]:
    """Packs the branches that a row has room for; `left_out` is the rest."""
    form = self.markup.form
    document = segments.Document(
      (segments.Image(sample.image),), tuple(branches)
    )
    fitted = packing.fit(document, form, self.shape)
    packed = packing.pack([fitted], form=form, shape=self.shape, rows=1)
    row = {name: array[0] for name, array in packed.items()}
    left_out = len(document.branches) - len(fitted.branches)
    return row | {"left_out": np.int32(left_out)}

  def drawn(self, sample, rng, *, learn=True):
    """Returns the `draw` of `MarkupEncoder.response` for a sample."""

    def draw(modality, option):
      modality_id = self.markup.modality_ids[modality]
      wrong = option in ("corrupted", "counterfactual")
      marking = self.codes.marking(sample.id)
      if option == "counterfactual":
        codes = self.codes.counterfactual(sample.id)[0]
      elif option.startswith("id="):
        same = marking and option == f"id={marking[0]}"
        codes = marking[1] if same else None
      elif option == "corrupted":
        codes = self.codes.other(sample.id, modality, rng)
      else:
        codes = self.codes.of(sample.id, modality)
      if codes is None:
        raise UserError(
          f"a response about sample {sample.id} draws <{modality} {option}>,"
          " which this sample has no map for; mend its reasoning"
        )
      own = None if wrong or option else self.codes.drawn(sample.id, modality)
      if own is not None and rng.random() < self.self_map_share:
        return segments.Map(modality_id, codes, learn=False, seen=own)
      seen = self.noisy(codes, rng)
      return segments.Map(
        modality_id, codes, learn=learn and not wrong, seen=seen
      )

    return draw

  def counted(self, sample, rng) -> list:
    """Questions of what is counted, beside those that the sample has."""
    lists = [q for q in sample.grounding if q.family == "list"]
    number, near_misses = self.extra_counting, self.near_misses
    return self.selection.kept(
      question
      for each in lists
      for question in counting.questions(
        each, rng, number, near_misses=near_misses
      )
    )

  def sized(self, sample, rng) -> list:
    """Questions of sizes, beside those that the sample has."""
    spare = self.selection.kept(
      q for q in sample.grounding if q.family in families.names()
    )
    some = rng.permutation(len(spare))[: self.extra_sizes]
    return [spare[i] for i in some]

  def ordered(self, questions, rng) -> list:
    """The questions, places that are counted in the order that is asked for."""
    if not self.any_order:
      return list(questions)
    return [counting.in_any_order(q, rng) for q in questions]

  def change(self, sample, question, rng):
    """The question as a changed depth map answers it, or None."""
    if not self.counterfactual or rng.random() >= self.counterfactual:
      return None
    found = self.codes.counterfactual(sample.id)
    return found and counterfactual.rewrite_trace(question, found[1])

  def branch(self, sample, request: str, response: str, rng) -> tuple:
    """A request and its response in markup."""
    return (
      self.markup.request(request, sample),
      *self.markup.response(
        response,
        self.drawn(sample, rng),
        weights=self.weights,
        kind_of=kind_of,
        shape=segments.shape_of(self.markup.form.model, sample.image),
      ),
    )

  def noisy(self, codes, rng):
    """The codes as they are read: some of them are others."""
    model = self.markup.form.model
    wrong = rng.random(model.map_codes) < self.map_noise
    random = rng.integers(0, model.codes, model.map_codes)
    return np.where(wrong, random, codes)

  def has(self, sample, modality: str) -> bool:
    return self.codes.of(sample.id, modality) is not None


@dataclasses.dataclass(frozen=True)
class MapTask(Task):
  """Auxiliary generation and dense grounding, in the same row.

  single_object: chance that one object alone is segmented in place of all.
  map_context: chance that the places of a text read a map, each map by itself.
  """

  titles: tuple[tuple[str, str], ...]  # (modality, TITLE)
  single_object: float
  map_context: float = 0.0

  def __call__(self, sample, rng):
    sample, branches = self.selection(sample), []
    marked = modalities.having("MARKS")
    marking = self.codes.marking(sample.id) if self.single_object else None
    marking = marking if rng.random() < self.single_object else None
    for modality, title in self.titles:
      if marking and modality == marked:
        branches.append(self._mark(sample, marking[0], rng))
      elif self.has(sample, modality):
        branches.append(
          self.branch(sample, request_of(title), f"<{modality}>", rng)
        )
    told = [q for q in sample.grounding if q.family == "list"]
    where = [q for q in sample.grounding if q.family == "where"]
    asked = self.ordered(sample.questions, rng)
    told += [where[i] for i in rng.permutation(len(where))[:2]]
    texts = [(q, False) for q in told]
    more = [*self.sized(sample, rng), *self.counted(sample, rng)]
    more = self.ordered(more, rng)
    texts += [(q, True) for q in more]
    texts += [(asked[i], True) for i in rng.permutation(len(asked))]
    for question, answered in texts:
      given, question = self._given(sample, question, rng)
      response = question.reasoning
      if answered:
        response = traces.compose(question, () if question.reasoning else None)
      branch = self.branch(sample, question.text, response, rng)
      branches.append((*given, *branch))
    return self.row(sample, branches)

  def _given(self, sample, question, rng):
    """The maps that a text may read, and the question that fits them."""
    given = []
    changeable = counterfactual.changeable()
    for modality, _ in self.titles if self.map_context else ():
      if rng.random() >= self.map_context or not self.has(sample, modality):
        continue
      codes = self.codes.of(sample.id, modality)
      if modality == changeable:
        changed = self.change(sample, question, rng)
        if changed:
          question, codes = changed, self.codes.counterfactual(sample.id)[0]
      modality_id = self.markup.modality_ids[modality]
      given.append(segments.ContextMap(modality_id, self.noisy(codes, rng)))
    return given, question

  def _mark(self, sample, instance, rng):
    question = next(
      q
      for q in sample.grounding
      if q.family == "mark" and INSTANCE.search(q.reasoning)[1] == str(instance)
    )
    return self.branch(sample, question.text, question.reasoning, rng)


@dataclasses.dataclass(frozen=True)
class ReasoningTask(Task):
  """Interleaved reasoning: think, draw, think, answer, in all its modes.

  A row asks as many of its questions as have room whatever modes they are
  answered in, and only then are the modes dealt (`deals`): a trace that draws
  is several times as long as one that does not, and is left out no sooner.

  shares: of the questions, how many are answered direct, with text, with the
  maps that the program needs ("needed"), with depth, with segmentation or
  with both regardless.
  corrupted: share of the drawn traces that show a wrong map and say so.
  lengths_need_map: the modality whose drawn map (even a corrupted one) lengths
    are read off: a trace without it says where things are and not how far, if
    the sample has such a map; "" tells them anyway.
  view_dropout: share of the traces that draw all the maps that their program
    needs in which what follows the last map sees no image.
  direct_families: families answered at once, whatever mode is dealt; modes are
    dealt without regard to them, so that `shares` hold among the others.
  """

  shares: tuple[tuple[str, float], ...]
  corrupted: float
  lengths_need_map: str = ""
  direct_families: tuple[str, ...] = ()
  view_dropout: float = 0.0

  def __call__(self, sample, rng):
    if not sample.questions and not sample.grounding:
      return None  # maps alone: of pretraining
    sample = self.selection(sample)
    questions = [
      *sample.questions,
      *self.sized(sample, rng),
      *self.counted(sample, rng),
    ]
    questions = self.ordered(questions, rng)
    asked = []  # of each question, its branch and the branch's size by mode
    for i in rng.permutation(len(questions)):
      more = [*asked, self._ways(sample, questions[i], rng)]
      if all(self._heaviest(more, modes) for modes, _ in self._deals(more)):
        asked = more
      elif asked:
        break
    branches = self._dealt(asked, rng) if asked else []
    # Those that draw first: the others fill what room is left.
    branches.sort(key=lambda b: -sum(isinstance(s, segments.Map) for s in b))
    row = self.row(sample, branches)
    return row | {
      "left_out": row["left_out"] + np.int32(len(questions) - len(asked))
    }

  def _deals(self, asked):
    """The lots of modes that these questions may get, and their chances."""
    order = modes.of_traces()
    names = sorted(self.shares, key=lambda share: order.index(share[0]))
    return deals.of(tuple(names), len(asked))

  def _dealt(self, asked, rng) -> list:
    """A branch a question, in modes that are dealt at random."""
    lots, chances = zip(*self._deals(asked), strict=True)
    modes = lots[rng.choice(len(lots), p=chances)]
    for _ in range(_TRIES):
      dealt = [modes[i] for i in rng.permutation(len(modes))]
      if self._fit(asked, dealt):
        break
    else:
      dealt = self._heaviest(asked, modes)
    return [ways[mode][0] for ways, mode in zip(asked, dealt, strict=True)]

  def _heaviest(self, asked, modes):
    """The modes, the longest for the longest question; None: no room."""
    length = lambda ways, mode: ways[mode][1][0]  # noqa: E731
    by_length = sorted(
      range(len(asked)),
      key=lambda i: -sum(length(asked[i], mode) for mode in modes),
    )
    by_weight = sorted(
      modes, key=lambda mode: -sum(length(ways, mode) for ways in asked)
    )
    dealt = [""] * len(asked)
    for i, mode in zip(by_length, by_weight, strict=True):
      dealt[i] = mode
    return dealt if self._fit(asked, dealt) else None

  def _fit(self, asked, dealt) -> bool:
    """Whether a row has room for all branches of these modes."""
    found = [ways[mode] for ways, mode in zip(asked, dealt, strict=True)]
    # In the order that the row will have them in.
    found.sort(key=lambda f: -sum(isinstance(s, segments.Map) for s in f[0]))
    trunk = (self.markup.form.model.locations, 0, 0, 1)
    return all(packing.fitting([f[1] for f in found], self.shape, trunk))

  def _ways(self, sample, question, rng) -> dict:
    """By mode: the branch that answers the question in it, and its size."""
    found = {}
    direct = question.family in self.direct_families
    for mode, share in self.shares:
      if share > 0:
        mode_here = modes.DIRECT if direct else mode
        branch = self._way(sample, question, mode_here, rng)
        size = segments.measure(segments.Document(branch), self.markup.form)
        found[mode] = branch, size
    return found

  def _way(self, sample, question, mode: str, rng) -> tuple:
    chosen = self._maps(question, mode) if question.reasoning else None
    if chosen:
      chosen = tuple(m for m in chosen if self.has(sample, m))
    corrupted = bool(chosen) and rng.random() < self.corrupted
    changed = None
    if chosen and counterfactual.changeable() in chosen and not corrupted:
      changed = self.change(sample, question, rng)
    told = changed or question
    if chosen is not None and self._unseen(sample, chosen):
      told = dataclasses.replace(
        told, reasoning=traces.without_lengths(told.reasoning)
      )
    response = traces.compose(
      told, chosen, corrupted=corrupted, counterfactual=bool(changed)
    )
    branch = self.branch(sample, question.text, response, rng)
    suffices = question.needs and {*question.needs} <= {*(chosen or ())}
    if self.view_dropout and suffices and not corrupted:
      branch = self._hidden(branch, rng)
    return branch

  def _hidden(self, branch, rng) -> tuple:
    """The branch, by chance without a look at the image behind its maps."""
    if rng.random() >= self.view_dropout:
      return branch
    last = max(i for i, s in enumerate(branch) if isinstance(s, segments.Map))
    hiding = dataclasses.replace(branch[last], hides=True)
    return (*branch[:last], hiding, *branch[last + 1 :])

  def _unseen(self, sample, chosen) -> bool:
    """Whether lengths are read off a map that is there and was not drawn."""
    return (
      bool(self.lengths_need_map)
      and self.lengths_need_map not in chosen
      and self.has(sample, self.lengths_need_map)
    )

  def _maps(self, question, mode):
    drawable = dict(self.markup.modalities)
    if mode == modes.DIRECT:
      return None
    (chosen,) = drawn_in([mode], question, modes.order(self.markup.modalities))
    drawn = [m for m in chosen if m in drawable]
    return tuple(drawn[: self.markup.form.max_maps])


def drawn_in(chosen, question, names) -> list[tuple[str, ...]]:
  """The maps that the traces of some modes draw, none where it is direct.

  names: the modalities of the policy, in the order of their ids.
  """
  return [
    tuple(question.needs) if m == modes.NEEDED else modes.maps_of(m, names)
    for m in chosen
  ]
