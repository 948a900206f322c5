"""Lengths of questions against the room that prompts and SFT's rows have.

Looked at before any stage is trained: a question that no prompt holds would
else end reinforcement that hours of training led to, and one that no row holds
would be left out without a word. Up to `data.bad_samples` of them may be.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterable

import numpy as np

from cooper_jax import modalities, plugins
from cooper_jax.data import mixture, modes, tasks, traces
from cooper_jax.data.selection import Asking, Selection, in_words
from cooper_jax.data.sources import DataConfig, Source
from cooper_jax.errors import UserError
from cooper_jax.policy import make_policy
from cooper_jax.sample import Question
from cooper_jax.sequences import lens, segments
from cooper_jax.sequences.markup import request_of

_TILE = 32  # what is advised is a multiple of it
# Stages that ask questions, and of which splits.
ASKED_SPLITS = (("grpo", "train"), ("grpo", "validation"), ("evaluate", "test"))


@dataclasses.dataclass(frozen=True)
class Asked:
  """A question, the place that it comes from and the maps that it has."""

  question: Question
  where: str  # file and line, or a sample's id
  maps: tuple[str, ...]  # modalities


def fitting(config, source: Source | mixture.Mixture):
  """The source less what no prompt holds, if such questions may be left out."""
  if not config.data.bad_samples:
    return source
  policy = make_policy(config)

  def fits(question: Question) -> bool:
    return not _prompt_problem(config, policy, question.text)

  return Asking(source, functools.partial(filter, fits))


def check(config, stages) -> None:
  """Raises UserError for questions too long for the stages.

  That is the first one, or more than `data.bad_samples` of a split's; up to
  that share they are said on stderr, and are left out.
  """
  asks = config.grpo.validate_every > 0 or config.grpo.flag_questions > 0
  prompts = [
    (stage, split)
    for stage, split in ASKED_SPLITS
    if stage in stages and (split != "validation" or asks)
  ]
  if not prompts and "sft" not in stages:
    return
  data, policy = DataConfig.from_config(config), make_policy(config)
  if prompts or ("sft" in stages and config.sft.self_map_scenes):
    _check_requests(config, policy)
  for stage, split in prompts:
    every = of_split(data, split)
    if split != "validation":  # which says itself that it asks nothing
      every = _some(every, split, stage)
    if stage == "grpo":
      every = _worded(every, config.grpo)
    _refuse(
      every,
      lambda each: _prompt_problem(
        config, policy, each.question.text, each.where
      ),
      data.bad_samples,
    )
  if "sft" in stages:
    every = _some(of_split(data, "train"), "train", "sft")
    _refuse(
      _worded(every, config.sft),
      lambda each: _trace_problem(config, policy, each),
      data.bad_samples,
    )


def _worded(every: Iterable[Asked], settings):
  """Those of a stage's families, in the stage's words."""
  kept = Selection(tuple(settings.families))
  for each in every:
    asked = kept.kept([each.question])
    for question in in_words(asked, settings.phrasings):
      yield dataclasses.replace(each, question=question)


def _refuse(every: Iterable[Asked], problem, share: float) -> None:
  """UserError for the first problem, or more than a share; says the others."""
  bad, total = [], 0
  for asked in every:
    total += 1
    line = problem(asked)
    if line and not share:
      raise UserError(line)
    bad += [line] if line else []
  if len(bad) > share * total:
    raise mixture.too_many(bad, total, share, what="questions")
  for line in bad[: mixture.MOST_NAMED]:
    print(f"left out: {line}", file=sys.stderr, flush=True)


def _some(every: Iterable[Asked], split: str, stage: str):
  """What is asked; UserError where that is nothing: maps alone pretrain."""
  asked = None
  for asked in every:
    yield asked
  if asked is None:
    raise UserError(
      f"no image of the {split} split has a question, and {stage} asks them;"
      " add some, or train on maps alone:"
      " --config=configs/pretrain.py"
    )


def of_split(data: DataConfig, split: str):
  """Yields what a split asks; pictures are opened only where they must be.

  A source that has a function `asked(config, split)` says it without them.
  """
  for name, own in data.parts:
    module = plugins.find("sources", name)
    if hasattr(module, "asked"):
      for question, where, maps in module.asked(own, split):
        yield Asked(question, where, tuple(maps))
      continue
    source = mixture.tolerant(module.source(own, split), data.bad_samples)
    drawn = {m: plugins.find("modalities", m) for m in modalities.names()}
    for sample in mixture.readable(source):
      maps = [m for m in drawn if drawn[m].read(sample) is not None]
      for question in sample.questions:
        yield Asked(question, f"{name} sample {sample.id}", tuple(maps))


def longest(config, policy, asked: Asked) -> tuple[int, int]:
  """(positions, scored texts) of the longest trace that SFT makes of it."""
  shares = [mode for mode, share in config.sft.shares.items() if share > 0]
  maps = None
  if asked.question.family in config.sft.direct_families:
    shares = [modes.DIRECT]
  if asked.question.reasoning and shares != [modes.DIRECT]:
    names = modes.order(policy.markup.modalities)
    drawn = tasks.drawn_in(shares, asked.question, names)
    have = [m for m in asked.maps if m in dict(policy.markup.modalities)]
    there = [[m for m in each if m in have] for each in drawn]
    maps = max(there, key=len)[: policy.form.max_maps]
  corrupted = bool(maps) and config.sft.corrupted > 0
  codes = np.zeros(policy.form.model.map_codes, int)
  branch = (
    policy.markup.longest_request(asked.question.text),
    *policy.markup.response(
      traces.compose(asked.question, maps, corrupted=corrupted),
      lambda name, _: segments.Map(policy.markup.modality_ids[name], codes),
    ),
  )
  return segments.measure(segments.Document(branch), policy.form)[:2]


def _check_requests(config, policy) -> None:
  """The requests for maps, which are as long as a short question."""
  for name in config.modalities:
    text = request_of(plugins.find("modalities", name).REQUEST)
    line = _prompt_problem(config, policy, text, f"the request for {name}")
    if line:
      raise UserError(line)


def _prompt_problem(config, policy, text: str, where: str = "") -> str:
  """What is wrong with a question that no prompt holds, "" where one does."""
  image, buckets = policy.form.model.locations, config.sampling.prompt_buckets
  # No token has less than a byte: most questions need no tokenizer. The three
  # are <user> and the spaces before the text and the lens.
  told = len(lens.LONGEST_LENS) if policy.markup.tell_lens else 0
  if told + len(text.encode()) + 3 + image <= max(buckets):
    return ""
  # Less its last token, which the sampler feeds itself.
  tokens = len(policy.markup.longest_request(text).ids) - 1
  if tokens + image <= max(buckets):
    return ""
  more = (*buckets, _rounded(tokens + image))
  return (
    f'{where}: "{_short(text)}" takes {tokens} tokens of a prompt, the'
    f" largest of config.sampling.prompt_buckets ({max(buckets)}) leaves"
    f" {max(max(buckets) - image, 0)} beside the image; ask less, or set"
    f" config.sampling.prompt_buckets={more}"
  )


def _trace_problem(config, policy, asked: Asked) -> str:
  """What is wrong with a trace that no row of SFT holds, "" where one does."""
  length, texts = longest(config, policy, asked)
  for need, name, what in (
    (length, "bin", "tokens"),
    (texts, "texts", "learned tokens"),
  ):
    room = config.sft[name]
    if need > room:
      return (
        f'{asked.where}: "{_short(asked.question.text)}" and its trace take up'
        f" to {need} {what}, config.sft.{name} is {room}; ask or reason less,"
        f" or set config.sft.{name}={_rounded(need)}"
      )
  return ""


def _short(text: str) -> str:
  return text if len(text) <= 40 else f"{text[:37]}..."


def _rounded(length: int) -> int:
  return -(-length // _TILE) * _TILE
