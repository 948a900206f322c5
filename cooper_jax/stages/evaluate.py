"""Stage 4: what the policies draw and answer on benchmarks, and the report.

Scores the SFT policy and, where the workdir holds it, the GRPO policy on the
same questions, beside chance, a constant and a model that reads the question
only, each rate with n and a 95 % interval. The test split of the run's data
(benchmark `embedded`) is asked in every mode of use, with its maps.
"""

from pathlib import Path

import numpy as np

from cooper_jax.data import mixture, selection
from cooper_jax.data.sources import DataConfig
from cooper_jax.eval import (
  baselines,
  benchmark,
  heldout,
  kept,
  pairing,
  questions,
  reading,
  stage_scores,
)
from cooper_jax.eval.stage_scores import FREE, Found, QuestionSet, Speaker
from cooper_jax.parallel import processes
from cooper_jax.policy import make_policy
from cooper_jax.report import page
from cooper_jax.stages import tokenizer
from cooper_jax.trained import load_params, load_stage
from cooper_jax.training import telemetry
from cooper_jax.training.json_files import read_json
from cooper_jax.training.log_line import paragraph
from cooper_jax.training.workdir import add_summary, record

STAGE = "evaluate"
EVALUATED = ("sft", "grpo")


def run(config, workdir) -> None:
  """Evaluates; of several processes one does, on its own devices."""
  processes.first_alone(STAGE, lambda: evaluate(config, workdir))


def evaluate(config, workdir) -> None:
  """Scores the policies, adds to summary.json and writes the report."""
  watch, workdir = telemetry.Stopwatch(), Path(workdir)
  policy = make_policy(config)
  codecs = tokenizer.load(config, workdir)
  trained = tokenizer.trained_on(workdir, codecs)
  asked = open_asked(config, workdir, trained)
  summary = baseline_scores(asked)
  if asked.validation:
    summary |= pretrained_reading(config, workdir, policy, codecs, asked)
  found, about = {}, {}
  for stage in EVALUATED:
    if is_there(workdir, stage):
      params = load_stage(policy, config, workdir, stage)
      who = Speaker(stage, policy, params, codecs, trained)
      found[stage], said = score_stage(config, workdir, asked, who)
      if said:
        about[f"evaluation of {stage}"] = said
      save_answers(workdir / STAGE, found[stage].files)
      summary |= found[stage].summary
      if asked.own:
        say(summary, (stage,), asked.items)
  summary |= paired(asked, found)
  # So far, for the report; the run's own count of the stage comes after it.
  summary[f"time/{STAGE}_s"] = round(watch.read()[0], 1)
  add_summary(workdir, summary)
  last = list(found.values())[-1] if found else Found()
  path = page.write_report(
    workdir,
    {
      "summary": read_json(workdir / "summary.json"),
      "gallery": last.gallery,
      "about": about,
    },
  )
  print(f"{STAGE}  report: {path}", flush=True)


def open_asked(config, workdir, trained) -> QuestionSet:
  """The questions of every benchmark, and the maps that are read."""
  data = DataConfig.from_config(config)
  opened = benchmark.open_all(config)
  own = opened.pop(pairing.EMBEDDED, None)
  unseen, validation = [], []
  if own:
    count = config.evaluate.heldout_questions
    count = 0 if words_trained(workdir) else count
    unseen = heldout.open_items(data, count, seed=config.seed)
  if stage_scores.reads(config, trained):
    validation = reading.samples_of(mixture.open_tolerant(data, "validation"))
  return QuestionSet(own, opened, unseen, validation)


def baseline_scores(asked: QuestionSet) -> dict:
  """What is right without looking at an image; prints it too."""
  own = asked.own
  summary = {
    "qa/questions": len(asked.items),
    "qa/images": len(asked.samples),
  }
  for each in asked.others.values():
    summary |= benchmark.baseline_scores(each)
  if not own:
    return summary
  summary |= benchmark.baseline_scores(own)
  summary |= baselines.scores(own.items, own.blind)
  say(summary, ("blind", "constant", "chance"), own.items)
  if asked.unseen:
    for name, answers in baselines.answers(asked.unseen, own.blind).items():
      hits = questions.hits(baselines.graded(answers, asked.unseen))
      summary |= heldout.scores(asked.unseen, hits, name)
  return summary


def pretrained_reading(config, workdir, policy, codecs, asked) -> dict:
  """How well the pretrained policy reads maps; it answers no questions."""
  stage = "pretrain"
  if not is_there(workdir, stage):
    return {}
  averaged = config[stage].optim.ema_decay > 0
  params = load_params(
    policy, workdir / stage, averaged=averaged, config=config
  )
  if params is None:  # it came in a package, within SFT
    return {}
  return reading.measure(
    policy, params, asked.validation, config, codecs, stage=stage
  )


def score_stage(config, workdir, asked: QuestionSet, who) -> tuple[Found, str]:
  """What a stage's policy answers, and where that was kept, "" = asked now."""
  package = record(workdir, who.stage).get("package")
  if package and config.evaluate.reuse:
    return kept.measure(config, asked, who, package=package["name"])
  return stage_scores.measure(config, asked, who), ""


def save_answers(folder: Path, files: dict[str, str]) -> None:
  """Writes every answer, for `cooper_jax.compare` and paired differences."""
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def paired(asked: QuestionSet, found: dict[str, Found]) -> dict:
  """Differences between stages, and between ways of answering."""
  summary = {}
  if len(found) == len(EVALUATED):
    before, after = (found[stage] for stage in EVALUATED)
    if asked.unseen:
      key = f"{heldout.HELDOUT}/gain"
      summary |= pairing.difference(key, after.unseen, before.unseen)
    for name, each in asked.others.items():
      was, now = (
        {mode: np.array(hits) for mode, hits in some.benchmarks[name].items()}
        for some in (before, after)
      )
      summary |= pairing.difference(f"{each.key}/gain", now[FREE], was[FREE])
      if each.modes:
        summary |= pairing.by_mode(each.key, was, now)
  hits = {
    stage: {mode: np.array(each) for mode, each in some.hits.items()}
    for stage, some in found.items()
    if some.hits
  }
  families = [item.question.family for item in asked.items]
  return summary | pairing.scores(hits, families)


def words_trained(workdir: Path) -> bool:
  """Whether a stage was in the held-out split's words, no test of it then."""
  for stage in selection.PHRASED:
    settings = (record(workdir, stage) or {}).get("settings", {})
    if settings.get(f"{stage}.phrasings") == selection.HELDOUT_WORDS:
      print(
        f"{STAGE}  held-out split left out: config.{stage}.phrasings=heldout"
        " trained on its words",
        flush=True,
      )
      return True
  return False


def is_there(workdir: Path, stage: str) -> bool:
  """Whether a workdir holds a stage that ran to its end."""
  found = record(workdir, stage)
  return bool(found and found["finished"])


def say(summary, names, items) -> None:
  """Prints accuracies by family, one line a name."""
  groups = questions.families(items)
  for name in names:
    head = f"{STAGE}  {name} {summary[f'qa/accuracy/{name}']:.3f}"
    parts = [
      f"{family} {summary[f'qa/accuracy/{family}/{name}']:.2f}"
      for family in groups
    ]
    print(paragraph(head, parts), flush=True)
