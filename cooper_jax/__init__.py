"""Cooperative perception and reasoning: one model that draws what it sees.

import cooper_jax
model = cooper_jax.load("tiny")
answer = model.ask("room.png", "Which is closer, the red ball or the table?")
print(answer)
"""

from cooper_jax import errors

__all__ = ["__version__", "errors", "load"]
__version__ = "0.1.0"


def load(start="tiny", *, stage: str | None = None):
  """Loads a model that answers and draws: see `inference.model.Model`.

  start: name of a packaged model, folder of a package, or folder of a run.
  stage: whose policy of a run, "sft" or "grpo"; default the last finished.
  Raises `cooper_jax.errors.UserError`, one line that says what there is.
  """
  from cooper_jax.inference import loading  # takes seconds, as JAX does

  return loading.load(start, stage=stage)
