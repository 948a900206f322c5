"""Figures of the default run in README and docs/results.md, from that run.

  python -m cooper_jax.report.readme runs/demo

Copies the figures of an evaluated workdir into docs/default_run.json, renders
the two blocks from them with the functions that write the report (eight lines
for README, the whole tables for docs/results.md), and prints the lines that
changed. A test renders the blocks again and finds them in the pages.
"""

import argparse
import datetime
import difflib
import json
import sys
import textwrap
from pathlib import Path

from cooper_jax.data import modes
from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError
from cooper_jax.eval import pairing
from cooper_jax.report import claims, grpo, tables
from cooper_jax.training.json_files import read_json
from cooper_jax.training.workdir import record

ROOT = Path(__file__).parents[2]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
FIGURES = ROOT / "docs" / "default_run.json"
BEGIN = "<!-- figures: written by cooper_jax.report.readme -->"
END = "<!-- figures end -->"
# What the blocks and the report's sentences read; /n and /ci95 come along.
_KEPT = (
  "depth/", "segmentation/", "maps/", "qa/accuracy/", "qa/macro/",
  "qa/factor2/", "qa/gain/", "qa/beyond/", "qa/drawing/", "qa/questions",
  "qa/images", "map_rate/", "map_use/gain/", "map_use/own/", "map_use/other/",
  "map_use/true/", "heldout/accuracy/", "heldout/gain",
)  # fmt: skip
_MAPS = {
  "depth/abs_rel": "depth, mean relative error",
  "depth/delta1": "depth, within a factor of 1.25",
  "depth/object_abs_rel": "depth on objects, mean relative error",
  "segmentation/miou": "segmentation, mean IoU",
}
WAYS = {
  modes.DIRECT: "the same, answered at once",
  modes.IN_TEXT: "the same, reasoning in text only",
  modes.BOTH: "the same, both maps drawn first",
}
FAMILIES = {
  "distance": '"how far is it", within 10 %',
  "nearer_to": '"which is nearer to it"',
  "reach": '"is it within reach"',
  "closer": '"which is closer"',
  "taller": '"which is taller"',
  "left_right": '"left or right"',
  "front_behind": '"in front or behind"',
  "count": '"how many"',
  "exists": '"is there a"',
  "height": '"how tall", within 10 %',
  "width": '"how wide", within 10 %',
}


def figures(workdir) -> dict:
  """{"run": who made it and when, "summary": its flat figures}.

  Raises UserError where the run was not evaluated before and after GRPO.
  """
  workdir = Path(workdir).expanduser()
  path = workdir / "summary.json"
  summary = pairing.complete(read_json(path), workdir)
  best = pairing.best_fixed(summary)
  if best is None or f"qa/gain/{pairing.FREE}" not in summary:
    raise UserError(
      f"{workdir} has no answers of the same questions before and after GRPO; "
      "give the workdir of a finished run of configs/grpo.py"
    )
  made = (record(workdir, "grpo") or {}).get("by") or [{}]
  when = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
  families = set(tables.families(summary))
  return {
    "run": {
      **{name: made[-1].get(name, "?") for name in ("command", "commit")},
      "machine": made[-1].get("machine", "?"),
      "date": f"{when:%d %B %Y}",
    },
    "summary": {
      key: value
      for key, value in sorted(summary.items())
      if key.startswith(_KEPT)
      and "iou/" not in key
      # Of the held-out split and the exchanged maps only what all share.
      and not (key.startswith(("heldout", "map_use")) and _of(families, key))
    },
  }


def _way(mode: str) -> str:
  return WAYS.get(mode, f"the same, {mode} drawn first")


def _of(families, key: str) -> bool:
  return any(part in families for part in key.split("/"))


def eight_lines(found: dict) -> str:
  """README's block: eight lines of the figures, each with its baselines."""
  summary = found["summary"]
  lines = ["| | after SFT | after GRPO | constant | blind |"]
  lines.append("|---|---|---|---|---|")

  def add(label, keys, shown):
    cells = [shown(summary, key) or "-" for key in keys]
    lines.append(f"| {label} | {' | '.join(cells)} |")

  for key in ("depth/abs_rel", "segmentation/miou"):
    known = f"maps/sft/{key}", f"maps/grpo/{key}", f"{key}_constant", ""
    add(f"drawn {_MAPS[key]}", known, _three)
  kinds = ("sft", "grpo", "constant", "blind")
  label = "answers, free to draw or not"
  add(label, [f"qa/accuracy/{kind}" for kind in kinds], _tenth)
  for mode in (modes.IN_TEXT, pairing.drawing_mode()):
    keys = [f"qa/accuracy/{mode}/{kind}" for kind in kinds[:2]]
    add(_way(mode), [*keys, "", ""], _tenth)
  label = "free answers that draw a map"
  add(label, [f"map_rate/{kind}" for kind in kinds[:2]] + ["", ""], _whole)
  label = "answers of the held-out split (pairs and words never trained on)"
  add(label, [f"heldout/accuracy/{kind}" for kind in kinds], _tenth)
  best = pairing.best_fixed(summary)
  decides = grpo.points(summary, f"qa/beyond/{best}")
  label = f"**free after GRPO less the best way held to before** ({best})"
  lines.append(f"| {label} | | **{decides}** | | |")
  return "\n\n".join([BEGIN, "\n".join(lines), END]).replace("\u00a0", " ")


def block(found: dict) -> str:
  """The block of docs/results.md: every table and sentence of the figures."""
  run, summary = found["run"], found["summary"]
  intro = (
    f"A run of `{run['command']}`, on the test split "
    f"({summary['qa/questions']:,} questions, {summary['qa/images']} images), "
    f"one seed (commit {run['commit'][:7]}, "
    f"{run['date']}; `docs/{FIGURES.name}`, which `python -m "
    "cooper_jax.report.readme runs/demo` writes with all that follows up "
    "to the table of families); the policy after SFT and after GRPO. Constant: "
    "the best answer, or map, that ignores the image. Blind: a classifier over "
    "the words of the question, trained on the training split."
  )
  drawing = (
    "How often it draws, left to choose, and what drawing is worth there: "
    "right when held to draw depth first less right when held to text, in "
    "points of the same questions, before GRPO, with paired 95\u00a0% "
    "intervals:"
  )
  bullets = [_wrap(line, "- ") for line in sentences(summary)]
  parts = [
    BEGIN, _wrap(intro), _table(summary), _wrap("What GRPO did:"),
    "\n".join(bullets), _wrap(drawing), _drawing(summary), END,
  ]  # fmt: skip
  return "\n\n".join(parts).replace("\u00a0", " ")


def sentences(summary) -> list[str]:
  """All that report and README say of what GRPO did, in the same words."""
  return [
    *grpo.lines(summary),
    *claims.mode_lines(summary),
    *grpo.reading(summary),
    *grpo.unseen(summary),
  ]


def _table(summary) -> str:
  """Before and after GRPO, beside what needs no learning."""
  lines = ["| | sft | grpo | constant | blind | tokenizer alone |"]
  lines.append("|---|---|---|---|---|---|")

  def add(label, keys, shown):
    cells = [shown(summary, key) for key in keys]
    lines.append(f"| {label} | {' | '.join(cells)} |")

  for key, label in _MAPS.items():
    modality, _, name = key.partition("/")
    beside = f"{key}_constant", "", f"{modality}/tokenizer_{name}"
    add(label, (f"maps/sft/{key}", f"maps/grpo/{key}", *beside), _three)
  kinds = ("sft", "grpo", "constant", "blind", "")
  label = "answers, free to draw or not"
  add(label, [f"qa/accuracy/{kind}" for kind in kinds], _tenth)
  for mode in modes.every():
    if mode == modes.ADAPTIVE:
      continue
    keys = [f"qa/accuracy/{mode}/{kind}" for kind in kinds[:2]]
    add(_way(mode), [*keys, "", "", ""], _tenth)
  best = pairing.best_fixed(summary)
  label = f"**free after GRPO less the best way held to before** ({best})"
  decides = grpo.points(summary, f"qa/beyond/{best}")
  lines.append(f"| {label} | | **{decides}** | | | |")
  label = "choice and yes or no, mean over families"
  add(label, [f"qa/macro/{kind}" for kind in kinds], _tenth)
  count = summary.get("qa/factor2/adaptive/sft/n")
  if count:
    keys = [f"qa/factor2/adaptive/{kind}" for kind in kinds[:2]]
    keys += [f"qa/factor2/{kind}" for kind in kinds[2:]]
    add(f"lengths, within a factor of 2 (n = {count})", keys, _tenth)
  for family, label in FAMILIES.items():
    count = summary.get(f"qa/accuracy/{family}/grpo/n")
    if count:
      keys = [f"qa/accuracy/{family}/{kind}" for kind in kinds]
      add(f"{label} (n = {count})", keys, _whole)
  return "\n".join(lines)


def _drawing(summary) -> str:
  lines = ["| family | draws, sft | draws, grpo | depth less text |"]
  lines.append("|---|---|---|---|")
  for name in ["", *tables.families(summary)]:
    part = f"{name}/" if name else ""
    cells = [_whole(summary, f"map_rate/{part}{s}") for s in ("sft", "grpo")]
    worth = f"qa/drawing/text/{part}{pairing.BEFORE}"
    if worth in summary:
      cells.append(grpo.points(summary, worth))
      label = name.replace("_", " ") or "all"
      lines.append(f"| {label} | {' | '.join(cells)} |")
  return "\n".join(lines)


def _three(summary, key) -> str:
  value = tables.number(summary, key)
  return "-" if value is None else f"{value:.3f}"


def _tenth(summary, key) -> str:
  value = tables.number(summary, key)
  return "" if value is None else grpo.percent(value)


def _whole(summary, key) -> str:
  value = tables.number(summary, key)
  return "" if value is None else grpo.percent(value, 0)


def _wrap(text: str, mark: str = "") -> str:
  return textwrap.fill(
    text,
    80,
    initial_indent=mark,
    subsequent_indent=" " * len(mark),
    break_on_hyphens=False,
  )


def rewritten(page: str, made: str, name: str = "README.md") -> str:
  """A page with its block made anew; UserError where the marks are gone."""
  before, begin, rest = page.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not (begin and end):
    raise UserError(
      f'{name} has no block "{BEGIN}" to "{END}"; put both lines where the '
      "figures shall stand"
    )
  return before + made + after


def as_text(found: dict) -> str:
  """JSON with a figure a line, so that a change of it is one of its lines."""
  parts = []
  for name, values in found.items():
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items()]
    inner = ",\n".join(lines)
    parts.append(f'"{name}": {{\n{inner}\n}}')
  return "{\n" + ",\n".join(parts) + "\n}\n"


def main(argv=None) -> int:
  """Writes figures and blocks, prints what changed; gives the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.report.readme",
    description=__doc__.splitlines()[0],
  )
  parser.add_argument("workdir", help="of a finished run of configs/grpo.py")
  asked = parser.parse_args(argv)
  old, new = {}, {}
  try:
    found = figures(asked.workdir)
    for path, render in ((README, eight_lines), (RESULTS, block)):
      old[path] = path.read_text(encoding="utf-8")
      new[path] = rewritten(old[path], render(found), path.name)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  FIGURES.parent.mkdir(exist_ok=True)
  FIGURES.write_text(as_text(found), encoding="utf-8")
  changed = []
  for path, text in new.items():
    path.write_text(text, encoding="utf-8")
    lines = difflib.unified_diff(
      old[path].splitlines(), text.splitlines(), lineterm="", n=0
    )
    changed += [c for c in lines if not c.startswith(("---", "+++", "@@"))]
  print("\n".join(changed) or "README.md and docs/results.md say this already")
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
