"""The loop that every training stage runs: step, log, save, stop, resume.

A stage gives a step function and an iterator that knows its position; the
loop gives an exact resume. Six steps in one run, or three, a kill and three
more, end in the same bits and log the same numbers: the state, the position
in the data and the half-filled averages of the log are all in a checkpoint.
"""

from collections.abc import Callable

import jax
import numpy as np

from cooper_jax.errors import Preempted, UserError
from cooper_jax.parallel import processes
from cooper_jax.runtime.interrupt import StopRequest
from cooper_jax.training import (
  disk_space,
  health,
  profile,
  telemetry,
  workdir,
)
from cooper_jax.training.log_line import line
from cooper_jax.training.manifest import to_json


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


def _host(metrics) -> dict:
  """Copies metrics to the host; waits for the step that makes them."""
  metrics = jax.device_get(metrics)
  return {
    name: tuple(np.float64(part) for part in value)
    if isinstance(value, (tuple, list))
    else np.float64(value)
    for name, value in metrics.items()
  }


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

  def count(self, tokens: float) -> None:
    self._steps += 1
    self._tokens += tokens

  def read(self) -> dict[str, float]:
    wall, cpu = self._watch.read()
    if not self._steps or wall <= 0:
      return {}
    rate = {"steps_per_s": self._steps / wall, "cpu_cores": cpu / wall}
    if self._tokens:
      rate["tokens_per_s"] = self._tokens / wall
    if self._flops:
      rate["gemm_share"] = self._flops * self._steps / wall / self._peak
    return rate


def _position(batches) -> dict:
  """Where every process is in the data; one state where all say the same."""
  state = batches.state()
  if not processes.several():
    return state
  found = processes.gather("position", to_json(state))
  if found is None or all(each == found[0] for each in found):
    return state  # process 0 writes: that of the others goes nowhere
  return {"processes": found}


def _own_position(saved: dict) -> dict:
  """This process' part of what `_position` gave."""
  here = len(processes.members())
  if "processes" not in saved:
    return saved
  if len(saved["processes"]) != here:
    raise UserError(
      f"the checkpoint was made by {len(saved['processes'])} processes, these"
      f" are {here}; run as many, or start in a new workdir"
    )
  return saved["processes"][processes.index()]


def _whole(state) -> bool:
  """False where a step had already taken the arrays for its own use."""
  leaves = jax.tree.leaves(state)
  return not any(isinstance(x, jax.Array) and x.is_deleted() for x in leaves)


def run_loop(
  *,
  label: str,
  steps: int,
  state,
  step_fn: Callable,
  batches,
  writer: telemetry.MetricWriter,
  checkpoints,
  log_every: int,
  save_every: int,
  on_log: Callable | None = None,
  images: Callable | None = None,
  image_every: int = 0,
  flops_per_step: float | None = None,
  shown: dict[str, str] | None = None,
):
  """Runs `step_fn(state, batch) -> (state, metrics)` until `steps` are done.

  `batches` is an iterator with `state() -> dict` and `restore(dict)`, of
  JSON-able values, bytes or small arrays. `metrics` maps names to numbers or
  (sum, weight) pairs; the number `tokens` is counted into tokens/s.
  `on_log(step, state, means)` may return further scalars, `images(step,
  state)` pictures u8[H,W,3]; all processes call it. `shown` says what the log
  line shows, see `stages/line.py`. Starts from the newest checkpoint if there
  is one. Returns `(state, figures)`, figures being seconds and rates.

  Raises Preempted after saving when asked to stop, NumericsError where the
  loss is lost. A UserError of a batch or a step goes on to the caller; one
  process alone saves the steps before it first.
  """
  start, window, seen, earlier = 0, Window(), {}, 0.0
  found = checkpoints.restore(state)
  if found is not None:
    state, data_state, meta = found
    batches.restore(_own_position(data_state))
    start, window = meta["step"], Window(meta["window"])
    # Older checkpoints have no more of it.
    seen = meta["health"] if "health" in meta else {"skipped": meta["skipped"]}
    earlier = meta["seconds"]
    print(f"{label:9s} resumes at step {start} of {steps}", flush=True)
  # Also at the start: a run killed before its first checkpoint left lines.
  writer.rewind(start)
  figures = {"seconds": earlier}
  if start >= steps:
    return state, figures
  every = save_every or steps
  saves = -(-steps // every) - start // every
  disk_space.check(checkpoints, state, label=label, saves=saves)

  watch, total = telemetry.Stopwatch(), Rate(flops_per_step)
  pending, saved, tokens = None, start, 0.0
  folder = checkpoints.directory.parent
  step_fn = profile.traced(step_fn, folder, left=steps - start)
  if "norm" not in seen:
    seen["norm"] = health.parameter_norm(state)
  patient = health.Health(label, str(folder), **seen)

  def settle():
    nonlocal pending, tokens
    if pending is None:
      return
    number, metrics = pending[0], _host(pending[1])
    pending = None
    patient.step(metrics, number, saved)
    tokens = health.number(metrics.get("tokens", 0.0))
    window.add(metrics)
    if number == start + 1:
      bar.say(f"first step took {watch.read()[0]:.1f} s (compiling)")
      total.start()
      recent.start()
    else:
      total.count(tokens)
      recent.count(tokens)

  def save(step, position):
    nonlocal saved
    meta = {
      "step": step,
      "window": window.sums,
      "health": patient.state(),
      "seconds": earlier + watch.read()[0],
    }
    checkpoints.save(step, state, data_state=position, meta=meta)
    saved = step

  recent = Rate(flops_per_step)
  with (
    telemetry.Progress(steps, label, start=start) as bar,
    StopRequest(label) as stop,
    workdir.noting_loss(folder),
  ):
    for step in range(start + 1, steps + 1):
      before = None if processes.several() else batches.state()
      try:
        batch = next(batches)
        state, metrics = step_fn(state, batch)
      except UserError:
        # Of a sample, or of what scores: the steps before it are not lost.
        if before is not None and step - 1 > saved and _whole(state):
          settle()
          save(step - 1, before)
          checkpoints.wait()
        raise
      # The host reads the step before while the device works on this one.
      settle()
      pending = (step, metrics)
      if step == start + 1:
        settle()  # waits: the clock starts where the compile has ended
      bar.advance()
      last = step == steps
      if step % log_every == 0 or last:
        settle()
        means, rate = window.read(), recent.read()
        bar.say(line(step, steps, means, rate, shown))
        recent.start()
        extra = on_log(step, state, means) if on_log else None
        speed = {f"speed/{name}": value for name, value in rate.items()}
        writer.scalars(step, means | (extra or {}) | speed)
        patient.line(means, step, last=last)
      if images and image_every and (step % image_every == 0 or last):
        writer.images(step, images(step, state))
      stopping = stop.made(step) and not last
      if (save_every and step % save_every == 0) or last or stopping:
        settle()
        save(step, _position(batches))
      if stopping:
        checkpoints.wait()
        processes.barrier("stopped")  # none ends while another still writes
        raise Preempted(
          f"{label}: stopped and saved at step {saved} of {steps}; the same "
          "command goes on from there"
        )
    checkpoints.wait()
  figures = total.read() | {"seconds": earlier + watch.read()[0]}
  return state, figures
