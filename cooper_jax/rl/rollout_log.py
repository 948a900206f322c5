"""`rollouts.jsonl`: one group of rollouts a log step, as it was said and paid.

Averages do not show what a policy has found; its own words beside their rewards
do. Each line is a JSON object of a step, a question and its rollouts:

  {"step", "id", "family", "question", "answer" (the true one), "rollouts": [
    {"text", "maps": [modality], "rewards": {name: number or null}, "total",
     "advantage" (of the answer), "truncated"}]}
"""

import json
import math
from pathlib import Path

import jax
import numpy as np

from cooper_jax.pictures import drawing
from cooper_jax.rollouts.response import Responses
from cooper_jax.training import telemetry

NAME = "rollouts.jsonl"
SHOWN = 8  # rollouts in a picture


class RolloutLog:
  """Appends a group a log step; steps that a resume does again are dropped."""

  def __init__(self, folder, *, every: int, steps: int):
    self.path = Path(folder) / NAME
    self.every, self.steps = every, steps
    self.last = None  # (item, view of its rollouts), the maps as codes
    self._begun = False

  def add(self, step: int, sampled, advantage_R, made) -> None:
    """Takes every step of a run, of 1 and more, and writes some of them.

    sampled: dynamic.Sampled; advantage_R: of each answer; made: the rl.Step
    whose rollouts they are.
    """
    if not self._begun:
      self.rewind(step - 1)
      self._begun = True
    if step % self.every and step != self.steps:
      return
    advantage_R = np.asarray(advantage_R)
    place = telling(advantage_R, sampled.groups)
    rows = np.flatnonzero(sampled.groups == place)
    view = view_of(made.policy, sampled.out, rows)
    self.last = sampled.items[place], view
    names = list(made.scorer.weights)
    record = line_of(step, sampled, rows, view, advantage_R, names)
    with self.path.open("a", encoding="utf-8") as file:
      file.write(json.dumps(record, allow_nan=False) + "\n")

  def rewind(self, step: int) -> None:
    """Drops the lines after `step`, and what is none."""
    if not self.path.exists():
      self.path.parent.mkdir(parents=True, exist_ok=True)
      return
    rows = telemetry.read_metrics(self.path)
    kept = [row for row in rows if row["step"] <= step]
    partial = self.path.with_suffix(".partial")
    text = "".join(json.dumps(row) + "\n" for row in kept)
    partial.write_text(text, encoding="utf-8")
    partial.replace(self.path)

  def pictures(self, decode) -> dict[str, np.ndarray]:
    """The last group's image and what its rollouts drew, a row a rollout.

    decode: decode(modality, codes [n, N]) -> targets [n, ...].
    """
    if self.last is None:
      return {}
    item, view = self.last
    image = np.asarray(item.sample.image)
    widest = max(map(len, view.maps))
    every, targets = [m for maps in view.maps[:SHOWN] for m in maps], {}
    for name in {m.modality for m in every}:  # a kind at once: compiles less
      codes = [m.codes for m in every if m.modality == name]
      targets[name] = iter(decode(name, np.stack(codes)))
    rows = []
    for maps in filter(len, view.maps[:SHOWN]):
      shown = [drawing.picture(next(targets[m.modality])) for m in maps]
      shown += [None] * (widest - len(maps))
      rows.append(drawing.strip([image, *shown]))
    return {"rollouts": drawing.rows(rows) if rows else image}


def telling(advantage_R, groups) -> int:
  """The first group that has something to learn from, or else the first."""
  alive = np.flatnonzero(advantage_R != 0)
  return int(groups[alive[0]] if len(alive) else groups[0])


def view_of(policy, out, rows) -> Responses:
  """What some rows of a Rollout say; the targets of their maps are codes."""
  return Responses.from_rollout(
    jax.tree.map(lambda x: np.asarray(x)[rows], out),
    vocabulary=policy.form.vocabulary,
    text_tokenizer=policy.text,
    decode_maps=lambda name, codes: codes,
    group=np.zeros(len(rows), int),
    sample_id=rows,
    modalities={
      modality_id: name for name, modality_id in policy.markup.modalities
    },
  )


def line_of(step, sampled, rows, view, advantage_R, names) -> dict:
  """The JSON object of a group; what is not finite is null."""
  item = sampled.items[sampled.groups[rows[0]]]
  rollouts = [
    {
      "text": view.text[k],
      "maps": [drawn.modality for drawn in view.maps[k]],
      "rewards": {
        name: number(sampled.columns[row, i]) for i, name in enumerate(names)
      },
      "total": number(sampled.total[row]),
      "advantage": number(advantage_R[row]),
      "truncated": bool(sampled.truncated[row]),
    }
    for k, row in enumerate(rows)
  ]
  question = item.question
  return {
    "step": step,
    "id": item.sample.id,
    "family": question.family,
    "question": question.text,
    "answer": question.answer,
    "rollouts": rollouts,
  }


def number(value) -> float | None:
  value = float(value)
  return round(value, 6) if math.isfinite(value) else None
