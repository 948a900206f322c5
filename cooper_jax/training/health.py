"""Divergence of training: not finite, thrown far off, stuck, or worse than new.

A learning rate that is too high need not end in NaN. One step may throw the
parameters so far that every gradient is 0 from then on, or that the loss stays
at a million; such a run must not end as one that is done.
"""

import dataclasses
import math

import jax
import optax

from cooper_jax.errors import NumericsError

# In a row: steps without a finite gradient, steps without any, log lines with
# a loss that is far above the first.
_PATIENCE = 3
# Of the norm of all parameters, moved by one step. Healthy: below .1, and about
# 1 where they all begin at 0.
LEAP = 3.0
# Times the first loss, or 1 if that is less.
_FAR = 10.0
FLOOR = 1e-6  # a loss below has nothing left to learn: its gradient may be 0


def number(value) -> float:
  """In: 3.0, or (6.0, 2.0) for a sum and its weight   Out: 3.0."""
  if isinstance(value, tuple):
    return float(value[0]) / max(float(value[1]), 1e-30)
  return float(value)


def parameter_norm(state) -> float:
  """The norm of all parameters; 0 for a state that has none."""
  if not hasattr(state, "params"):
    return 0.0
  return float(jax.jit(optax.tree.norm)(state.params))


@dataclasses.dataclass
class Health:
  """Signs of divergence in a stage so far; a checkpoint holds its `state`.

  folder: of the stage, for what is advised.
  """

  label: str
  folder: str
  norm: float  # the largest of the parameters so far
  skipped: int = 0
  dead: int = 0
  high: int = 0
  first: float | None = None  # loss

  def state(self) -> dict:
    """What a resume gives back to `Health(..)`: numbers by name."""
    names = ("norm", "skipped", "dead", "high", "first")
    return {name: getattr(self, name) for name in names}

  def step(self, metrics, at: int, saved: int) -> None:
    """Looks at one step; raises NumericsError where training is lost."""
    found = {
      name: number(metrics[name])
      for name in ("loss", "grad_norm", "update_norm", "param_norm", "skipped")
      if name in metrics
    }
    seen = [name for name in ("loss", "grad_norm") if name in found]
    bad = [name for name in seen if not math.isfinite(found[name])]
    skipped = found.get("skipped", 0.0) > 0
    self.skipped = self.skipped + 1 if bad or skipped else 0
    if self.skipped and not (skipped and self.skipped < _PATIENCE):
      what = f"{' and '.join(bad) or 'the gradient'} not finite"
      raise self._lost(f"{what} at step {at}", saved)
    if self.skipped:
      return
    if self.norm and found.get("update_norm", 0.0) > LEAP * self.norm:
      far = found["update_norm"] / self.norm
      raise self._lost(
        f"step {at} moved the parameters by {far:.3g} times their norm", saved
      )
    self.norm = max(self.norm, found.get("param_norm", 0.0))
    loss = found.get("loss")
    if self.first is None:
      self.first = loss
    # Without a loss, as in GRPO, no gradient may mean that all were equal.
    still = found.get("grad_norm") == 0.0 and loss is not None and loss > FLOOR
    self.dead = self.dead + 1 if still else 0
    if self.dead >= _PATIENCE:
      raise self._lost(
        f"gradient 0 in {self.dead} steps up to {at}, with a loss of {loss:.4g}"
      )

  def line(self, means, at: int, *, last: bool) -> None:
    """Looks at the averages of a log line, as `step` does."""
    loss, first = means.get("loss"), self.first
    far = None not in (loss, first) and loss > _FAR * max(first, 1.0)
    self.high = self.high + 1 if far else 0
    if self.high >= _PATIENCE or (far and last):
      raise self._lost(
        f"a loss of {loss:.4g} at step {at}, {first:.4g} at the start"
      )

  def _lost(self, what: str, saved: int | None = None) -> NumericsError:
    """saved: the step to go on from; None where that is lost as well."""
    rate = f"--config.{self.label}.optim.learning_rate"
    if saved is None:
      return NumericsError(
        f"{self.label}: {what}; delete {self.folder} and what came after it,"
        f" then the same command with a lower {rate} trains it anew"
      )
    then = f"goes on from step {saved}" if saved else "begins it again"
    return NumericsError(
      f"{self.label}: {what}; nothing of it was saved; the same command with a"
      f" lower {rate} {then}"
    )
