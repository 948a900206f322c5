"""Validation during GRPO: greedy accuracy on a fixed set, and the best kept.

The reward curve is of sampled answers to other questions at each step, so it
says little of the policy that a user gets. Here the same questions of the
validation split, in the families and words that are reinforced, are answered
greedily and freely. (TRL: eval_strategy="steps" with load_best_model_at_end.)

The best parameters are kept beside the checkpoints, in `<stage>/best`. A best
of a step that a stop has lost is forgotten, for the run may go on otherwise,
and the best one that the newest checkpoint knew of stays until there is another
checkpoint: a resumed run ends with what an uninterrupted one has. Where a run
goes farther back, for its newest checkpoint is damaged, it begins anew: what it
goes on from is measured first.
"""

from pathlib import Path

import numpy as np

from cooper_jax.data import mixture, selection
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.eval import questions
from cooper_jax.eval.pairing import FREE
from cooper_jax.parallel import processes
from cooper_jax.policy import own_params
from cooper_jax.rollouts import lengths
from cooper_jax.training import disk_space
from cooper_jax.training.checkpoint import Checkpoints

ACCURACY, DREW = "validation/accuracy", "validation/drew"


class Validation:
  """Measures the policy of a training state; see `loop.Loop.validation`."""

  def __init__(self, config, policy, codecs, folder, frozen=None):
    """folder: of the stage; frozen: what LoRA trains beside, None without.

    Raises UserError where nothing is asked.
    """
    self._frozen = frozen
    settings = config.grpo
    self.every = settings.validate_every
    self._policy, self._codecs = policy, codecs
    self._averaged = settings.optim.ema_decay > 0
    self._buckets = config.sampling.prompt_buckets
    count = settings.validation_questions
    self._items = open_items(config, count) if processes.is_first() else []
    self._batch = min(config.evaluate.batch, max(1, len(self._items)))
    self._kept = Checkpoints(Path(folder) / "best" / "checkpoints", keep=None)
    self.best: tuple[float, int] | None = None  # (accuracy, step)

  def begin(self, step: int) -> None:
    """Forgets what was kept after the step at which a run goes on."""
    for each in self._kept.steps():
      if each > step:
        self._kept.delete(each)
    at = self._kept.latest()
    self.best = None if at is None else (self._kept.meta(at)["accuracy"], at)

  def __call__(self, step: int, state, *, saved: int) -> tuple[dict, str]:
    """(scalars, a line to say); keeps the parameters where they are the best.

    saved: step of the newest checkpoint. All processes have to call it.
    """
    params = state.ema if self._averaged else state.params
    accuracy, drew = self._measure(params)
    if self.best is None or accuracy > self.best[0]:
      meta = {"accuracy": accuracy}
      self._kept.save(step, {"params": params}, data_state={}, meta=meta)
      self._kept.wait()
      self.best = accuracy, step
      self._prune(saved)
    best, at = self.best
    said = (
      f"step {step}: validation {accuracy:.1%} right, {drew:.0%} drew"
      f" (best {best:.1%}, step {at})"
    )
    return {ACCURACY: accuracy, DREW: drew}, said

  def room(self, state) -> float:
    """Bytes of the best to come: two that stay, and the one being written."""
    left = max(1, 3 - len(self._kept.steps()))
    return left * disk_space.room_of({"params": state.params})

  def _measure(self, params) -> tuple[float, float]:
    own, found = own_params(self._policy, params, self._frozen), None
    if processes.is_first():
      with processes.alone():
        said = questions.ask(
          self._policy,
          own,
          self._items,
          FREE,
          self._codecs,
          batch=self._batch,
          buckets=self._buckets,
        )
      found = [float(said.hits.mean()), float(said.drew().mean())]
    accuracy, drew = processes.agree("validation", found)
    return accuracy, drew

  def _prune(self, saved: int) -> None:
    """Keeps the best, and the one to go back to from the newest checkpoint."""
    steps = self._kept.steps()
    known = [each for each in steps if each <= saved]
    for each in steps:
      if each not in (self.best[1], max(known, default=None)):
        self._kept.delete(each)

  def close(self) -> None:
    self._kept.close()


def open_items(config, count: int, setting: str = "validate_every") -> list:
  """Questions of the validation split, always the same, as GRPO asks them.

  setting: of config.grpo, that has them asked; UserError names it where the
  split has none.
  """
  settings = config.grpo
  data = DataConfig.from_config(config)
  split = mixture.open_tolerant(data, "validation")
  split = lengths.fitting(config, selection.phrased(split, settings.phrasings))
  keep = selection.Selection(families=tuple(settings.families))
  items = questions.items_of(
    selection.Asking(split, keep.asked),
    count,
    seed=config.seed,
  )
  if not items:
    raise UserError(
      "the validation split asks nothing that is reinforced; give it questions,"
      f" or set config.grpo.{setting} to 0, which is {settings[setting]}"
    )
  return items


def scores(logged: list[dict], stage: str) -> dict[str, float]:
  """For the summary: the first, the last and the best of a stage's curve.

  logged: lines of its metrics.jsonl.
  """
  curve = {row["step"]: row[ACCURACY] for row in logged if ACCURACY in row}
  if not curve:
    return {}
  steps, values = list(curve), np.array(list(curve.values()))
  at = int(values.argmax())
  return {
    f"validation/{stage}/first": float(values[0]),
    f"validation/{stage}/last": float(values[-1]),
    f"validation/{stage}/best": float(values[at]),
    f"validation/{stage}/best_step": steps[at],
  }
