"""The sentences on what GRPO did, for the report and docs/results.md alike.

A gain of the free policy is never told alone: beside it stands the best fixed
way of answering before GRPO, which is what a rule, and no reinforcement, would
have reached.
"""

import numpy as np

from cooper_jax.data import modes
from cooper_jax.eval import pairing
from cooper_jax.report import tables

FREE, BEFORE, AFTER = pairing.FREE, pairing.BEFORE, pairing.AFTER


def lines(summary) -> list[str]:
  """Sentences on GRPO; [] of a run without it."""
  before = tables.number(summary, f"qa/accuracy/{BEFORE}")
  after = tables.number(summary, f"qa/accuracy/{AFTER}")
  if before is None or after is None:
    return []
  found = [
    f"Left to choose how to answer, it is right in {percent(before)} before "
    f"GRPO and in {percent(after)} after it: "
    f"{verdict(summary, f'qa/gain/{FREE}', after - before)}."
  ]
  return [
    *found, _beyond(summary, after), *_each(summary), *_draws(summary),
  ]  # fmt: skip


def _beyond(summary, after) -> str:
  """The row without which nothing is said of GRPO."""
  best = pairing.best_fixed(summary) or _best_untested(summary)
  if best is None:
    return (
      "Fixed ways of answering were not measured before GRPO, so this may be "
      "a change of way and no more."
    )
  fixed = tables.number(summary, f"qa/accuracy/{best}/{BEFORE}")
  key = f"qa/beyond/{best}"
  line = (
    f"The best fixed way before GRPO ({way(best)}) is right in "
    f"{percent(fixed)}: GRPO, left to choose, is "
    f"{verdict(summary, key, after - fixed, beside='from that')}"
  )
  sure = pairing.sure(summary, key)
  if sure is None:
    return f"{line}."
  if not sure:
    return f"{line}. A fixed rule before it does as well, as far as is known."
  if after > fixed:
    return f"{line}. No fixed rule before it does as well."
  return f"{line}. A fixed rule before it does better."


def _best_untested(summary) -> str | None:
  """The best fixed way by its accuracy alone, where no answers are left."""
  known = {
    mode: tables.number(summary, f"qa/accuracy/{mode}/{BEFORE}")
    for mode in modes.every()
    if mode != FREE
  }
  known = {mode: value for mode, value in known.items() if value is not None}
  return max(sorted(known), key=known.get) if known else None


def _each(summary) -> list[str]:
  """Whether any fixed way gained: if none did, the choice alone is new."""
  moved = {}
  for mode in modes.every():
    value = tables.number(summary, f"qa/gain/{mode}")
    if value is not None and mode != FREE:
      moved[mode] = value
  if not moved:
    return []
  told = "; ".join(f"{way(m)} {points(summary, f'qa/gain/{m}')}" for m in moved)
  key = f"qa/gain/{FREE}"
  free = tables.number(summary, key)
  if any(value > 0 for value in moved.values()):
    return [f"Held to one way of answering, after GRPO less before: {told}."]
  lost = "lost in each" if max(moved.values()) < 0 else "gained in none"
  end = "."
  if free is not None and free > 0 and pairing.sure(summary, key):
    end = ": the gain is a change of the way of answering."
  return [f"Held to one way of answering it {lost} ({told}){end}"]


def _draws(summary) -> list[str]:
  """How often it draws, where drawing is worth something and where not."""
  rates = {
    stage: tables.number(summary, f"map_rate/{stage}")
    for stage in (BEFORE, AFTER)
  }
  if None in rates.values():
    return []
  line = (
    f"It draws a map in {percent(rates[AFTER], 0)} of its free answers, "
    f"before GRPO in {percent(rates[BEFORE], 0)}."
  )
  pays, idle = [], []
  for name in tables.families(summary):
    rate = tables.number(summary, f"map_rate/{name}/{AFTER}")
    key = f"qa/drawing/text/{name}/{BEFORE}"
    worth = tables.number(summary, key)
    if rate is not None and worth is not None:
      sure = pairing.sure(summary, key) and worth > 0
      (pays if sure else idle).append((name, rate))
  if not pays:
    return [line]
  names = ", ".join(name.replace("_", " ") for name, _ in pays)
  line += (
    f" Of {len(pays) + len(idle)} families, each tested by itself, drawing "
    f"depth was worth more than text alone, beyond chance, in {names}: there "
    f"it draws in {percent(_mean(pays), 0)}"
  )
  rest = f", in the other families in {percent(_mean(idle), 0)}" if idle else ""
  return [f"{line}{rest} (each family alike)."]


def reading(summary) -> list[str]:
  """Whether the maps are read: its own map less another image's."""
  stage = next((s for s in (AFTER, BEFORE) if _read(summary, s)), None)
  if stage is None:
    return []
  own, other, true = _read(summary, stage)
  count = summary[f"map_use/gain/{stage}/n"]
  line = (
    f"After {tables.STAGES[stage]}, held to draw depth first, it is right in "
    f"{percent(own)} of the {count:,} questions that need depth; given another "
    f"image's map in place of its own {percent(other)} (difference "
    f"{points(summary, f'map_use/gain/{stage}')} points, paired"
  )
  near = f"map_use/gain/distances/{stage}"
  if near in summary:
    line += (
      f"; in the families of distance {points(summary, near)}, "
      f"n = {summary[f'{near}/n']}"
    )
  return [f"{line}), given the true map {percent(true)}."]


def _read(summary, stage):
  """(own, other, true) accuracies of a stage, or None where one is missing."""
  found = [
    tables.number(summary, f"map_use/{kind}/{stage}")
    for kind in ("own", "other", "true", "gain")
  ]
  return None if None in found else found[:3]


def unseen(summary) -> list[str]:
  """Free answers on the held-out split, before and after."""
  found = [
    tables.number(summary, f"heldout/accuracy/{stage}")
    for stage in (BEFORE, AFTER)
  ]
  count = summary.get(f"heldout/accuracy/{AFTER}/n")
  if None in found or not count:
    return []
  return [
    "Colours and shapes never seen together, and words never used in training "
    f"(held-out split): {percent(found[0])} of {count} free answers right "
    f"before GRPO, {percent(found[1])} after it: "
    f"{verdict(summary, 'heldout/gain', found[1] - found[0])}."
  ]


def _mean(pairs) -> float:
  return float(np.mean([rate for _, rate in pairs]))


def way(mode: str) -> str:
  """In: "depth"   Out: "always draws depth"."""
  title = tables.way(mode) if mode in modes.every() else mode
  return title[:1].lower() + title[1:]


def points(summary, key: str) -> str:
  """A difference in points with its interval, if it has one."""
  value, pair = tables.number(summary, key), tables.interval(summary, key)
  shown = tables.signed(value)
  if pair is None:
    return shown
  return f"{shown} ({tables.signed(pair[0])} to {tables.signed(pair[1])})"


def verdict(summary, key: str, plain: float, beside: str = "") -> str:
  """A difference, its paired interval, and whether chance explains it.

  plain: what is said, without a verdict, where nothing was paired.
  """
  beside = f" {beside}" if beside else ""
  sure = pairing.sure(summary, key)
  if sure is None:
    return f"{tables.signed(plain)} points{beside} (not paired: no verdict)"
  gained, lost = summary[f"{key}/gained"], summary[f"{key}/lost"]
  low, high = (tables.signed(end) for end in tables.interval(summary, key))
  chance = "more" if sure else "no more"
  return (
    f"{tables.signed(summary[key])} points{beside} (paired 95\u00a0% interval "
    f"{low} to {high}; of {summary[f'{key}/n']:,} questions {gained} "
    f"gained, {lost} lost), {chance} than chance explains"
  )


def percent(value: float, digits: int = 1) -> str:
  return f"{100 * value:.{digits}f}\u00a0%"
