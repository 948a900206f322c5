"""Writes one self-contained report of a run: report/index.html.

It gathers what the stages left behind (their metrics.jsonl and the summary)
with the gallery that the evaluation hands over, and puts every score beside
the baseline that could explain it away. No network, no other file.
"""

import datetime
import html
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import sys

from cooper_jax.eval import (
  drawing,
  report_heldout,
  report_page,
  report_picture,
  report_use,
)
from cooper_jax.eval import report_claims as claims
from cooper_jax.eval import report_figures as figures
from cooper_jax.eval import report_tables as tables
from cooper_jax.eval.report_gallery import gallery

STAGES = ("tokenizer", "pretrain", "sft", "grpo", "evaluate")
FIRST_CHARTS = ("loss", "reward", "accuracy", "map_rate")
LAST_CHARTS = (
  "grad_norm update_norm param_norm learning_rate skipped tokens speed".split()
)
MOST_CHARTS = 9  # per stage in plain sight; the others fold away
LIBRARIES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write_report(workdir, results):
  """Writes `workdir`/report/index.html, returns its path; a picture beside it.

  `results` holds "summary" (flat, as in summary.json) and "gallery" (a list
  of rows, see report_gallery), and may hold "about" (lines for the list of
  facts, which replace or add to date, machine, command and versions).
  """
  workdir = pathlib.Path(workdir)
  summary = results["summary"]
  about = facts(workdir) | dict(results.get("about") or {})
  sections = [
    ("Maps", tables.maps(summary)),
    ("Answers", tables.answers(summary)),
    ("Ways of answering", tables.modes(summary)),
    ("When it draws", tables.map_rates(summary)),
    ("Is the map read", report_use.table(summary)),
    ("Never seen", report_heldout.table(summary)),
    ("Curves", curves(workdir)),
    ("Time and speed", tables.speed(summary)),
    ("Gallery", gallery(results["gallery"])),
  ]
  page = report_page.page(
    title=f"cooper_jax: {workdir.resolve().name}",
    lead=f"A model that draws depth and segmentation while it reasons. "
    f"{about['date']}, {about['machine']}.",
    tiles=claims.tiles(summary),
    claims=claims.claims(summary, str(about.get("variant", ""))),
    about=about,
    sections=sections,
  )
  path = workdir / "report" / "index.html"
  path.parent.mkdir(parents=True, exist_ok=True)
  scratch = path.with_suffix(".partial")
  scratch.write_text(page, encoding="utf-8")
  scratch.replace(path)
  chosen = report_picture.choose(results["gallery"])
  if chosen:
    picture = report_picture.gallery_picture(chosen)
    (path.parent / "gallery.png").write_bytes(drawing.png(picture))
  return path


def facts(workdir):
  """Date, machine, command, config and versions of this process."""
  import jax

  device = jax.devices()[0]
  chips = ""
  if device.platform != "cpu":
    chips = f", {jax.device_count()} x {device.device_kind}"
  found = {
    "date": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
    "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}){chips}",
    "command": " ".join(["python -m cooper_jax.main", *sys.argv[1:]]),
  }
  config = workdir / "config.json"
  if config.exists():
    values = json.loads(config.read_text(encoding="utf-8"))
    for name in ("variant", "pipeline", "seed"):
      if name in values:
        value = values[name]
        listed = isinstance(value, list)
        found[name] = ", ".join(map(str, value)) if listed else value
  versions = [f"Python {platform.python_version()}"]
  for library in LIBRARIES:
    versions.append(f"{library} {importlib.metadata.version(library)}")
  return found | {"versions": ", ".join(versions)}


def read_metrics(path):
  """{name: (steps, values)} of a metrics.jsonl.

  A step written twice, as after a resume, counts once with its last value; a
  last line torn by a crash is left out.
  """
  table = {}
  for line in path.read_text(encoding="utf-8").splitlines():
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue
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


def curves(workdir):
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
    body += f'<h3 class="stage">{html.escape(stage)}</h3>'
    body += _charts(metrics, names[:MOST_CHARTS])
    rest = names[MOST_CHARTS:]
    if rest:
      body += f"<details><summary>{len(rest)} more</summary>"
      body += _charts(metrics, rest) + "</details>"
  note = "Faint: each logged value. Bold: running mean. Right: the last value."
  return tables.section("Curves", body, note) if body else ""


def _charts(metrics, names):
  shown = ""
  for name in names:
    steps, values = metrics[name]
    finite = [v for v in values if math.isfinite(v)]
    last = figures.short(finite[-1]) if finite else "–"
    drawn = figures.curve(steps, values, title=name)
    shown += (
      f"<figure><figcaption><b>{html.escape(name)}</b><span>{last}</span>"
      f"</figcaption>{drawn}</figure>"
    )
  return f'<div class="charts">{shown}</div>'


def _stage_order(path):
  stage = next((p for p in path.parts[::-1] if p in STAGES), "")
  known = STAGES.index(stage) if stage else len(STAGES)
  return known, str(path)


def _chart_order(name):
  kind = name.split("/")[0]
  if kind in FIRST_CHARTS:
    place = FIRST_CHARTS.index(kind) - len(FIRST_CHARTS)
  else:
    place = 1 + LAST_CHARTS.index(kind) if kind in LAST_CHARTS else 0
  return place, name.count("/"), name
