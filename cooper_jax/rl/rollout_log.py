"""`rollouts.jsonl`: a group of rollouts of each log step, with its rewards.

Averages do not show what a policy has found; its own words beside their rewards
do. Each line is a JSON object of a step, a question and its rollouts:

  {"step", "id", "family", "question", "answer" (the true one), "rollouts": [
    {"text", "maps": [modality], "rewards": {name: number or null}, "total",
     "advantage" (of the answer), "truncated"}]}
"""

import json
import math
from pathlib import Path

import numpy as np

from cooper_jax.pictures import drawing
from cooper_jax.rl.rollout_batch import RolloutBatch, take_prompts
from cooper_jax.rl.sample import responses_of
from cooper_jax.rl.targets import Targets
from cooper_jax.training import telemetry

NAME = "rollouts.jsonl"
_SHOWN = 8  # rollouts in a picture


def logged(advantages, log: "RolloutLog"):
  """Wraps RolloutBatch -> Targets of a step: the log is given both."""

  def make_and_log(scored: RolloutBatch) -> Targets:
    targets = advantages(scored)
    log.add(scored, targets.answer_R)
    return targets

  return make_and_log


class RolloutLog:
  """Appends a group a log step; steps that a resume does again are dropped."""

  def __init__(self, folder, *, policy, rewards, every: int, steps: int):
    """rewards: names of the columns of rewards_RE; every, steps: of the run."""
    self.path = Path(folder) / NAME
    self.policy, self.rewards = policy, tuple(rewards)
    self.every, self.steps = every, steps
    self.last = None  # (item, Responses of its rollouts), the maps as codes
    self._begun = False

  def add(self, scored: RolloutBatch, advantage_R) -> None:
    """Takes every step of a run and writes some of them, numbered from 1.

    advantage_R: of each answer.
    """
    step = scored.questions.number + 1
    if not self._begun:
      self.rewind(step - 1)
      self._begun = True
    if step % self.every and step != self.steps:
      return
    advantage_R = np.asarray(advantage_R)
    place = first_informative(advantage_R, scored.group_R)
    group = take_prompts(scored, [place])
    responses = responses_of(
      group, policy=self.policy, decode=lambda name, codes: codes
    )
    self.last = group.items[0], responses
    own_R = advantage_R[scored.group_R == place]
    record = line_of(step, group, responses, own_R, self.rewards)
    with self.path.open("a", encoding="utf-8") as file:
      file.write(json.dumps(record, allow_nan=False) + "\n")

  def rewind(self, step: int) -> None:
    """Drops the lines after `step`, and those that are no JSON of a step."""
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
    """The image of the group that was logged last and the maps drawn of it.

    One row of u8 [H, W, 3] a rollout. decode: decode(modality, codes [n, Q]) ->
    maps [n, ...].
    """
    if self.last is None:
      return {}
    item, responses = self.last
    image = np.asarray(item.sample.image)
    widest = max(map(len, responses.maps))
    every, targets = [m for maps in responses.maps[:_SHOWN] for m in maps], {}
    for name in {m.modality for m in every}:  # a kind at once: compiles less
      codes = [m.codes for m in every if m.modality == name]
      targets[name] = iter(decode(name, np.stack(codes)))
    rows = []
    for maps in filter(len, responses.maps[:_SHOWN]):
      shown = [m.module.picture(next(targets[m.modality])) for m in maps]
      shown += [None] * (widest - len(maps))
      rows.append(drawing.strip([image, *shown]))
    return {"rollouts": drawing.rows(rows) if rows else image}


def first_informative(advantage_R, group_R) -> int:
  """The first group with an advantage that is not 0, or else the first."""
  differ = np.flatnonzero(advantage_R != 0)
  return int(group_R[differ[0]] if len(differ) else group_R[0])


def line_of(step, group: RolloutBatch, responses, advantage_R, names) -> dict:
  """The JSON object of a scored group, P = 1; NaN and inf are null."""
  item = group.items[0]
  rollouts = [
    {
      "text": responses.text[g],
      "maps": [drawn.modality for drawn in responses.maps[g]],
      "rewards": {
        name: number(group.rewards_RE[g, i]) for i, name in enumerate(names)
      },
      "total": number(group.total_R[g]),
      "advantage": number(advantage_R[g]),
      "truncated": bool(group.truncated_R[g]),
    }
    for g in range(group.group_size)
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
  """The value to six places, None where it is not finite."""
  value = float(value)
  return round(value, 6) if math.isfinite(value) else None
