"""The report's plain sentences: what a run shows, and what it does not.

Each sentence is computed from the summary and compares a score with the
baseline that could explain it away, so that a reader who reads only the top
of the page is not misled.
"""

import math

from cooper_jax.eval import report_tables as tables

_MAPS = (
  ("depth", "abs_rel", "Drawn depth is off by {v} on average"),
  ("segmentation", "miou", "Drawn classes reach a mean IoU of {v}"),
)


def tiles(summary):
  """(title, value, small print) of the headline numbers that exist."""
  found = []
  for key, title in (
    ("depth/abs_rel", "Depth error"),
    ("segmentation/miou", "Segmentation IoU"),
  ):
    value = tables.number(summary, key)
    base = tables.number(summary, f"{key}_constant")
    if value is not None:
      small = "" if base is None else f"constant map {_percent(base)}"
      found.append((title, _percent(value), small))
  last = last_stage(summary)
  if last:
    key = f"qa/accuracy/{last}"
    blind = tables.number(summary, "qa/accuracy/blind")
    small = "" if blind is None else f"blind {_percent(blind)}"
    value = _percent(tables.number(summary, key))
    found.append((f"Answers, {tables.STAGES[last]}", value, small))
  first = tables.number(summary, "reward/first")
  end = tables.number(summary, "reward/last")
  if first is not None and end is not None:
    found.append(("Reward", f"{end:.2f}", f"at first {first:.2f}"))
  return found


def claims(summary, variant=""):
  """Sentences for the top of the page, the most sobering ones included."""
  lines = []
  if variant == "smoke":
    lines.append(
      "This is a smoke run: it shows that the parts work together, not what "
      "the model can learn."
    )
  lines += _map_lines(summary)
  lines += _blind_lines(summary)
  lines += _stage_lines(summary)
  lines += _mode_lines(summary)
  lines.append(
    "One run, one seed: differences smaller than the intervals mean nothing. "
    "The test scenes come from the same rendered world as the training "
    "scenes; nothing here was measured on photographs."
  )
  return lines


def last_stage(summary):
  stages = [s for s in tables.STAGES if f"qa/accuracy/{s}" in summary]
  return stages[-1] if stages else None


def _map_lines(summary):
  lines = []
  for modality, metric, words in _MAPS:
    value = tables.number(summary, f"{modality}/{metric}")
    if value is None:
      continue
    line = words.format(v=_percent(value))
    base = tables.number(summary, f"{modality}/{metric}_constant")
    floor = tables.number(summary, f"{modality}/tokenizer_{metric}")
    beside = []
    if base is not None:
      beside.append(f"the same map for every image: {_percent(base)}")
    if floor is not None:
      beside.append(f"the tokenizer alone: {_percent(floor)}")
    lines.append(line + (f" ({'; '.join(beside)})." if beside else "."))
  return lines


def _blind_lines(summary):
  stage = last_stage(summary)
  if stage is None:
    return []
  above, compared = [], 0
  for family in tables.families(summary):
    key = f"qa/accuracy/{family}/{stage}"
    blind = tables.number(summary, f"qa/accuracy/{family}/blind")
    pair = tables.interval(summary, key)
    if blind is None or pair is None:
      continue
    compared += 1
    if pair[0] > blind:
      above.append(family.replace("_", " "))
  if not compared:
    return []
  line = (
    f"After {tables.STAGES[stage]} the answers are above the blind baseline, "
    f"interval included, in {len(above)} of {compared} families"
  )
  return [line + (f": {', '.join(above)}." if above else ".")]


def _stage_lines(summary):
  before = tables.number(summary, "qa/accuracy/sft")
  after = tables.number(summary, "qa/accuracy/grpo")
  if before is None or after is None:
    return []
  count = summary.get("qa/accuracy/grpo/n")
  return [
    f"GRPO moved all answers from {_percent(before)} to {_percent(after)}, "
    f"{_verdict(before, after, count)}."
  ]


def _mode_lines(summary):
  stage = last_stage(summary)
  direct = tables.number(summary, f"qa/accuracy/direct/{stage}")
  drawn = tables.number(summary, f"qa/accuracy/depth/{stage}")
  if direct is None or drawn is None:
    return []
  count = summary.get(f"qa/accuracy/depth/{stage}/n")
  return [
    f"Made to draw depth first it answers {_percent(drawn)} right, made to "
    f"answer at once {_percent(direct)}, {_verdict(direct, drawn, count)}."
  ]


def _verdict(before, after, count):
  """Whether two rates differ by more than chance, as unpaired samples of n."""
  points = 100 * (after - before)
  if not count:
    return f"{points:+.1f} points"
  spread = math.sqrt((before * (1 - before) + after * (1 - after)) / count)
  if abs(after - before) > 1.96 * spread:
    return f"{points:+.1f} points, more than chance explains"
  return f"{points:+.1f} points, no more than chance explains"


def _percent(value):
  return f"{100 * value:.1f}\u00a0%"
