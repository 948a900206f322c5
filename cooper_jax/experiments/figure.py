"""Figure of an experiment: curves over labels and steps, and comparisons."""

import os
from pathlib import Path

import numpy as np

from cooper_jax.experiments import lengths
from cooper_jax.experiments.results import DISTANCE_AND_SIZE, Results

LINE_COLOURS = (
  "#4477aa",
  "#ee6677",
  "#228833",
  "#ccbb44",
  "#66ccee",
  "#aa3377",
)


def write(found: Results, path) -> None:
  """Writes the PNG; what is not finished is not in it."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  points = [row for row in found.rows if not row.gap and row.scenes]
  compared = [
    each
    for each in found.differences
    # A median is in hundredths of a factor, the others are points.
    if each.found and not each.name.endswith(lengths.MEDIAN)
  ]
  curves = {
    f"labelled scenes ({steps} steps of SFT)": _curves(points, "scenes", steps)
    for steps in _most_common(row.steps for row in points)
  } | {
    f"steps of SFT ({scenes} labelled scenes)": _curves(points, "steps", scenes)
    for scenes in _most_common(row.scenes for row in points)
  }
  curves = {title: lines for title, lines in curves.items() if lines}
  changed = [row for row in found.rows if row.modes]
  height = max(3.2, 0.3 * len(compared) + 1)
  width = len(curves) + 1 + bool(changed)
  figure, axes = plt.subplots(
    1, width, figsize=(5 * width, height), squeeze=False, layout="constrained"
  )
  axes = list(axes[0])
  for axis, (title, lines) in zip(axes, curves.items()):
    _draw_curves(axis, title, lines)
  if changed:
    _draw_modes(axes[len(curves)], changed)
  _draw_differences(axes[-1], compared)
  partial = Path(path).with_suffix(".partial")
  figure.savefig(partial, dpi=120, format="png", metadata={"Software": None})
  plt.close(figure)
  os.replace(partial, path)


def _most_common(values) -> list[int]:
  """The value that most rows have, in a list; [] of none."""
  values = list(values)
  return [max(sorted({*values}), key=values.count)] if values else []


def _curves(rows, axis: str, held: int) -> dict:
  """arm -> rows along an axis, the other held; arms of two points or more."""
  other = "steps" if axis == "scenes" else "scenes"
  found = {}
  for row in rows:
    if getattr(row, other) == held:
      found.setdefault(row.arm, {})[getattr(row, axis)] = row
  return {
    arm: dict(sorted(r.items())) for arm, r in found.items() if len(r) > 1
  }


def _draw_curves(axis, title: str, lines: dict) -> None:
  for (arm, rows), colour in zip(lines.items(), LINE_COLOURS * len(lines)):
    x, own = list(rows), list(rows.values())
    means = [100 * row.values[DISTANCE_AND_SIZE] for row in own]
    low, high = 100 * np.array([row.bounds for row in own]).T
    axis.plot(x, means, marker="o", color=colour, label=arm)
    axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
  axis.set_xscale("log")
  axis.set_xticks(sorted({x for rows in lines.values() for x in rows}))
  axis.xaxis.set_major_formatter("{x:g}")
  axis.minorticks_off()
  axis.set_xlabel(title)
  axis.set_ylabel(f"{DISTANCE_AND_SIZE}, %")
  axis.legend(frameon=False)


def _draw_modes(axis, rows) -> None:
  names = list(dict.fromkeys(mode for row in rows for mode, *_ in row.modes))
  for i, (row, colour) in enumerate(zip(rows, LINE_COLOURS * len(rows))):
    shift = 0.7 * ((i + 0.5) / len(rows) - 0.5)
    for mode, _, _, (mean, low, high, _) in row.modes:
      y, label = names.index(mode) + shift, row.name * (mode == names[0])
      axis.plot([100 * low, 100 * high], [y, y], color=colour)
      axis.plot(100 * mean, y, marker="o", color=colour, label=label or None)
  _finish(axis, names, "gain of GRPO by mode, points")
  axis.legend(  # above: intervals may lie anywhere within
    frameon=False,
    fontsize="small",
    ncols=2,
    loc="lower left",
    bbox_to_anchor=(-0.3, 1),
  )


def _draw_differences(axis, compared) -> None:
  for y, each in enumerate(compared):
    mean, low, high, _ = (100 * value for value in each.found)
    axis.plot([low, high], [y, y], color=LINE_COLOURS[0])
    axis.plot(mean, y, marker="o", color=LINE_COLOURS[0])
  _finish(axis, [each.name for each in compared], "points, 95 % interval")


def _finish(axis, names, title: str) -> None:
  axis.axvline(0, color="black", linewidth=0.8)
  axis.set_yticks(range(len(names)), names)
  axis.set_ylim(max(len(names), 1) - 0.5, -0.5)
  axis.set_xlabel(title)
