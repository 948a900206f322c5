"""Scores of one stage's policy: all that an evaluation finds out about it.

`measure` asks, and what it gives is plain (numbers, texts, pictures), so that
what was found out about a packaged model can be kept (`eval/kept.py`).
"""

import dataclasses
from typing import Any

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import counterfactual, modes
from cooper_jax.eval import (
  benchmark,
  heldout,
  map_use,
  pairing,
  questions,
  reading,
  results,
)
from cooper_jax.grading.metrics.maps import score
from cooper_jax.policy import Policy
from cooper_jax.rollouts import generate, prompts
from cooper_jax.training import telemetry
from cooper_jax.training.log_line import paragraph

LOG_LABEL = "evaluate"  # what the lines of the log begin with
FREE = pairing.FREE  # the mode that the plain `qa/accuracy/<stage>` is of


@dataclasses.dataclass(frozen=True)
class QuestionSet:
  """What every policy of a run is asked."""

  own: benchmark.Benchmark | None  # whose maps and modes are scored too
  others: dict[str, benchmark.Benchmark]
  unseen: list[prompts.Item]  # of the held-out split
  validation: list  # samples whose maps are read, teacher-forced

  @property
  def items(self) -> list[prompts.Item]:
    return self.own.items if self.own else []

  @property
  def samples(self) -> list:
    return samples_of(self.items)


@dataclasses.dataclass(frozen=True)
class Speaker:
  """A policy that is asked, and the tokenizers of its maps."""

  stage: str
  policy: Policy
  params: Any
  codecs: dict
  trained: dict  # the codecs that learned from maps


@dataclasses.dataclass
class Found:
  """What a policy answered and drew. Hits are 1.0 or 0.0, a question each."""

  summary: dict = dataclasses.field(default_factory=dict)
  files: dict = dataclasses.field(default_factory=dict)  # name -> its text
  hits: dict = dataclasses.field(default_factory=dict)  # by mode
  # By benchmark, then by mode.
  benchmarks: dict = dataclasses.field(default_factory=dict)
  unseen: list = dataclasses.field(default_factory=list)  # hits, held-out
  gallery: list = dataclasses.field(default_factory=list)  # rows of the report


def samples_of(items) -> list:
  """The samples of items, each once."""
  return list({item.sample.id: item.sample for item in items}.values())


def reads(config, codecs) -> bool:
  """Whether there is a reading of depth maps to be measured."""
  return config.model.map_lookup and counterfactual.changeable() in codecs


def measure(config, asked: QuestionSet, who: Speaker) -> Found:
  """Asks everything that there is to ask, and scores it."""
  found, stage = Found(), who.stage
  options = {
    "batch": config.evaluate.batch,
    "buckets": config.sampling.prompt_buckets,
  }
  if asked.validation:
    found.summary |= reading.measure(
      who.policy, who.params, asked.validation, config, who.codecs, stage=stage
    )
  held = prompts.modes_of(who.policy, config.sft.shares, who.trained)
  for name, each in asked.others.items():
    these = [mode for mode in held if mode == FREE or mode in each.modes]
    answers = ask(who, each.items, these, options, grade=each.grade)
    found.summary |= score_benchmark(each, answers, stage)
    found.files[f"{name}/{stage}.jsonl"] = results.lines(each.items, answers)
    found.benchmarks[name] = {
      mode: given.hits.tolist() for mode, given in answers.items()
    }
  if asked.own:
    ask_own(config, asked, who, held, options, found)
  if asked.own and asked.unseen:
    score_heldout(asked.unseen, who, options, found)
  return found


def ask_own(
  config, asked: QuestionSet, who: Speaker, held, options, found
) -> None:
  """Adds maps, answers in every mode, and the use of maps to `found`."""
  items, stage = asked.items, who.stage
  drawn = score_maps(
    who.policy, who.params, asked.samples, who.trained, options
  )
  for modality, scores in drawn.items():
    for name, value in scores.items():
      # The plain key is the last stage's: the policy that a run ends with.
      found.summary[f"{modality}/{name}"] = value
      if "/" not in name:
        found.summary[f"maps/{stage}/{modality}/{name}"] = value
  calls = len(held) * -(-len(items) // config.evaluate.batch)
  with telemetry.Progress(calls, f"ask {stage}") as progress:
    answers = ask(who, items, held, options, advance=progress.advance)
  found.summary |= benchmark.scores(asked.own, answers[FREE].grades, stage)
  found.summary |= results.scores(items, answers, stage, free=FREE)
  found.files[f"{stage}.jsonl"] = results.lines(items, answers)
  if map_use.exchanged() in answers:
    found.summary |= map_use.measure(
      who.policy,
      who.params,
      items,
      answers[map_use.exchanged()],
      who.codecs,
      batch=config.evaluate.batch,
      stage=stage,
      replacements=tuple(config.evaluate.replacements),
      seed=config.seed,
    )
  found.hits |= {mode: each.hits.tolist() for mode, each in answers.items()}
  found.gallery += show(
    items,
    answers,
    config.evaluate.gallery,
    {name: who.policy.modalities[name] for name in config.modalities},
  )


def ask(who: Speaker, items, held: list[str], options, **more):
  """Answers (`questions.Answers`) of the policy by mode; more: of `ask_in`."""
  return questions.ask_in(
    who.policy, who.params, items, held, who.codecs, **options, **more
  )


def score_maps(policy, params, samples, codecs, options, *, said="drawn"):
  """Scores of each modality that the samples have."""
  scores = {}
  for name, codec in codecs.items():
    have = [s for s in samples if codec.modality.read(s) is not None]
    if not have:
      continue
    maps = generate.draw(policy, params, have, name, codec, **options)
    objects = [
      np.zeros(codec.modality.read(s).shape[:2], bool)
      if s.instances is None
      else s.instances > 0
      for s in have
    ]
    truth = np.stack([codec.modality.read(s) for s in have])
    scores[name] = score(codec.modality, maps, truth, np.stack(objects))
    shown = [
      f"{metric} {value:.3f}"
      for metric, value in scores[name].items()
      if "/" not in metric
    ]
    print(paragraph(f"{LOG_LABEL}  {said} {name}:", shown), flush=True)
  return scores


def score_benchmark(each, answers, stage: str) -> dict:
  """Entries of the summary for a stage's answers by mode; prints them too."""
  summary = {}
  for mode, given in answers.items():
    name = stage if mode == FREE else f"{mode}/{stage}"
    summary |= benchmark.scores(each, given.grades, name)
  parts = [
    f"{key.removeprefix(each.key + '/')} {value:.3f}"
    for key, value in summary.items()
    if not key.endswith(("/n", "/ci95"))
  ]
  print(paragraph(f"{LOG_LABEL}  {each.module.TITLE}:", parts), flush=True)
  return summary


def score_heldout(items, who: Speaker, options, found: Found) -> None:
  """Adds free answers and maps of the held-out split to `found`."""
  # By the programs that have asked the run's own questions.
  answers = ask(who, items, [FREE], options, prefill_first=True)[FREE]
  found.unseen += answers.hits.tolist()
  found.summary |= heldout.scores(items, answers.hits, who.stage)
  drawn = score_maps(
    who.policy,
    who.params,
    samples_of(items),
    who.codecs,
    options,
    said="unseen",
  )
  found.summary |= {
    f"{heldout.HELDOUT}/{modality}/{name}/{who.stage}": value
    for modality, values in drawn.items()
    for name, value in values.items()
    if "/" not in name
  }


def show(items, found, count: int, modules) -> list[dict]:
  """Rows of the report's gallery, half adaptive, half with both maps.

  modules: name -> modality in use, whose maps are shown beside the true ones.

  One question of each image, the k-th of the k-th: nothing is picked by hand.
  """
  own = {name: modalities.settings_in(each) for name, each in modules.items()}
  own = {name: settings for name, settings in own.items() if settings}
  by_image = {}
  for i, item in enumerate(items):
    by_image.setdefault(item.sample.id, []).append(i)
  chosen = [own[k % len(own)] for k, own in enumerate(by_image.values())]
  rows = []
  shown = [
    mode for mode in (FREE, modes.BOTH, pairing.drawing_mode()) if mode in found
  ][:2]
  for k, i in enumerate(chosen[:count]):
    mode = shown[k % len(shown)]
    answers, item = found[mode], items[i]
    maps = {m.modality: m.target for m in answers.view.maps[i]}
    question, grade = item.question, answers.grades[i]
    rows.append(
      {
        "question": question.text,
        "options": question.options,
        "answer": question.answer,
        "predicted": said(answers.view.text[i]),
        "hit": bool(grade.hit),
        "family": question.family,
        "mode": mode,
        "trace": answers.view.text[i],
        "image": item.sample.image,
        "set_up": own,
        "maps": {
          name: (module.read(item.sample), maps.get(name))
          for name, module in modules.items()
        },
      }
    )
  return rows


def said(text: str) -> str:
  """What stands between the last answer tags."""
  _, opened, rest = text.rpartition("<answer>")
  return rest.partition("</answer>")[0].strip() if opened else ""
