"""Asks a policy questions in a mode of use, and grades what it answers."""

import dataclasses

import numpy as np

from cooper_jax import sequence
from cooper_jax.data.scenes import traces
from cooper_jax.eval import grading, quantities, runner
from cooper_jax.eval.view import RolloutView
from cooper_jax.policy import Policy
from cooper_jax.sampling import grammar

MODES = ("direct", "text", "depth", "segmentation", "both", "adaptive")
FORCED = {
  "depth": ("depth",),
  "segmentation": ("segmentation",),
  "both": ("depth", "segmentation"),
}


@dataclasses.dataclass(frozen=True)
class Item:
  """One question about one sample."""

  sample: object
  question: object


@dataclasses.dataclass(frozen=True)
class Answers:
  """What came back: view of the rollouts, and a grade an item."""

  view: RolloutView
  grades: tuple

  @property
  def hits(self) -> np.ndarray:
    return hits(self.grades)

  def drew(self) -> np.ndarray:
    """Whether an item's response holds a map."""
    return np.array([bool(maps) for maps in self.view.maps], float)


def call(modality: str, policy: Policy) -> tuple[int, ...]:
  """The ids that call for a map: a thought and the map's opening."""
  special = policy.form.vocabulary.special
  return (
    special("<think>"),
    *policy.text.encode(" " + traces.CALLS[modality]),
    special("</think>"),
    special(f"<{modality}>"),
  )


def mode_of(name: str, policy: Policy) -> grammar.Mode:
  """The constraints that hold a policy to a mode of use."""
  vocabulary = policy.form.vocabulary
  if name == "adaptive":
    return grammar.Mode(policy.form.openings)
  first = {"direct": "<answer>", "text": "<think>"}
  if name in first:
    return grammar.Mode(0, ((vocabulary.special(first[name]),),))
  return grammar.Mode(0, tuple(call(m, policy) for m in FORCED[name]))


def modes_of(policy: Policy, shares, taught=None) -> list[str]:
  """The modes that this policy can be held to: its maps, as many as fit.

  shares: of SFT, by mode; what has none was not taught.
  taught: modalities whose tokenizer was; None = all of the policy's.
  """
  drawable = {name for name, _ in policy.writer.modalities}
  drawable = drawable if taught is None else drawable.intersection(taught)
  return [
    mode
    for mode in MODES
    if (mode == "adaptive" or shares.get(mode, 0.0) > 0)
    and drawable.issuperset(FORCED.get(mode, ()))
    and len(FORCED.get(mode, ())) <= policy.limits.maps
  ]


def trunk_of(item: Item, policy: Policy) -> tuple:
  """The prompt of a question, without its last token `<assistant>`."""
  request = policy.writer.request(item.question.text)
  return (
    sequence.Image(item.sample.image),
    dataclasses.replace(request, ids=request.ids[:-1]),
  )


def trunk_with_map(item: Item, policy: Policy, modality: str, codes) -> tuple:
  """A question with the map called for and given, up to `<think>`."""
  request = policy.writer.request(item.question.text)
  ids = np.concatenate([request.ids, call(modality, policy)[:-1]])
  return (
    sequence.Image(item.sample.image),
    sequence.Text(ids, learn=False),
    sequence.Map(dict(policy.writer.modalities)[modality], codes),
  )


def respond(
  policy: Policy, params, items, mode: str, codecs, *, batch, buckets
) -> RolloutView:
  """What the policy says and draws in a mode, one row an item.

  Of an item only `sample.image` and `question.text` are read.
  """
  maps = 0 if mode in ("direct", "text") else policy.limits.maps
  limits = dataclasses.replace(policy.limits, maps=maps)
  out = runner.in_batches(
    policy,
    params,
    [trunk_of(item, policy) for item in items],
    mode_of(mode, policy),
    batch=batch,
    limits=limits,
    buckets=buckets,
  )
  return runner.view_of(policy, out, codecs)


def respond_to_maps(
  policy: Policy, params, items, modality: str, codes, codecs, *, batch
) -> RolloutView:
  """What the policy goes on to say after maps that are given, codes [n, N].

  Where they are those that it would have drawn, it says what it would have
  said.
  """
  trunks = [
    trunk_with_map(item, policy, modality, each)
    for item, each in zip(items, codes, strict=True)
  ]
  need = max(
    sequence.measure(sequence.Document(t), policy.form)[0] for t in trunks
  )
  out = runner.in_batches(
    policy,
    params,
    trunks,
    grammar.Mode(0),
    batch=batch,
    limits=dataclasses.replace(policy.limits, maps=0),
    buckets=(-(-need // 32) * 32,),
    last="<think>",
  )
  return runner.view_of(policy, out, codecs)


def ask(policy: Policy, params, items, mode: str, codecs, *, batch, buckets):
  """Answers of a mode, graded."""
  view = respond(
    policy, params, items, mode, codecs, batch=batch, buckets=buckets
  )
  return graded(view, items)


def graded(view: RolloutView, items) -> Answers:
  return Answers(
    view,
    tuple(
      grade_of(text, item) for text, item in zip(view.text, items, strict=True)
    ),
  )


def grade_of(text: str, item: Item):
  question = item.question
  return grading.grade(
    text,
    answer=question.answer,
    answer_type=question.answer_type,
    options=question.options,
    unit=question.unit,
    value=question.value,
    question=question.text,
    rules=grading.Rules(tags_only=True),
  )


def items_of(source, count: int, *, seed: int) -> list[Item]:
  """`count` questions of a source, spread over its samples at random."""
  samples = [source[i] for i in range(len(source))]
  every = [Item(s, q) for s in samples for q in s.questions]
  rng = np.random.Generator(np.random.Philox(key=seed))
  order = rng.permutation(len(every))[:count]
  return [every[i] for i in sorted(order)]


def families(items) -> dict[str, np.ndarray]:
  """Which items belong to each family."""
  names = np.array([item.question.family for item in items])
  return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


def hits(grades) -> np.ndarray:
  """1.0 for each right answer, 0.0 for each other."""
  return np.array([grade.hit for grade in grades], float)


def choices(items) -> dict[str, np.ndarray]:
  """Rows of each family that is answered by a choice, or yes or no."""
  return {
    name: rows
    for name, rows in families(items).items()
    if items[rows[0]].question.answer_type in ("choice", "yes_no")
  }


def lengths(items) -> np.ndarray:
  """Rows that ask for a length."""
  asked = [item.question for item in items]
  return np.flatnonzero(
    [q.answer_type == "number" and quantities.is_length(q.unit) for q in asked]
  )
