"""Flags by measurement: in which families maps help the policy that GRPO gets.

The exploration reward goes by a flag of each question. Before the first step
questions of the validation split, in the families and words that are
reinforced, are answered greedily with the maps that their programs read and
with none. A family whose answers are right more often with maps, by more than
`grpo.flag_margin`, is "positive", one where text is "negative"; where maps have
a price (`grpo.rl.rewards.map_price`, in units of the answer's reward), after it
is paid. So a flag rests on all questions of a family, FEWEST at least, where
`rl/measured_flags.py` has k rollouts of each question; a family of fewer keeps
the flags of its questions. (The paper compares with its base model question by
question, at thresholds that are not published; arXiv 2512.04563.)

What GRPO begins with is measured, once: the file in the stage's folder stays.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from cooper_jax.data import flags, modes
from cooper_jax.errors import UserError
from cooper_jax.eval import questions, validation
from cooper_jax.parallel import processes
from cooper_jax.policy import Policy
from cooper_jax.rollouts import prompts
from cooper_jax.sample import Question
from cooper_jax.training import json_files, telemetry

FILE = "family_flags.json"
FEWEST = 8  # questions that a family is measured by, or it is not


def of_start(
  config, policy: Policy, params, codecs, folder, *, begun: bool
) -> dict[str, dict]:
  """Family -> {flag, n, drawn, text, price}.

  drawn and text are shares of right answers, with maps and without, price is
  what is paid for an answer's maps. All processes have to call it.

  Args:
    params: of the start, on this process' devices alone.
    folder: of the stage, which keeps what is found.
    begun: whether there were steps, and params are no start any more.

  Raises:
    UserError: nothing is asked, or the file of a run that was begun is missing.
  """
  path, found = Path(folder) / FILE, None
  if processes.is_first():
    with processes.alone():
      if path.exists():
        found = json_files.read_json(path)
      elif begun:
        raise UserError(
          f"{path} is missing, and GRPO has begun: the start can't be measured"
          " any more; put the file back, or take another --workdir"
        )
      else:
        found = _measure(config, policy, params, codecs)
        path.parent.mkdir(parents=True, exist_ok=True)
        json_files.write_json(path, found)
  return processes.agree("flags by family", found)


def flagged(found: Mapping[str, dict]):
  """Questions -> these with the flags of their families, where measured."""

  def change(asked: Iterable[Question]) -> tuple[Question, ...]:
    return tuple(
      dataclasses.replace(q, flag=found[q.family]["flag"])
      if q.family in found
      else q
      for q in asked
    )

  return change


def said(found: Mapping[str, dict], families: Iterable[str]) -> str:
  """One line: the families where maps help and hurt, with points gained.

  families: all that were asked; those that were not measured are named.
  """
  parts = []
  for flag, verb in (("positive", "help"), ("negative", "hurt")):
    gains = {
      name: 100 * _gain(each)
      for name, each in found.items()
      if each["flag"] == flag
    }
    named = sorted(gains, key=lambda name: -abs(gains[name]))
    told = ", ".join(f"{name} {gains[name]:+.0f}" for name in named)
    parts.append(f"{verb} in {told or 'no family'}")
  left = sorted({*families} - {*found})
  if left:
    parts.append(f"not measured: {', '.join(left)}")
  return f"maps {'; '.join(parts)} (points, validation split)"


def _measure(config, policy, params, codecs) -> dict[str, dict]:
  settings = config.grpo
  items = validation.open_items(
    config, settings.flag_questions, "flag_questions"
  )
  families = questions.families(items)
  names = modes.order(policy.markup.modalities)
  trained = prompts.modes_of(policy, config.sft.shares)
  drawing = [_mode(item.question, names, trained) for item in items]
  asked = [modes.IN_TEXT, *sorted({mode for mode in drawing if mode})]
  batch = min(config.evaluate.batch, len(items))
  calls = len(asked) * -(-len(items) // batch)
  with telemetry.Progress(calls, "flags") as progress:
    answers = questions.ask_in(
      policy,
      params,
      items,
      asked,
      codecs,
      batch=batch,
      buckets=config.sampling.prompt_buckets,
      advance=progress.advance,
    )
    hits = {mode: each.hits for mode, each in answers.items()}
    found = {}
    for name, rows in families.items():
      rows = [i for i in rows if drawing[i]]
      if len(rows) < FEWEST:
        continue
      maps = [modes.maps_of(drawing[i], names) for i in rows]
      means = {
        "drawn": float(np.mean([hits[drawing[i]][i] for i in rows])),
        "text": float(hits[modes.IN_TEXT][rows].mean()),
        "price": float(np.mean([_price(config, each) for each in maps])),
      }
      flag = flags.of_gain(_gain(means), settings.flag_margin)
      found[name] = {"flag": flag, "n": len(rows), **means}
    progress.say(said(found, families))
  return found


def _gain(each: Mapping[str, float]) -> float:
  """What maps add to the share of right answers, less their price."""
  return each["drawn"] - each["text"] - each["price"]


def _price(config, maps) -> float:
  """What an answer's maps cost (`rewards/map_price.py`), in right answers."""
  rl = config.grpo.rl
  if not rl.rewards.map_price:
    return 0.0
  counted = max(0, len(maps) - rl.settings.map_price.free)
  return rl.rewards.map_price * counted / rl.rewards.answer


def _mode(question: Question, names, trained) -> str | None:
  """The trained mode that draws what a question's program reads.

  Where it reads none, that of the most maps, as `rl/measured_flags.py`; None
  where no mode draws all that it reads.
  """
  maps = {mode: modes.maps_of(mode, names) for mode in trained}
  fits = [m for m in maps if maps[m] and {*question.needs} <= {*maps[m]}]
  pick = min if question.needs else max
  return pick(fits, key=lambda mode: len(maps[mode]), default=None)
