"""Scoring: the configured rewards of a batch of rollouts, and their sum.

Every reward sees the same read-only responses and columns and returns its own
array, so their order can not matter. A reward that raises is shown with its
traceback and counted, and abstains for the batch; one that goes on raising
stops the run, because training on without it would go unseen.
"""

import dataclasses
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from cooper_jax import plugins
from cooper_jax.errors import UserError
from cooper_jax.grading.map_quality import map_quality
from cooper_jax.rollouts.response import freeze


class RewardScores(NamedTuple):
  """The rewards of R rollouts and what they cost; NaN = abstained."""

  rewards: dict[str, np.ndarray]  # [R] each, f32
  total: np.ndarray  # [R] weighted sum; NaN where all abstained
  map_quality: np.ndarray  # [R, M] of the k-th map, M = most maps drawn
  seconds: dict[str, float]
  exceptions: dict[str, int]  # of all batches so far

  def metrics(self) -> dict[str, float]:
    """Figures to log, by reward and of the sum."""
    figures = {}
    for name, values_R in (*self.rewards.items(), ("total", self.total)):
      known_R = values_R[~np.isnan(values_R)]
      figures[f"reward/{name}"] = _mean(known_R)
      figures[f"reward/{name}/abstained"] = 1 - known_R.size / max(
        1, values_R.size
      )
    if self.total.size and not np.isnan(self.total).all():
      figures["reward/total/std"] = float(np.nanstd(self.total))
    for name, seconds in self.seconds.items():
      figures[f"reward/{name}/seconds"] = seconds
      figures[f"reward/{name}/exceptions"] = float(self.exceptions[name])
    return figures


def _mean(values) -> float:
  return float(values.mean()) if values.size else float("nan")


def gather(scores: RewardScores, *, maps: int) -> RewardScores:
  """RewardScores [R] of all processes, from each one's share; all must call it.

  maps: M, how many a rollout can have; quality is filled up to that.
  """
  from jax.experimental import multihost_utils

  names = list(scores.rewards)
  quality = np.full((len(scores.total), maps), np.nan, np.float32)
  quality[:, : scores.map_quality.shape[1]] = scores.map_quality
  columns = np.stack([*scores.rewards.values(), scores.total], axis=1)
  rows = np.concatenate([columns, quality], axis=1)
  each = np.array([[scores.seconds[n], scores.exceptions[n]] for n in names])
  rows, each = multihost_utils.process_allgather(
    (rows, each.astype(np.float32)[None]), tiled=True
  )
  seconds, exceptions = each[..., 0].max(axis=0), each[..., 1].sum(axis=0)
  return RewardScores(
    dict(zip(names, rows.T)),
    rows[:, len(names)],
    rows[:, len(names) + 1 :],
    dict(zip(names, map(float, seconds))),
    dict(zip(names, map(int, exceptions))),
  )


def check_any_scored(scores: RewardScores) -> None:
  """Raises UserError where no reward that counts scored any rollout.

  Where a reward raised, that is counted instead (`Scorer`).
  """
  if np.isnan(scores.total).all() and not any(scores.exceptions.values()):
    raise UserError(
      f"{', '.join(scores.rewards)}: none that counts has scored any of the"
      f" {len(scores.total)} rollouts of this step (all NaN): there is nothing"
      " to learn from; take rewards whose columns the data has"
      " (config.grpo.rl.rewards)"
    )


def weights_of(rl) -> dict[str, float]:
  """Name -> weight of each reward that `config.grpo.rl` computes, sorted."""
  return {
    name: weight for name, weight in sorted(rl.rewards.items())
    if weight is not None
  }  # fmt: skip


def make_scorer(rl) -> "Scorer":
  """The rewards of `config.grpo.rl`; raises UserError where one can't be."""
  weights = weights_of(rl)
  settings = {
    name: rl.settings[name] for name in weights if name in rl.settings
  }
  return Scorer(weights, settings)


class Scorer:
  """Calls the rewards named in `weights`; settings per reward by field name.

  A reward of weight 0 is computed and logged but does not count. Counts the
  exceptions of every reward over its life.
  """

  def __init__(
    self,
    weights: Mapping[str, float],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    failures_allowed: int = 3,
  ):
    if not any(weights.values()):
      raise UserError(
        "no reward has a weight; set one, for example"
        " --config.grpo.rl.rewards.answer=1.0"
      )
    settings = {} if settings is None else settings
    for name in settings:
      plugins.check("rewards", name)
    self.weights = dict(weights)
    self.failures_allowed = failures_allowed
    self.exceptions = dict.fromkeys(self.weights, 0)
    self._rewards = {}
    for name in self.weights:
      module = plugins.find("rewards", name)
      fields = dict(settings[name]) if name in settings else {}
      config = _config(name, module, fields)
      if hasattr(module, "check"):  # what a default can't know
        module.check(config)
      self._rewards[name] = (module.reward, config)

  def __call__(self, view, columns: Mapping[str, Sequence]) -> RewardScores:
    """RewardScores of R rollouts; columns hold one entry per rollout."""
    for name, values in columns.items():
      if len(values) != len(view):
        raise ValueError(
          f"column {name!r} has {len(values)} entries for {len(view)} rollouts"
        )
    columns = types.MappingProxyType(
      {name: freeze(list(values)) for name, values in columns.items()}
    )
    rewards, seconds = {}, {}
    for name in self.weights:
      start = time.perf_counter()
      rewards[name] = self._call(name, view, columns)
      seconds[name] = time.perf_counter() - start
    return RewardScores(
      rewards,
      weighted_sum(rewards, self.weights),
      map_quality(view, columns),
      seconds,
      dict(self.exceptions),
    )

  def _call(self, name, view, columns):
    reward, config = self._rewards[name]
    try:
      values_R = np.array(reward(view, columns, config), np.float32)
      if values_R.shape != (len(view),):
        raise ValueError(
          f"reward {name!r} returned {values_R.shape}, not ({len(view)},)"
        )
      if np.isinf(values_R).any():
        raise ValueError(f"reward {name!r} returned an infinite value")
    except UserError:
      raise
    except Exception:
      self.exceptions[name] += 1
      logging.exception(
        "reward %s raised (%d so far); it abstains for this batch",
        name,
        self.exceptions[name],
      )
      if self.exceptions[name] > self.failures_allowed:
        raise
      return np.full(len(view), np.nan, np.float32)
    return values_R


def weighted_sum(rewards, weights) -> np.ndarray:
  """Sum [R] over the rewards that do not abstain, NaN where all of them do.

  Added up in the order of the names and in f64, so that the order in which
  they were configured changes no bit.
  """
  names = sorted(name for name, weight in weights.items() if weight)
  values = np.stack([rewards[name] for name in names]).astype(np.float64)
  scale = np.array([weights[name] for name in names])[:, None]
  total_R = np.nansum(values * scale, axis=0)
  return np.where(np.isnan(values).all(0), np.nan, total_R).astype(np.float32)


def _config(name, module, fields):
  known = [field.name for field in dataclasses.fields(module.Config)]
  for field in fields:
    if field not in known:
      raise UserError(
        f"reward {name!r} has no setting {field!r}; it has "
        f"{', '.join(known) or 'none'}"
      )
  return module.Config(**fields)
