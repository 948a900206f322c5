"""Answers of one policy in every mode of use: rates, and a line of each.

`found` maps a mode of use to `questions.Answers` to the same questions.
"""

import json

import numpy as np

from cooper_jax.eval import questions
from cooper_jax.grading import intervals


def scores(items, found, stage: str, *, free: str) -> dict:
  """Accuracies by mode and family, numbers, and how often maps are drawn.

  Those of the free mode alone, and of its families, are `benchmark.scores`.
  """
  groups = questions.families(items)
  adaptive = found[free]
  summary = {}
  for mode, answers in found.items():
    summary |= intervals.rate(f"qa/accuracy/{mode}/{stage}", answers.hits)
    for family, rows in groups.items():
      key = f"qa/mode/{mode}/{family}/{stage}"
      summary |= intervals.rate(key, answers.hits[rows])
  lengths, chosen = questions.lengths(items), questions.choices(items)
  if chosen:
    summary |= intervals.macro(f"qa/macro/{stage}", adaptive.hits, chosen)
  for mode, answers in found.items():
    factor = np.array([bool(g.factor2) for g in answers.grades], float)
    if len(lengths):
      summary |= intervals.rate(f"qa/factor2/{mode}/{stage}", factor[lengths])
  for family, rows in groups.items():
    summary |= intervals.rate(
      f"map_rate/{family}/{stage}", adaptive.drew()[rows]
    )
  summary |= intervals.rate(f"map_rate/{stage}", adaptive.drew())
  summary[f"qa/truncated/{stage}"] = float(adaptive.view.truncated.mean())
  return summary


def lines(items, found) -> str:
  """Every answer of every mode, a line each, for `cooper_jax.compare`."""
  written = []
  for mode, answers in found.items():
    for item, text, grade, maps in zip(
      items, answers.view.text, answers.grades, answers.view.maps, strict=True
    ):
      question = item.question
      line = {
        "sample": item.sample.id,
        "question": question.text,
        "family": question.family,
        "mode": mode,
        "answer": question.answer,
        "value": question.value,  # the true number, not rounded, or None
        "text": text,
        "hit": float(grade.hit),
        "drew": [drawn.modality for drawn in maps],
      }
      written.append(json.dumps(line))
  return "\n".join(written) + "\n"
