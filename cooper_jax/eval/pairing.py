"""Paired differences of answers: two policies, or two ways of answering.

A gain in free answers may be no more than a change of the way of answering, so
what decides is the free policy against the best *fixed* way before it. All are
of the same questions, so a difference is judged by those that changed.
"""

import json
from pathlib import Path

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import modes
from cooper_jax.grading import intervals

BEFORE, AFTER = "sft", "grpo"
EMBEDDED = "embedded"  # the benchmark whose maps and modes are scored too
FREE = modes.ADAPTIVE  # the policy decides for itself
PLAIN = (modes.IN_TEXT, modes.DIRECT)


def drawing_mode() -> str:
  """The mode that draws, against those that do not: the first modality."""
  return modalities.names()[0]


def difference(key: str, one, other) -> dict:
  """{key: mean(one - other)} of hits [n], with what shows how sure it is.

  Beside it /n, /ci95 (paired bootstrap), /gained and /lost: the questions
  that only `one`, or only `other`, answers right.
  """
  one, other = np.asarray(one, float), np.asarray(other, float)
  return {
    key: float(np.mean(one - other)),
    f"{key}/n": len(one),
    f"{key}/ci95": list(intervals.bootstrap_difference(one, other)),
    f"{key}/gained": int(np.sum(one > other)),
    f"{key}/lost": int(np.sum(one < other)),
  }


def by_mode(key: str, before, after) -> dict:
  """<key>/gain/<mode> and <key>/beyond/<mode> of hits[mode] [n]."""
  found = {}
  for mode in after.keys() & before.keys():
    found |= difference(f"{key}/gain/{mode}", after[mode], before[mode])
  for mode in before.keys() - {FREE}:
    if FREE in after:
      found |= difference(f"{key}/beyond/{mode}", after[FREE], before[mode])
  return found


def scores(hits, families) -> dict:
  """The summary's paired entries of hits[stage][mode] [n] and families [n].

  qa/gain/<mode>: after GRPO less before it, in one way of answering.
  qa/beyond/<mode>: free after GRPO less a fixed way before it.
  qa/drawing/<text|direct>[/<family>]/<stage>: depth drawn first less without.
  """
  found = {}
  families = np.asarray(families)
  found |= by_mode("qa", hits.get(BEFORE, {}), hits.get(AFTER, {}))
  for stage, ways in hits.items():
    for plain in PLAIN:
      if not {drawing_mode(), plain} <= ways.keys():
        continue
      key, one, other = f"qa/drawing/{plain}", ways[drawing_mode()], ways[plain]
      found |= difference(f"{key}/{stage}", one, other)
      for name in np.unique(families):
        rows = families == name
        part = f"{key}/{name}/{stage}"
        found |= difference(part, one[rows], other[rows])
  return found


def of_workdir(workdir) -> dict:
  """As `scores`, of the answers that an evaluation left on disk.

  {} where they can't be read, or are of other questions: an old run's report
  then says no verdict, and is still written.
  """
  hits, asked = {}, None
  try:
    for stage in (BEFORE, AFTER):
      path = Path(workdir) / "evaluate" / f"{stage}.jsonl"
      if not path.exists():
        continue
      for mode, answers in _by_mode(path).items():
        asked = asked or answers
        if answers.keys() != asked.keys():
          return {}
        each = [answers[question][1] for question in asked]
        hits.setdefault(stage, {})[mode] = np.array(each, float)
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return {}
  if not asked:
    return {}
  return scores(hits, [family for family, _ in asked.values()])


def _by_mode(path) -> dict:
  """mode -> {(sample, question, how often before): (family, hit)}."""
  modes, seen = {}, {}
  for text in path.read_text(encoding="utf-8").splitlines():
    line = json.loads(text)
    same = line["mode"], line["sample"], line["question"]
    seen[same] = seen.get(same, -1) + 1
    answers = modes.setdefault(line["mode"], {})
    answers[*same[1:], seen[same]] = line["family"], line["hit"]
  return modes


def complete(summary: dict, workdir) -> dict:
  """A summary with its paired entries, from the answers where it has none."""
  if any(key.startswith(("qa/beyond/", "qa/drawing/")) for key in summary):
    return summary
  return summary | of_workdir(workdir)


def best_fixed(summary: dict) -> str | None:
  """The fixed way that the policy before GRPO answered best in, or None."""
  ways = {}
  for key in summary:
    parts = key.split("/")
    if parts[:2] == ["qa", "beyond"] and len(parts) == 3:
      accuracy = summary.get(f"qa/accuracy/{parts[2]}/{BEFORE}")
      if accuracy is not None:
        ways[parts[2]] = accuracy
  return max(sorted(ways), key=ways.get) if ways else None


def sure(summary: dict, key: str) -> bool | None:
  """Whether a paired difference is more than chance explains; None = unknown.

  Its interval leaves out 0 and so does an exact sign test: a bootstrap of
  three questions, all gained, would be sure of anything.
  """
  pair = summary.get(f"{key}/ci95")
  gained, lost = (summary.get(f"{key}/{each}") for each in ("gained", "lost"))
  if pair is None or gained is None or lost is None:
    return None
  beyond = pair[0] > 0 or pair[1] < 0
  return bool(beyond and intervals.sign_test(gained, lost) < 0.05)
