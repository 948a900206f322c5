"""Settings that every training stage has."""

import dataclasses

from cooper_jax.training.optim import OptimConfig


@dataclasses.dataclass(frozen=True)
class StageSettings:
  """What every training stage has."""

  steps: int  # optimiser steps
  batch: int  # images (grpo: prompts) a step
  expected_minutes: float  # minutes on two cores, for the plan alone
  optim: OptimConfig  # optimiser
  log_every: int = 20  # steps between log lines
  save_every: int = 500  # steps between checkpoints
  # Steps between pictures in TensorBoard; 0 = none. The maps that a tokenizer
  # leaves, those that the policy draws of validation scenes, a group of GRPO's.
  image_every: int = 500
  keep: int = 2  # checkpoints kept on disk
