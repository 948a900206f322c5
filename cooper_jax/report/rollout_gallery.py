"""The report's rollouts of GRPO: groups at the start, the middle and the end.

Read from grpo/rollouts.jsonl, one group of answers to one prompt a line: step,
question, answer, and each rollout's text, maps, rewards, total, advantage.
"""

import html
import math

from cooper_jax.report import gallery, tables
from cooper_jax.training import telemetry

LONGEST_ANSWER = 700  # characters of an answer


def section(workdir):
  """The first, the middle and the last group, folded; "" without any."""
  groups = read(workdir / "grpo" / "rollouts.jsonl")
  if not groups:
    return ""
  last = len(groups) - 1
  body = "".join(_group(groups[i]) for i in sorted({0, last // 2, last}))
  note = (
    "What one prompt's answers were rewarded with, at the first, the middle "
    "and the last logged step. Advantage: the reward above the group's mean, "
    "what makes an answer likelier (+) or less likely (-). All of them are in "
    "grpo/rollouts.jsonl."
  )
  return tables.section("Rollouts", body, note)


def read(path):
  """The groups of a file, in order; lines that are damaged are left out."""
  if not path.exists():
    return []
  return [
    group
    for group in telemetry.read_metrics(path)
    if isinstance(group.get("rollouts"), list)
  ]


def _group(group):
  question = gallery.prose(str(_either(group, "question", "prompt")))
  rollouts = [each for each in group["rollouts"] if isinstance(each, dict)]
  names = []
  for each in rollouts:
    names += [name for name in _rewards(each) if name not in names]
  body = "<tbody>"
  for each in rollouts:
    text, _ = gallery.trace(_short(str(_either(each, "text"))))
    text += " <small>(cut off)</small>" if each.get("truncated") else ""
    cells = [_maps(each), *(_number(_rewards(each).get(n)) for n in names)]
    cells.append(f"<b>{_number(each.get('advantage'), sign=True)}</b>")
    body += tables.row(f'<span class="trace">{text}</span>', cells)
  head = ("Answer", "Maps", *(n.replace("_", " ") for n in names), "Advantage")
  shown = tables.table(head, body + "</tbody>")
  title = f"Step {_either(group, 'step')}: {question}"
  if "answer" in group:
    title += f" (true: {group['answer']})"
  return (
    f'<details class="rollouts"><summary>{html.escape(title)}</summary>'
    f"{shown}</details>"
  )


def _either(record, *names):
  """The first of these that a record has, or "?"."""
  return next((record[name] for name in names if name in record), "?")


def _rewards(rollout):
  """Each part and their sum, where it is told."""
  found = rollout.get("rewards")
  found = dict(found) if isinstance(found, dict) else {}
  return found | ({"total": rollout["total"]} if "total" in rollout else {})


def _maps(rollout):
  maps = rollout.get("maps") or []
  if isinstance(maps, list):
    return html.escape(", ".join(map(str, maps))) or "–"
  return html.escape(str(maps))


def _number(value, *, sign=False):
  if not isinstance(value, (int, float)) or not math.isfinite(value):
    return "–"
  return f"{value:+.2f}" if sign else f"{value:.2f}"


def _short(text):
  return text if len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER] + " …"
