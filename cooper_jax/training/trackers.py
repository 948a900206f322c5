"""Trackers: metrics also go to Weights & Biases or to MLflow.

Both are optional and imported only where `config.trackers` names them; how to
reach them (key, address, offline) is theirs to know, from their environment
variables: WANDB_API_KEY, WANDB_MODE, MLFLOW_TRACKING_URI. A stage is one run
there, under the same name after a stop; steps that are done again have the same
numbers. metrics.jsonl stays what programs read.
"""

import importlib.util
import math
import secrets
import sys
import time
from pathlib import Path

from cooper_jax.errors import UserError, nearest

PROJECT = "cooper_jax"  # of W&B; in MLflow the experiment


class WandbTracker:
  """Scalars of one stage to Weights & Biases."""

  def __init__(self, folder: Path):
    import wandb

    self._run = wandb.init(
      project=PROJECT,
      name=run_name(folder),
      id=run_id(folder),
      resume="allow",
      dir=str(folder),
    )

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Logs the values of a step."""
    self._run.log(values, step=step)

  def close(self) -> None:
    self._run.finish()


class MLflowTracker:
  """Scalars of one stage to MLflow."""

  def __init__(self, folder: Path):
    import mlflow

    self._client = mlflow.MlflowClient()
    known = self._client.get_experiment_by_name(PROJECT)
    experiment = (
      self._client.create_experiment(PROJECT)
      if known is None
      else known.experiment_id
    )
    tag = {f"{PROJECT}.id": run_id(folder)}
    found = self._client.search_runs(
      [experiment], f"tags.`{PROJECT}.id` = '{run_id(folder)}'"
    )
    self._run = (
      found[0].info.run_id
      if found
      else self._client.create_run(
        experiment, run_name=run_name(folder), tags=tag
      ).info.run_id
    )

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Logs the values of a step; MLflow takes no number that isn't finite."""
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    metrics = [
      Metric(name, value, now, step)
      for name, value in values.items()
      if math.isfinite(value)
    ]
    self._client.log_batch(self._run, metrics=metrics)

  def close(self) -> None:
    self._client.set_terminated(self._run)


TRACKERS = {"wandb": WandbTracker, "mlflow": MLflowTracker}


def check(names) -> None:
  """Raises UserError where a tracker is unknown or not installed."""
  for name in names:
    if name not in TRACKERS:
      raise UserError(
        f'config.trackers names "{name}"; allowed: {", ".join(TRACKERS)}'
        f"{nearest(name, TRACKERS)}"
      )
    if importlib.util.find_spec(name) is None:
      raise UserError(
        f"config.trackers names {name}, which is not installed; pip install"
        f" {name}, or leave it out"
      )


def make(names, folder) -> list:
  """The trackers of a stage's folder; raises UserError where one fails."""
  check(names)
  folder, made = Path(folder).absolute(), []
  for name in names:
    try:
      made.append(TRACKERS[name](folder))
    except Exception as error:  # of their network and settings: many kinds
      words = " ".join(str(error).split())[:200]
      raise UserError(
        f"{name} can't be begun ({type(error).__name__}: {words}); mend its"
        " settings, or leave it out of config.trackers"
      ) from error
  return made


def send(trackers: list, step: int, values: dict[str, float]) -> None:
  """Logs to all; one that fails is said and left out, and the run goes on."""
  for each in list(trackers):
    try:
      each.scalars(step, values)
    except Exception as error:  # of their network: many kinds
      trackers.remove(each)
      _say(each, f"at step {step}", error)


def close(trackers: list) -> None:
  """Ends all; one that fails is said, for the stage is done."""
  for each in trackers:
    try:
      each.close()
    except Exception as error:  # as in `send`
      _say(each, "at the end", error)


def _say(tracker, when: str, error: Exception) -> None:
  print(
    f"{type(tracker).__name__} fails {when} ({type(error).__name__}) and gets"
    " no more; metrics.jsonl has all",
    file=sys.stderr,
    flush=True,
  )


def run_name(folder: Path) -> str:
  """In: runs/demo/grpo   Out: "demo/grpo"."""
  return "/".join(folder.parts[-2:])


def run_id(folder: Path) -> str:
  """Of the run that a stage's folder notes: a stage that resumes is the same.

  Not made of its path: a new run in the place of a removed one is another.
  """
  path = Path(folder) / "tracker_id"
  if not path.exists():
    path.write_text(secrets.token_hex(8))
  return path.read_text()
