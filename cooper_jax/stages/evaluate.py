"""Stage 4: what the policies draw and answer on benchmarks, and the report.

Scores the SFT policy and, where the workdir holds it, the GRPO policy on the
same questions, beside chance, a constant and a model that reads the question
only, each rate with n and a 95 % interval. The test split of the run's data
(benchmark `embedded`) is asked in every mode of use, with its maps.
"""

from pathlib import Path

import numpy as np

from cooper_jax import plugins
from cooper_jax.data import counterfactual, mixture, modes, selection
from cooper_jax.data.sources import DataConfig
from cooper_jax.eval import (
  baselines,
  benchmark,
  heldout,
  map_use,
  pairing,
  questions,
  reading,
  results,
)
from cooper_jax.grading.metrics.maps import score
from cooper_jax.parallel import processes
from cooper_jax.policy import load_params, load_stage, make_policy
from cooper_jax.report import page
from cooper_jax.rollouts import generate, prompts
from cooper_jax.stages import tokenizer
from cooper_jax.training import telemetry
from cooper_jax.training.log_line import paragraph
from cooper_jax.training.workdir import add_summary, read_json, record

STAGE = "evaluate"
EMBEDDED = "embedded"  # the benchmark whose maps and modes are scored too
EVALUATED = ("sft", "grpo")
FREE = pairing.FREE  # the mode that the plain `qa/accuracy/<stage>` is of


def run(config, workdir) -> None:
  """Evaluates; of several processes one does, on its own devices."""
  processes.first_alone(STAGE, lambda: evaluate(config, workdir))


def evaluate(config, workdir) -> None:
  """Scores the policies, adds to summary.json and writes the report."""
  watch = telemetry.Stopwatch()
  settings, workdir = config.evaluate, Path(workdir)
  data = DataConfig.from_config(config)
  policy = make_policy(config)
  codecs = tokenizer.load(config, workdir)
  opened = benchmark.open_all(config)
  own = opened.pop(EMBEDDED, None)
  items = own.items if own else []
  samples = list({item.sample.id: item.sample for item in items}.values())
  summary = {"qa/questions": len(items), "qa/images": len(samples)}
  for each in opened.values():
    summary |= benchmark.baseline_scores(each)
  new = []
  if own:
    summary |= benchmark.baseline_scores(own)
    summary |= baselines.scores(items, own.blind)
    count = 0 if words_trained(workdir) else settings.heldout_questions
    new = heldout.open_items(data, count, seed=config.seed)
    say(summary, ("blind", "constant", "chance"), items)
  if new:
    for name, answers in baselines.answers(new, own.blind).items():
      hits = questions.hits(baselines.graded(answers, new))
      summary |= heldout.scores(new, hits, name)
  options = {
    "batch": settings.batch,
    "buckets": config.sampling.prompt_buckets,
  }
  gallery, hits, unseen, asked = [], {}, {}, {}
  trained = tokenizer.trained_on(workdir, codecs)
  if reads(config, trained):
    summary |= score_reading(config, workdir, policy, codecs)
  stages = [s for s in EVALUATED if is_there(workdir, s)]
  for stage in stages:
    params = load_stage(policy, config, workdir, stage)
    modes = prompts.modes_of(policy, config.sft.shares, trained)
    for name, each in opened.items():
      found = ask_benchmark(policy, params, each, modes, codecs, options)
      path = workdir / STAGE / name / f"{stage}.jsonl"
      results.write(path, each.items, found)
      summary |= score_benchmark(each, found, stage)
      asked.setdefault(name, {})[stage] = {m: a.hits for m, a in found.items()}
    if not own:
      continue
    scores = score_maps(policy, params, samples, trained, options)
    # The plain key is the last stage's: the policy that a run ends with.
    summary |= {
      f"{m}/{name}": v for m, s in scores.items() for name, v in s.items()
    }
    summary |= {
      f"maps/{stage}/{m}/{name}": v
      for m, s in scores.items()
      for name, v in s.items()
      if "/" not in name
    }
    found = {}
    held = prompts.modes_of(policy, config.sft.shares, trained)
    with telemetry.Progress(len(held), f"ask {stage}") as progress:
      for mode in held:
        found[mode] = questions.ask(
          policy, params, items, mode, codecs, **options
        )
        progress.advance()
    summary |= benchmark.scores(own, found[FREE].grades, stage)
    summary |= results.scores(items, found, stage, free=FREE)
    results.write(workdir / STAGE / f"{stage}.jsonl", items, found)
    if map_use.exchanged() in found:
      summary |= map_use.measure(
        policy,
        params,
        items,
        found[map_use.exchanged()],
        codecs,
        batch=settings.batch,
        stage=stage,
        replacements=tuple(settings.replacements),
        seed=config.seed,
      )
    if new:
      scores, unseen[stage] = score_heldout(
        policy, params, new, codecs, options, stage
      )
      summary |= scores
    say(summary, (stage,), items)
    if stage == stages[-1]:
      gallery = show(items, found, settings.gallery, config.modalities)
    hits[stage] = {mode: answers.hits for mode, answers in found.items()}
  if len(unseen) == len(EVALUATED):
    before, after = (unseen[stage] for stage in EVALUATED)
    summary |= pairing.difference(f"{heldout.HELDOUT}/gain", after, before)
  for name, each in asked.items():
    if len(each) == len(EVALUATED):
      before, after = (each[stage] for stage in EVALUATED)
      key = opened[name].key
      summary |= pairing.difference(f"{key}/gain", after[FREE], before[FREE])
      if opened[name].modes:
        summary |= pairing.by_mode(key, before, after)
  summary |= pairing.scores(hits, [item.question.family for item in items])
  # So far, for the report; the run's own count of the stage comes after it.
  summary[f"time/{STAGE}_s"] = round(watch.read()[0], 1)
  add_summary(workdir, summary)
  path = page.write_report(
    workdir,
    {
      "summary": read_json(workdir / "summary.json"),
      "gallery": gallery,
    },
  )
  print(f"{STAGE}  report: {path}", flush=True)


def reads(config, codecs) -> bool:
  """Whether there is a reading of depth maps to be measured."""
  return config.model.map_lookup and counterfactual.changeable() in codecs


def score_reading(config, workdir, policy, codecs) -> dict:
  """How well each trained policy reads maps, teacher-forced."""
  source = mixture.open_split(DataConfig.from_config(config), "validation")
  found = {}
  for stage in ("pretrain", *EVALUATED):
    if is_there(workdir, stage):
      averaged = config[stage].optim.ema_decay > 0
      params = load_params(policy, workdir / stage, averaged=averaged)
      if params is not None:  # pretraining may have come in a package
        found |= reading.measure(
          policy, params, source, config, codecs, stage=stage
        )
  return found


def words_trained(workdir: Path) -> bool:
  """Whether GRPO was in the held-out split's words, which are then no test."""
  found = record(workdir, "grpo") or {"settings": {}}
  known = found["settings"].get("grpo.phrasings") == selection.HELDOUT_WORDS
  if known:
    print(
      f"{STAGE}  held-out split left out: config.grpo.phrasings=heldout trained"
      " on its words",
      flush=True,
    )
  return known


def is_there(workdir: Path, stage: str) -> bool:
  """Whether a workdir holds a stage that ran to its end."""
  found = record(workdir, stage)
  return bool(found and found["finished"])


def score_maps(policy, params, samples, codecs, options, *, said="drawn"):
  """Scores of each modality that the samples have."""
  scores = {}
  for name, codec in codecs.items():
    have = [s for s in samples if codec.modality.read(s) is not None]
    if not have:
      continue
    maps = generate.draw(policy, params, have, name, codec, **options)
    objects = [
      np.zeros(s.image.shape[:2], bool)
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
    print(paragraph(f"{STAGE}  {said} {name}:", shown), flush=True)
  return scores


def ask_benchmark(policy, params, each, modes, codecs, options) -> dict:
  """Answers to a benchmark in the free mode, and in those of its own."""
  return {
    mode: questions.ask(
      policy, params, each.items, mode, codecs, **options, grade=each.grade
    )
    for mode in modes
    if mode == FREE or mode in each.modes
  }


def score_benchmark(each, found, stage: str) -> dict:
  """Entries of the summary for a stage's answers by mode; prints them too."""
  summary = {}
  for mode, answers in found.items():
    name = stage if mode == FREE else f"{mode}/{stage}"
    summary |= benchmark.scores(each, answers.grades, name)
  parts = [
    f"{key.removeprefix(each.key + '/')} {value:.3f}"
    for key, value in summary.items()
    if not key.endswith(("/n", "/ci95"))
  ]
  print(paragraph(f"{STAGE}  {each.module.TITLE}:", parts), flush=True)
  return summary


def score_heldout(policy, params, items, codecs, options, stage: str):
  """Scores of free answers and maps of the held-out split, and the hits [n]."""
  answers = questions.ask(policy, params, items, FREE, codecs, **options)
  found = heldout.scores(items, answers.hits, stage)
  samples = list({item.sample.id: item.sample for item in items}.values())
  drawn = score_maps(policy, params, samples, codecs, options, said="unseen")
  found |= {
    f"{heldout.HELDOUT}/{modality}/{name}/{stage}": value
    for modality, values in drawn.items()
    for name, value in values.items()
    if "/" not in name
  }
  return found, answers.hits


def show(items, found, count: int, names) -> list[dict]:
  """Rows of the report's gallery, half adaptive, half with both maps.

  names: the modalities in use, whose maps are shown beside the true ones.

  One question of each image, the k-th of the k-th: nothing is picked by hand.
  """
  modules = {name: plugins.find("modalities", name) for name in names}
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
