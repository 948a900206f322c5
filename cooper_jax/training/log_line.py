"""Log line of a training step: step, the metrics that a stage shows, speed.

All the rest of the metrics stands in metrics.jsonl and in TensorBoard.
"""

import math
from collections.abc import Mapping

from cooper_jax.training import telemetry

# Where a stage names nothing, names without "/" are shown, but for these.
UNSHOWN = ("param_norm", "update_norm", "tokens", "skipped")


def line(step: int, steps: int, means, rate, shown=None) -> str:
  """The message of a log step, of at most `telemetry.MESSAGE` characters.

  means: metrics by name; rate: of `loop.Rate`. shown: metric -> how it is
  written, e.g. "right {:.0%}", most important first: what has no room is left
  out from the end. A step that was skipped is always told.
  """
  if shown is None:
    plain = [name for name in means if "/" not in name and name not in UNSHOWN]
    shown = {name: f"{name} {{:.4g}}" for name in plain}
  parts = [f"{step}/{steps}"]
  if means.get("skipped", 0) > 0:
    parts.append(f"skipped {means['skipped']:.2g}")
  parts += [
    written.format(means[name])
    for name, written in shown.items()
    if name in means and not math.isnan(means[name])
  ]
  return fitted([*parts, *speeds(rate)])


def speeds(rate: Mapping[str, float]) -> list[str]:
  """How fast it is, the most telling first."""
  if not rate:
    return []
  parts = [f"{rate['steps_per_s']:.3g} step/s"]
  if "tokens_per_s" in rate:
    parts.append(f"{rate['tokens_per_s'] / 1000:.3g}k tok/s")
  parts.append(f"{rate['cpu_cores']:.1f}/{telemetry.cores()} cores")
  if "gemm_share" in rate:
    parts.append(f"{rate['gemm_share']:.0%} of gemm")
  return parts


def fitted(parts, room: int = telemetry.MESSAGE) -> str:
  """The first of the parts that fit, a space between them."""
  said = parts[0]
  for part in parts[1:]:
    if len(said) + 1 + len(part) > room:
      break
    said += f" {part}"
  return said


def paragraph(head: str, parts, width: int = 80) -> str:
  """All parts after a head, in as many lines of a width as they need."""
  lines = [head]
  for part in parts:
    if len(lines[-1]) + 2 + len(part) > width:
      lines.append(" " * 8)
    lines[-1] += f"  {part}"
  return "\n".join(lines)
