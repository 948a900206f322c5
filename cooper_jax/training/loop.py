"""The loop that every training stage runs: step, log, save, stop, resume.

A stage gives a step function and an iterator that knows its position; the
loop gives an exact resume. Six steps in one run, or three, a kill and three
more, end in the same bits and log the same numbers: the state, the position
in the data and the half-filled averages of the log are all in a checkpoint.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

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
from cooper_jax.training.meters import Rate, Window, to_host


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


@dataclasses.dataclass(kw_only=True)
class Loop:
  """Training of one stage; `run` does what is left of it.

  Raises, from `run`: Preempted after saving when asked to stop, NumericsError
  where the loss is lost. A UserError of a batch or a step goes on to the
  caller; one process alone saves the steps before it first.
  """

  label: str  # of the stage, in every line that is printed
  steps: int  # of the whole stage
  state: Any  # new; `restore` puts that of the newest checkpoint in its place
  # step_fn(state, batch) -> (state, metrics): metrics by name, numbers or
  # (sum, weight) pairs; the number `tokens` is counted into tokens/s.
  step_fn: Callable
  # Iterator with state() -> dict and restore(dict), of JSON-able values, bytes
  # or small arrays.
  batches: Any
  writer: telemetry.MetricWriter
  checkpoints: Any  # training.checkpoint.Checkpoints
  log_every: int  # steps
  save_every: int  # steps; 0 = at the end
  # on_log(step, state, means) -> further scalars or None; all processes call.
  on_log: Callable | None = None
  # images(step, state) -> {name: u8 [H, W, 3]}; all processes call.
  images: Callable | None = None
  image_every: int = 0  # steps; 0 = never
  # Measured before the first step, every `validation.every` steps and at the
  # end: begin(step) when a run begins at it, then validation(step, state,
  # saved=step of the newest checkpoint) -> (scalars, what is said). All
  # processes call. `best` is None where nothing was measured or it is lost;
  # room(state) is the bytes that it may take on disk.
  validation: Any = None
  flops_per_step: float | None = None
  shown: dict[str, str] | None = None  # what the log line has, see `log_line`

  def run(self):
    """Returns (state, figures), figures being seconds and rates."""
    self.restore()
    if self.start >= self.steps:
      return self.state, {"seconds": self.earlier}
    self._check_disk()
    self._begin()
    with (
      telemetry.Progress(self.steps, self.label, start=self.start) as self.bar,
      StopRequest(self.label) as stop,
      workdir.noting_loss(self.folder),
    ):
      if self.validation:
        self.validation.begin(self.start)
        if self.validation.best is None:
          self.validate(self.start)
      for step in range(self.start + 1, self.steps + 1):
        self.train(step)
        last = step == self.steps
        if step % self.log_every == 0 or last:
          self.log(step)
        shows = self.images and self.image_every
        if shows and (step % self.image_every == 0 or last):
          self.writer.images(step, self.images(step, self.state))
        if self.validation and (step % self.validation.every == 0 or last):
          self.validate(step)
        stopping = stop.made(step) and not last
        due = self.save_every and step % self.save_every == 0
        if due or last or stopping:
          self._settle()
          self.save(step, _position(self.batches))
        if stopping:
          self._stop()
      self.checkpoints.wait()
    return self.state, self.total.read() | {"seconds": self._seconds()}

  def restore(self) -> None:
    """Goes to where the newest checkpoint is, or to the start."""
    self.start = 0  # step that is done
    self.window = Window()
    self.earlier = 0.0  # seconds of the stage before this process
    self.seen = {}  # fields of `health.Health`
    found = self.checkpoints.restore(self.state)
    if found is not None:
      self.state, position, meta = found
      self.batches.restore(_own_position(position))
      self.start, self.window = meta["step"], Window(meta["window"])
      self.earlier = meta["seconds"]
      # Older checkpoints have no more of it.
      older = "health" not in meta
      self.seen = {"skipped": meta["skipped"]} if older else meta["health"]
      print(
        f"{self.label:9s} resumes at step {self.start} of {self.steps}",
        flush=True,
      )
    # Also at the start: a run killed before its first checkpoint left lines.
    self.writer.rewind(self.start)

  def train(self, step: int) -> None:
    """One step; the host reads the one before while the device works."""
    before = None if processes.several() else self.batches.state()
    try:
      batch = next(self.batches)
      self.state, metrics = self.step_fn(self.state, batch)
    except UserError:
      # Of a sample, or of what scores: the steps before it are not lost.
      lost = before is not None and step - 1 > self.saved
      if lost and _whole(self.state):
        self._settle()
        self.save(step - 1, before)
        self.checkpoints.wait()
      raise
    self._settle()
    self.pending = (step, metrics)
    if step == self.start + 1:
      self._settle()  # waits: the clock starts where the compile has ended
    self.bar.advance()

  def log(self, step: int) -> None:
    """Prints a line and writes the averages since the last one."""
    self._settle()
    means, rate = self.window.read(), self.recent.read()
    self.bar.say(line(step, self.steps, means, rate, self.shown))
    self.recent.start()
    extra = self.on_log(step, self.state, means) if self.on_log else None
    speed = {f"speed/{name}": value for name, value in rate.items()}
    self.writer.scalars(step, means | (extra or {}) | speed)
    self.health.line(means, step, last=step == self.steps)

  def validate(self, step: int) -> None:
    """Measures the state, says so and writes it."""
    self._settle()
    begun = telemetry.Stopwatch()
    values, said = self.validation(step, self.state, saved=self.saved)
    self.bar.say(said)
    self.writer.scalars(step, values)
    self.recent.leave_out(*begun.read())
    self.total.leave_out(*begun.read())

  def save(self, step: int, position: dict) -> None:
    """Saves what `restore` reads; `position` is that of the data."""
    meta = {
      "step": step,
      "window": self.window.sums,
      "health": self.health.state(),
      "seconds": self._seconds(),
    }
    self.checkpoints.save(step, self.state, data_state=position, meta=meta)
    self.saved = step

  def _begin(self) -> None:
    """Starts the clocks and the watch over the loss."""
    self.watch, self.total = telemetry.Stopwatch(), Rate(self.flops_per_step)
    self.pending = None  # (step, metrics) that the host has not read yet
    self.saved = self.start  # step of the newest checkpoint
    self.folder = self.checkpoints.directory.parent
    if "norm" not in self.seen:
      self.seen["norm"] = health.parameter_norm(self.state)
    self.health = health.Health(self.label, str(self.folder), **self.seen)
    self.recent = Rate(self.flops_per_step)  # since the last log line
    left = self.steps - self.start
    self.step_fn = profile.traced(self.step_fn, self.folder, left=left)

  def _check_disk(self) -> None:
    every = self.save_every or self.steps
    saves = -(-self.steps // every) - self.start // every
    disk_space.check(
      self.checkpoints,
      self.state,
      label=self.label,
      saves=saves,
      beside=self.validation.room(self.state) if self.validation else 0,
    )

  def _settle(self) -> None:
    """Reads the metrics of the pending step, which waits for it."""
    if self.pending is None:
      return
    (step, metrics), self.pending = self.pending, None
    metrics = to_host(metrics)
    self.health.step(metrics, step, self.saved)
    self.window.add(metrics)
    if step == self.start + 1:
      seconds = self.watch.read()[0]
      self.bar.say(f"first step took {seconds:.1f} s (compiling)")
      self.total.start()
      self.recent.start()
    else:
      tokens = health.number(metrics.get("tokens", 0.0))
      self.total.count(tokens)
      self.recent.count(tokens)

  def _seconds(self) -> float:
    """Seconds of this stage, those before a resume too."""
    return self.earlier + self.watch.read()[0]

  def _stop(self):
    self.checkpoints.wait()
    processes.barrier("stopped")  # none ends while another still writes
    raise Preempted(
      f"{self.label}: stopped and saved at step {self.saved} of {self.steps};"
      " the same command goes on from there"
    )
