"""The report's plain sentences: what a run shows, and what it does not.

Each sentence is computed from the summary and compares a score with the
baseline that could explain it away, so that a reader who reads only the top
of the page is not misled.
"""

from cooper_jax import modalities
from cooper_jax.eval import pairing
from cooper_jax.report import grpo, tables
from cooper_jax.report.grpo import percent


def tiles(summary):
  """(title, value, small print) of the headline numbers that exist."""
  found = []
  for modality, (metric, title, _) in _headlines():
    key = f"{modality}/{metric}"
    value = tables.number(summary, key)
    base = tables.number(summary, f"{key}_constant")
    if value is not None:
      small = "" if base is None else f"constant map {percent(base)}"
      found.append((title, percent(value), small))
  last = last_stage(summary)
  if last:
    key = f"qa/accuracy/{last}"
    blind = tables.number(summary, "qa/accuracy/blind")
    small = "" if blind is None else f"blind {percent(blind)}"
    value = percent(tables.number(summary, key))
    found.append((f"Answers, {tables.STAGES[last]}", value, small))
  best = pairing.best_fixed(summary)
  if best is not None:
    value = tables.number(summary, f"qa/beyond/{best}")
    small = f"points; that way {grpo.way(best)}"
    title = "GRPO less best fixed way before"
    found.append((title, tables.signed(value), small))
  first = tables.number(summary, "reward/first")
  end = tables.number(summary, "reward/last")
  if first is not None and end is not None:
    found.append(("Reward", f"{end:.2f}", f"at first {first:.2f}"))
  return found


def _headlines():
  """(modality, its HEADLINE) of those that have one."""
  found = modalities.found().items()
  return [(name, module.HEADLINE) for name, module in found if module.HEADLINE]


def claims(summary, variant="", *, own=""):
  """Sentences for the top of the page, the most sobering ones included.

  own: data that is not of the rendered world alone, and its path.
  """
  lines = []
  if variant == "smoke":
    lines.append(
      "This is a smoke run: it shows that the parts work together, not what "
      "the model can learn."
    )
  lines += _map_lines(summary)
  lines += _blind_lines(summary)
  lines += grpo.lines(summary)
  lines += mode_lines(summary)
  lines += grpo.reading(summary)
  lines += grpo.unseen(summary)
  tested = (
    f"The test questions are of the same data as the training questions: {own}."
    if own
    else "The test scenes come from the same rendered world as the training "
    "scenes; nothing here was measured on photographs."
  )
  lines.append(
    "One run, one seed: differences smaller than the intervals mean nothing. "
    + tested
  )
  return lines


def last_stage(summary):
  stages = [s for s in tables.STAGES if f"qa/accuracy/{s}" in summary]
  return stages[-1] if stages else None


def _map_lines(summary):
  lines = []
  for modality, (metric, _, words) in _headlines():
    value = tables.number(summary, f"{modality}/{metric}")
    if value is None:
      continue
    line = words.format(v=percent(value))
    base = tables.number(summary, f"{modality}/{metric}_constant")
    floor = tables.number(summary, f"{modality}/tokenizer_{metric}")
    beside = []
    if base is not None:
      beside.append(f"the same map for every image: {percent(base)}")
    if floor is not None:
      beside.append(f"the tokenizer alone: {percent(floor)}")
    lines.append(line + (f" ({'; '.join(beside)})." if beside else "."))
  return lines


def _blind_lines(summary):
  stage = last_stage(summary)
  if stage is None:
    return []
  above, below = [], []
  for family in tables.families(summary):
    key = f"qa/accuracy/{family}/{stage}"
    blind = tables.number(summary, f"qa/accuracy/{family}/blind")
    pair = tables.interval(summary, key)
    if blind is None or pair is None:
      continue
    (above if pair[0] > blind else below).append(family.replace("_", " "))
  compared = len(above) + len(below)
  if not compared:
    return []
  line = (
    f"After {tables.STAGES[stage]} the answers are above the blind baseline, "
    f"interval included, in {len(above)} of {compared} families"
  )
  if below and len(below) < len(above):
    return [f"{line}: all but {', '.join(below)}."]
  return [line + (f": {', '.join(above)}." if above else ".")]


def mode_lines(summary):
  """A map drawn first against the ways without one, question by question."""
  stage = last_stage(summary)
  draws = pairing.drawing_mode()
  drawn = tables.number(summary, f"qa/accuracy/{draws}/{stage}")
  parts = []
  for mode, words in (
    ("text", "reasoning in text"),
    ("direct", "answering at once"),
  ):
    plain = tables.number(summary, f"qa/accuracy/{mode}/{stage}")
    if drawn is None or plain is None:
      continue
    key = f"qa/drawing/{mode}/{stage}"
    how = grpo.verdict(summary, key, drawn - plain)
    parts.append(f"against {words} ({percent(plain)}) {how}")
  if not parts:
    return []
  return [
    f"Made to draw {draws} first, after {tables.STAGES[stage]}, it is right in "
    f"{percent(drawn)}: {'; '.join(parts)}."
  ]
