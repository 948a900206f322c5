"""The report's curves: those that tell a stage's story, the others folded."""

import html
import math

from cooper_jax.report import figures, tables
from cooper_jax.training import telemetry

_STAGES = ("tokenizer", "pretrain", "sft", "grpo", "evaluate")
# In this order; then other rewards, accuracies and losses.
STORY = {
  "loss": "What is made smaller",
  "validation/accuracy": "Greedy answers to validation questions, share right",
  "reward/total": "The reward of an answer, all parts together",
  "reward/answer": "Its part for being right",
  "maps/drew": "Share of the answers that hold a map",
  "answer/drew": "Share right, of the answers that hold a map",
  "answer/text": "Share right, of the answers without a map",
  "length/text": "Text tokens of an answer",
  "length/codes": "Codes of its maps, 0 without any",
  "reward/depth": "Its part for the depth that was drawn",
  "reward/format": "Its part for tags in their places",
}
FIRST_CHARTS = ("loss", "reward", "accuracy", "map_rate")
LAST_CHARTS = (
  "grad_norm update_norm param_norm learning_rate skipped tokens speed".split()
)
# How a reward was computed, not what it was.
WORKINGS = ("abstained", "exceptions", "seconds", "std")
MOST_CHARTS = 9  # per stage in plain sight; the others fold away


def read_metrics(path):
  """{name: (steps, values)} of a metrics.jsonl.

  A step written twice, as after a resume, counts once with its last value; a
  line that is damaged is left out.
  """
  table = {}
  for record in telemetry.read_metrics(path):
    step = record["step"]
    for name, value in record.items():
      if name in ("step", "time") or isinstance(value, (str, bool)):
        continue
      if isinstance(value, (int, float)) or value is None:
        number = math.nan if value is None else float(value)
        table.setdefault(name, {})[step] = number
  return {
    name: (sorted(points), [points[s] for s in sorted(points)])
    for name, points in sorted(table.items())
  }


def curves(workdir, packages=()):
  """One group of charts for each metrics.jsonl under the workdir."""
  found = [*workdir.glob("*/metrics.jsonl"), *workdir.glob("*/*/metrics.jsonl")]
  body = ""
  for path in sorted(found, key=_stage_order):
    # What was measured once, at the end of a stage, is in the tables.
    metrics = {
      name: points
      for name, points in read_metrics(path).items()
      if len(points[0]) > 1
    }
    names = sorted(metrics, key=_chart_order)
    if not names:
      continue
    parts = path.parent.relative_to(workdir).parts
    stage = " / ".join(tables.STAGES.get(p, p.capitalize()) for p in parts)
    told = [n for n in names if not _is_still(n, metrics[n])][:MOST_CHARTS]
    body += f'<h3 class="stage">{html.escape(stage)}</h3>'
    body += _charts(metrics, told)
    rest = [name for name in names if name not in told]
    if rest:
      body += f"<details><summary>{len(rest)} more</summary>"
      body += _charts(metrics, rest) + "</details>"
  if not body:
    return ""
  note = "Faint: each logged value. Bold: running mean. Right: the last value."
  for stages, name, _ in packages:
    note += f" {stages} came with the package {name}, without their curves."
  return tables.section("Curves", body, note)


def _is_still(name, points):
  """Whether a curve tells nothing: it never moves, or is of the workings."""
  values = {value for value in points[1] if math.isfinite(value)}
  return len(values) < 2 or name.endswith(tuple(f"/{w}" for w in WORKINGS))


def _charts(metrics, names):
  shown = ""
  for name in names:
    steps, values = metrics[name]
    finite = [v for v in values if math.isfinite(v)]
    last = figures.short(finite[-1]) if finite else "–"
    drawn = figures.curve(steps, values, title=name)
    words = f"<small>{STORY[name]}</small>" if name in STORY else ""
    shown += (
      f"<figure><figcaption><b>{html.escape(name)}{words}</b><span>{last}"
      f"</span></figcaption>{drawn}</figure>"
    )
  return f'<div class="charts">{shown}</div>' if shown else ""


def _stage_order(path):
  stage = next((p for p in path.parts[::-1] if p in _STAGES), "")
  known = _STAGES.index(stage) if stage else len(_STAGES)
  return known, str(path)


def _chart_order(name):
  if name in STORY:
    return list(STORY).index(name) - 100, 0, name
  kind = name.split("/")[0]
  if kind in FIRST_CHARTS:
    place = FIRST_CHARTS.index(kind) - len(FIRST_CHARTS)
  else:
    place = 1 + LAST_CHARTS.index(kind) if kind in LAST_CHARTS else 0
  return place, name.count("/"), name
