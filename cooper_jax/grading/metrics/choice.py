"""Choices and yes/no: hits, chance, and the share that could not be read."""

from collections.abc import Sequence

import numpy as np

from cooper_jax.grading import intervals


def same(one: str | None, other: str) -> bool:
  """Whether two option texts agree but for case, spaces and full stops."""
  return one is not None and _key(one) == _key(other)


def _key(text: str) -> str:
  return " ".join(text.lower().split()).strip(" .")


def chance(answer_types: Sequence[str], options: Sequence[Sequence[str]]):
  """Expected accuracy of guessing; numbers and free text count as 0."""
  rates = []
  for kind, choices in zip(answer_types, options, strict=True):
    if kind == "yes_no":
      rates.append(0.5)
    else:
      rates.append(1 / len(choices) if kind == "choice" and choices else 0.0)
  return float(np.mean(rates)) if rates else float("nan")


def accuracy(hits: Sequence[bool]) -> dict:
  """{"value", "n", "ci95"}: the rate of hits [n] with its Wilson interval."""
  hits = np.asarray(hits, np.float64)
  value = float(hits.mean()) if hits.size else float("nan")
  ci95 = list(intervals.wilson(float(hits.sum()), hits.size))
  return {"value": value, "n": int(hits.size), "ci95": ci95}
