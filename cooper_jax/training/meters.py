"""Meters of a training loop: averages of metrics, and steps per second."""

import jax
import numpy as np

from cooper_jax.parallel import processes
from cooper_jax.training import telemetry


class Window:
  """Averages of the metrics since the last log line."""

  def __init__(self, sums=None):
    # name -> [sum, weight]; a plain number counts with weight one.
    self.sums: dict[str, list[float]] = {
      name: list(pair) for name, pair in (sums or {}).items()
    }

  def add(self, metrics) -> None:
    for name, value in metrics.items():
      total, weight = value if isinstance(value, tuple) else (value, 1.0)
      pair = self.sums.setdefault(name, [0.0, 0.0])
      pair[0] += float(total)
      pair[1] += float(weight)

  def read(self) -> dict[str, float]:
    """Gives the averages and empties the window; weightless ones are left."""
    means = {
      name: total / weight
      for name, (total, weight) in self.sums.items()
      if weight
    }
    self.sums = {}
    return means


class Rate:
  """Steps, tokens and work per second, leaving out the first step (compile)."""

  def __init__(self, flops_per_step: float | None):
    self._flops = flops_per_step if processes.is_first() else None
    if self._flops:
      with processes.alone():
        self._peak = processes.count() * telemetry.gemm_peak()
    self.start()

  def start(self) -> None:
    self._watch, self._steps, self._tokens = telemetry.Stopwatch(), 0, 0.0
    self._wall = self._cpu = 0.0  # that are left out

  def leave_out(self, wall: float, cpu: float) -> None:
    """Seconds in which no step was taken."""
    self._wall, self._cpu = self._wall + wall, self._cpu + cpu

  def count(self, tokens: float) -> None:
    self._steps += 1
    self._tokens += tokens

  def read(self) -> dict[str, float]:
    wall, cpu = self._watch.read()
    wall, cpu = wall - self._wall, cpu - self._cpu
    if not self._steps or wall <= 0:
      return {}
    rate = {"steps_per_s": self._steps / wall, "cpu_cores": cpu / wall}
    if self._tokens:
      rate["tokens_per_s"] = self._tokens / wall
    if self._flops:
      rate["gemm_share"] = self._flops * self._steps / wall / self._peak
    return rate


def to_host(metrics) -> dict:
  """Copies metrics to the host; waits for the step that makes them."""
  metrics = jax.device_get(metrics)
  return {
    name: tuple(np.float64(part) for part in value)
    if isinstance(value, (tuple, list))
    else np.float64(value)
    for name, value in metrics.items()
  }
