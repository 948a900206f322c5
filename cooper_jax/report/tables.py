"""Tables of the report: every score with its n, interval and baselines.

All of it is read from the flat summary, by the shape of the keys, so a new
modality, family or mode appears in the report with no change here.
"""

import html
import math

from cooper_jax.data import modes
from cooper_jax.eval import pairing
from cooper_jax.report import figures

STAGES = {"pretrain": "Pretrain", "sft": "SFT", "grpo": "GRPO"}
BASELINES = {
  "blind": "blind: sees the question only",
  "constant": "constant: best fixed answer",
  "chance": "chance",
}
WAYS = {
  modes.DIRECT: "Answers at once",
  modes.IN_TEXT: "Reasons in text",
  modes.BOTH: "Always draws both maps",
  modes.ADAPTIVE: "Decides for itself",
}
LOWER_IS_BETTER = ("abs_rel", "rmse", "error", "degrees")
METRIC_TITLES = {
  "abs_rel": "Relative error",
  "object_abs_rel": "Relative error on objects",
  "delta1": "Within a factor of 1.25",
  "object_delta1": "Within 1.25, on objects",
  "rmse": "RMSE, m",
  "miou": "Mean IoU",
  "object_miou": "Mean IoU of objects",
  "room_miou": "Mean IoU of room surfaces",
  "accuracy": "Pixel accuracy",
  "degrees": "Mean angle, degrees",
  "usage": "Share of the codes used",
  "perplexity": "Perplexity of the codes",
}
# Keys that begin otherwise belong to a modality.
NOT_MAPS = frozenset(
  "qa validation benchmarks maps map_rate map_use reading heldout reward time"
  " speed tokenizer pretrain sft grpo evaluate".split()
)


def way(mode):
  """A mode of use in words."""
  return WAYS.get(mode, f"Always draws {mode}")


def rates(summary):
  """{(name, kind): key} of `qa/accuracy/<name>/<kind>`."""
  found = {}
  for key in summary:
    parts = key.split("/")
    if parts[:2] != ["qa", "accuracy"] or len(parts) != 4:
      continue
    if parts[3] in STAGES or parts[3] in BASELINES:
      found[parts[2], parts[3]] = key
  return found


def families(summary):
  names = {name for name, _ in rates(summary)}
  return sorted(names - set(modes.every()))


def maps(summary):
  """Per modality: its metrics beside tokenizer floor and constant map."""
  groups = {}
  for key in summary:
    modality, _, rest = key.partition("/")
    if modality in NOT_MAPS or not rest or rest.endswith(("/n", "/ci95")):
      continue
    name = rest.removesuffix("_constant").removeprefix("tokenizer_")
    groups.setdefault(modality, {}).setdefault(name, None)
  shown = ""
  facts = [said for modality in groups if (said := _facts(summary, modality))]
  for modality, names in groups.items():
    names = sorted(names, key=_metric_order)
    one = [name for name in names if "/" not in name]
    parts = [name for name in names if "/" in name]  # of each class
    shown += f"<div>{_map_table(summary, modality, one)}"
    if parts:
      shown += f"<details><summary>{len(parts)} more, class by class</summary>"
      shown += _map_table(summary, modality, parts) + "</details>"
    shown += "</div>"
  if not shown:
    return ""
  note = (
    "Drawn: by the model, from the image. Tokenizer alone: the true map "
    "through codes and back, the floor of what can be drawn. Best constant "
    "map: the same map for every image. IoU: the overlap of drawn and true "
    "area over their union. Perplexity of the codes: how many codes there "
    "would be, were they used alike. ↓ lower is better, ↑ higher."
  )
  note = " ".join([note, *facts])
  return section("Maps", f'<div class="pair">{shown}</div>', note)


def _facts(summary, modality) -> str:
  """What the metrics of a modality are over, in a sentence; "" unknown."""
  head = f"tokenizer/over/{modality}/"
  found = {k[len(head) :]: v for k, v in summary.items() if k.startswith(head)}
  parts = [f"{name.replace('_', ' ')} {v:g}" for name, v in found.items()]
  return f"{title_of(modality)}: {', '.join(parts)}." if parts else ""


def _map_table(summary, modality, names):
  body = "<tbody>"
  for name in names:
    lower = name.endswith(LOWER_IS_BETTER)
    arrow = "↓" if lower else "↑"
    cells = [
      score(summary, f"{modality}/{name}", percent=False, strong=True),
      score(summary, f"{modality}/tokenizer_{name}", percent=False),
      score(summary, f"{modality}/{name}_constant", percent=False),
    ]
    label = METRIC_TITLES.get(name, title_of(name.replace("iou/", "IoU of ")))
    body += row(f"{label}\u00a0<small>{arrow}</small>", cells)
  head = (title_of(modality), "Drawn", "Tokenizer alone", "Constant map")
  return table(head, body + "</tbody>", wide=True)


def answers(summary):
  """Answers per family beside blind, constant and chance."""
  names, found = families(summary), rates(summary)
  stages = [s for s in STAGES if any((n, s) in found for n in names)]
  stages = stages or [s for s in STAGES if f"qa/accuracy/{s}" in summary]
  if not stages:
    return ""
  plot, body = [], "<tbody>"
  for name in [None, *names]:

    def key(kind, name=name):
      return f"qa/accuracy/{name}/{kind}" if name else f"qa/accuracy/{kind}"

    label = title_of(name) if name else "All"
    scores = [
      (f"score {s}", number(summary, key(s)), interval(summary, key(s)))
      for s in stages
    ]
    marks = [(b, number(summary, key(b))) for b in BASELINES]
    plot.append(
      (
        label,
        [s for s in scores if s[1] is not None],
        [m for m in marks if m[1] is not None],
      )
    )
    body += _beside(summary, label, key, stages, strong=name is None)
    if name is None:
      body += _in_short(summary, stages)
  body += "</tbody>"
  shown = [(f"score {s}", STAGES[s]) for s in stages]
  shown += [(name, words) for name, words in BASELINES.items()]
  figure = figures.intervals(plot, shown, title="Answers right, per family")
  head = ("Family", *(STAGES[s] for s in stages), "Blind", "Const.", "Chance")
  return section(
    "Answers",
    f'<div class="pair"><div class="figure">{figure}</div>'
    f"{table(head, body)}</div>",
    "Per cent of test questions answered right, the model left to choose how, "
    "with 95 % intervals. A score means something only by its distance from "
    "blind (a classifier that sees the question only) and constant (the best "
    "fixed answer).",
  )


def _beside(summary, label, key, stages, *, strong=False):
  """A row of stages and baselines, the key of each by its name."""
  cells = [score(summary, key(s), strong=True) for s in stages]
  cells += [score(summary, key(b), brief=True) for b in BASELINES]
  counts = (summary.get(key(s) + "/n") for s in stages)
  count = next((n for n in counts if n is not None), None)
  return row(label + count_of(count), cells, strong=strong)


def _in_short(summary, stages):
  """What several families have in common."""
  body = ""
  if any(f"qa/macro/{s}" in summary for s in stages):
    label = "Choice and yes/no, each family alike"
    body += _beside(summary, label, lambda s: f"qa/macro/{s}", stages)

  def factor(kind):
    free = "adaptive/" if kind in stages else ""
    return f"qa/factor2/{free}{kind}"

  if any(factor(s) in summary for s in stages):
    label = "Lengths within a factor of 2"
    body += _beside(summary, label, factor, stages)
  return body


def speed(summary, packages=()):
  """Time and speed of each stage; `packages` are (stages, name, hours)."""
  names = [
    k.split("/")[1].removesuffix("_s") for k in summary if k.startswith("time/")
  ]
  if not names:
    return ""
  body, total = "<tbody>", 0.0
  for stages, package, hours in packages:
    label = f"{html.escape(stages)}: in package {html.escape(package)}"
    cells = [clock(3600 * hours) if hours else "–", "", "", ""]
    body += row(f"{label} <small>trained elsewhere</small>", cells)
  for name in sorted(names, key=_stage_order):
    seconds = number(summary, f"time/{name}_s") or 0.0
    total += seconds
    cells = [clock(seconds)]
    for field in ("steps_per_s", "tokens_per_s", "gemm_share"):
      value = number(summary, f"speed/{name}/{field}")
      if value is None:
        cells.append("–")
      elif field == "gemm_share":
        cells.append(f"{100 * value:.0f} %")
      else:
        cells.append(figures.short(float(f"{value:.3g}")))
    body += row(STAGES.get(name, title_of(name)), cells)
  label = "All of this run" if packages else "All"
  body += row(label, [clock(total), "", "", ""], strong=True) + "</tbody>"
  head = ("Stage", "Time", "Steps/s", "Tokens/s", "Share of peak")
  note = (
    "Share of peak: arithmetic done against the fastest matrix product "
    "measured on the same machine. Evaluation: up to the writing of this page."
  )
  return section("Time and speed", table(head, body), note)


def _stage_order(name):
  known = ("tokenizer", *STAGES, "evaluate")
  return known.index(name) if name in known else len(known)


def number(summary, key):
  """The finite number under `key`, or None."""
  value = summary.get(key)
  if isinstance(value, (int, float)) and math.isfinite(value):
    return float(value)
  return None


def interval(summary, key):
  pair = summary.get(f"{key}/ci95")
  return None if pair is None else (float(pair[0]), float(pair[1]))


def score(summary, key, *, percent=True, strong=False, brief=False):
  """One cell: the value over its interval."""
  value, pair = number(summary, key), interval(summary, key)
  if value is None:
    return "–"
  digits = 3 if abs(value) < 10 else 1
  shown = f"{100 * value:.1f}" if percent else f"{value:.{digits}f}"
  shown = f"<b>{shown}</b>" if strong else shown
  if pair is None or brief:
    return shown
  low, high = (f"{100 * v:.0f}" if percent else f"{v:.3f}" for v in pair)
  return f"{shown}<small>{low}–{high}</small>"


def points(summary, key):
  """One cell: a paired difference in points; bold past what chance explains."""
  value, pair = number(summary, key), interval(summary, key)
  if value is None:
    return "–"
  shown = signed(value)
  if pairing.sure(summary, key):
    shown = f"<b>{shown}</b>"
  else:  # light in a bold row too
    shown = f'<span class="chance">{shown}</span>'
  if pair is None:
    return shown
  return f"{shown}<small>{signed(pair[0])} to {signed(pair[1])}</small>"


def signed(share):
  """In: -0.0002, 0.033   Out: "0.0", "+3.3", in points."""
  shown = f"{100 * share:+.1f}"
  return "0.0" if shown in ("-0.0", "+0.0") else shown


def row(label, cells, strong=False):
  style = ' class="all"' if strong else ""
  inner = "".join(f"<td>{cell}</td>" for cell in cells)
  return f'<tr{style}><th scope="row">{label}</th>{inner}</tr>'


def table(head, body, wide=False):
  cells = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in head)
  style = ' class="wide"' if wide else ""
  return (
    f'<div class="scroll"><table{style}><thead><tr>{cells}</tr></thead>'
    f"{body}</table></div>"
  )


def section(title, body, note=""):
  anchor = title.lower().replace(" ", "-")
  note = html.escape(note.replace(" %", "\u00a0%"))
  note = f'<p class="note">{note}</p>' if note else ""
  return f'<section id="{anchor}"><h2>{title}</h2>{note}{body}</section>'


def clock(seconds):
  seconds = round(seconds)
  if seconds < 60:
    return f"{seconds}\u00a0s"
  if seconds >= 3600:
    minutes = seconds % 3600 // 60
    return f"{seconds // 3600}\u00a0h {minutes:02d}\u00a0min"
  return f"{seconds // 60}\u00a0min {seconds % 60:02d}\u00a0s"


def _metric_order(name):
  known = list(METRIC_TITLES)
  return (known.index(name) if name in known else len(known), name)


def count_of(count):
  return "" if count is None else f"<small>n {int(count):,}</small>"


def title_of(name):
  words = html.escape(name.replace("_", " "))
  return words[:1].upper() + words[1:]
