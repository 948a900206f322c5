"""Pages of an experiment: the table as Markdown, the comparisons as CSV."""

import csv
import io
import math
import os
from pathlib import Path

from cooper_jax.experiments import lengths
from cooper_jax.experiments.results import Results

CSV_COLUMNS = ("comparison", "seeds", "n", "points", "low", "high")
CSV_COLUMNS += ("command", "commit")


def to_csv(found: Results) -> str:
  """The comparisons, a line each; empty figures are gaps."""
  out = io.StringIO()
  writer = csv.writer(out, lineterminator="\n")
  writer.writerow(CSV_COLUMNS)
  for each in found.differences:
    figures = ["", "", "", ""]
    if each.found:
      mean, low, high, n = each.found
      figures = [n, *(f"{100 * value:.2f}" for value in (mean, low, high))]
    seeds, commits = " ".join(map(str, each.seeds)), " ".join(each.commits)
    writer.writerow([each.name, seeds, *figures, found.command, commits])
  return out.getvalue()


def to_markdown(found: Results) -> str:
  """Verdicts; the tables of rows, lengths, modes and comparisons."""
  done = [row for row in found.rows if not row.gap]
  columns = list(done[0].values) if done else []
  lines = [f"`{found.command}`", ""]
  lines += [f"- {each}" for each in found.verdicts]
  lines += ["", "Accuracy in %, mean over seeds.", ""]
  columns = columns or ["gap"]
  lines += _head(["row", "seeds", "asked in", *columns])
  for row in found.rows:
    seeds = " ".join(map(str, row.seeds))
    figures = [row.gap, *[""] * (len(columns) - 1)]
    if not row.gap:
      figures = [_figure(name, row.values[name]) for name in columns]
    lines.append(_line([row.name, seeds, row.mode, *figures]))
  for name, values in found.unlearned.items():
    figures = [_figure(each, values.get(each, math.nan)) for each in columns]
    lines.append(_line([name, "", "", *figures]))
  lines += _lengths(done)
  changed = [row for row in done if row.modes]
  if changed:
    lines += ["", "Every mode before and after GRPO:", ""]
    lines += _head(["row", "mode", "before", "after", "gain (95 %)", "n"])
    for row in changed:
      for mode, before, after, (mean, low, high, n) in row.modes:
        cells = [f"{100 * before:.1f}", f"{100 * after:.1f}"]
        lines.append(
          _line([row.name, mode, *cells, _points(mean, low, high), str(n)])
        )
  title = "Differences, over seeds and questions"
  lines += ["", f"{title} (of a median factor in hundredths):", ""]
  lines += _head(["comparison", "points (95 %)", "n", "note"])
  for each in found.differences:
    if each.gap:
      lines.append(_line([each.name, "gap", "", each.gap]))
    else:
      *points, n = each.found
      lines.append(_line([each.name, _points(*points), str(n), each.said]))
  return "\n".join(lines) + "\n"


def _lengths(rows) -> list[str]:
  """The table of answers that are lengths, [] of none."""
  asked = [row for row in rows if row.factors.n]
  if not asked:
    return []
  lines = ["", "Lengths, with 95 % intervals over seeds and questions:", ""]
  titles = [f"within a factor of {most:g}, %" for most in lengths.FACTORS]
  lines += _head(["row", "asked in", *titles, "median error factor", "n"])
  for row in asked:
    shares = [
      f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"
      for mean, low, high in row.factors.within.values()
    ]
    mean, low, high = row.factors.median
    median = f"{mean:.2f} ({low:.2f} to {high:.2f})"
    if not math.isfinite(mean):
      median = "most can't be read"
    n = str(row.factors.n)
    lines.append(_line([row.name, row.mode, *shares, median, n]))
  return lines


def _points(mean, low, high) -> str:
  return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _figure(column: str, value: float) -> str:
  if math.isnan(value):
    return "-"
  if column in ("AbsRel", "mIoU"):
    return f"{value:.3f}"
  return f"{100 * value:.1f}"


def _head(cells) -> list[str]:
  return [_line(cells), "|" + "---|" * len(cells)]


def _line(cells) -> str:
  return f"| {' | '.join(cells)} |"


def write(found: Results, out) -> None:
  """Writes table.md and paper.csv, each whole or not at all."""
  for name, text in (
    ("table.md", to_markdown(found)),
    ("paper.csv", to_csv(found)),
  ):
    partial = Path(out) / f"{name}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, Path(out) / name)
