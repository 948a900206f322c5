"""Profiler traces of a stage's training steps, written by jax.profiler.

`--profile=STEPS` of cooper_jax.main traces so many steps of every stage that it
trains. The trace is in the stage's folder, plugins/profile/<time>/, where
TensorBoard looks for it beside the stage's curves. The first step of a run is
left out where there is another, since it is mostly compiling.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax

from cooper_jax.parallel import processes

_STEPS = contextvars.ContextVar("steps to trace", default=0)


@contextlib.contextmanager
def steps(count: int):
  """Traces `count` steps of every stage that is trained inside; 0 = none."""
  token = _STEPS.set(count)
  try:
    yield
  finally:
    _STEPS.reset(token)


def traced(step_fn: Callable, folder: Path, left: int) -> Callable:
  """`step_fn`, or the same with a trace of some of its calls in `folder`.

  left: calls there will be.
  """
  count = min(_STEPS.get(), left)
  if not count or not processes.is_first():
    return step_fn
  skip = 1 if left > 1 else 0
  return _Traced(step_fn, Path(folder), skip, min(count, left - skip))


@dataclasses.dataclass
class _Traced:
  """A step function whose calls skip+1 to skip+count are traced."""

  step_fn: Callable
  folder: Path
  skip: int
  count: int
  calls: int = 0

  def __call__(self, state, batch):
    if self.calls == self.skip:
      jax.block_until_ready(state)  # nothing of the steps before
      jax.profiler.start_trace(str(self.folder))
    self.calls += 1
    inside = self.skip < self.calls <= self.skip + self.count
    if not inside:
      return self.step_fn(state, batch)
    with jax.profiler.StepTraceAnnotation("train", step_num=self.calls):
      found = self.step_fn(state, batch)
    if self.calls == self.skip + self.count:
      jax.block_until_ready(found)
      jax.profiler.stop_trace()
      print(
        f"traced {self.count} steps into {self.folder}/plugins/profile",
        flush=True,
      )
    return found
