"""Step of decoding: bytes that a chip reads, by kind, the floor and kernels.

A step draws one token of text, or one group of a map's codes, for each row that
the chip holds. It reads

  weights    the decoder's matrices, once, whatever the rows;
  head       the columns of what may be drawn, once;
  own        keys and values of each row's own positions, as many as the
             sampler reads: a mean over the steps of a turn of text;
  prompts    keys and values of the prompts, once for a group.

No chip is faster than its memory:

  seconds a step     >= (weights + head + own + prompts) / bandwidth
  tokens/s a chip    <= rows / tensor / seconds a step

with the bandwidth of `parallel/chips.py`; `tensor` chips share their rows.
What is written, activations and logits are left out, and so are the keys that
locations point at: the floor stays one.
"""

import dataclasses

import numpy as np

from cooper_jax.models.cache import LANES
from cooper_jax.parallel.chips import Slice
from cooper_jax.parallel.loops import KernelLoop, read
from cooper_jax.plan import capacity
from cooper_jax.stages import supervised


@dataclasses.dataclass(frozen=True)
class StepReads:
  """Bytes that one step reads on one device, by what is read."""

  rows: float  # that the device holds, with others of its tensor axis
  tensor: int  # devices that share these rows
  weights: float
  head: float
  own: float
  prompts: float

  @property
  def kinds(self) -> dict[str, float]:
    """Bytes by kind."""
    return {
      name: getattr(self, name)
      for name in ("weights", "head", "own", "prompts")
    }

  @property
  def total(self) -> float:
    """Bytes of all kinds together."""
    return sum(self.kinds.values())

  def seconds(self, found: Slice) -> float:
    """Seconds that the step takes at least on a chip of a slice."""
    share = found.chip.per_device
    return self.total / (found.chip.memory_gb_s * share * capacity.GB)

  def tokens_a_second(self, found: Slice) -> float:
    """Tokens that a chip draws in a second of text, at most."""
    devices = self.tensor * found.chip.per_device
    return self.rows / devices / self.seconds(found)


def of_text(policy, params, *, batch: int, group: int, prompt: int, sizes):
  """StepReads of a step of text, a mean over a whole answer.

  batch: prompts of a step, with `group` rows and `prompt` positions each.
  sizes: of the mesh's axes, by name.
  """
  head = policy.form.vocabulary.text_rows
  positions = _mean(
    [own_positions(policy, place) for place in _text_places(policy)]
  )
  return _reads(policy, params, batch, group, prompt, sizes, head, positions)


def of_map(policy, params, *, batch: int, group: int, prompt: int, sizes):
  """StepReads of a step of a map's codes, a mean over a whole answer."""
  head = policy.form.model.codes
  places = _map_places(policy)
  positions = _mean([own_positions(policy, place) for place in places])
  return _reads(policy, params, batch, group, prompt, sizes, head, positions)


def own_positions(policy, position: int) -> int:
  """Own positions that the sampler reads to feed a token at a position."""
  limits, form = policy.limits, policy.form
  rungs = [(0, limits.positions(form))]  # the whole cache at every step
  if hasattr(limits, "ladder"):
    rungs = limits.ladder(form)
  return sum(
    -(-(end - first) // LANES) * LANES
    for first, end in rungs
    if first <= position
  )


def _text_places(policy) -> list[int]:
  limits = policy.limits
  return [
    limits.text_start(turn, policy.form) + step
    for turn in range(limits.maps + 1)
    for step in range(limits.text)
  ]


def _map_places(policy) -> list[int]:
  limits, model = policy.limits, policy.form.model
  return [
    limits.map_start(index, policy.form) + step
    for index in range(limits.maps)
    for step in range(0, model.map_positions, model.step_codes)
  ]


def _mean(counts) -> float:
  return sum(counts) / len(counts) if counts else 0.0


def _reads(policy, params, batch, group, prompt, sizes, head, positions):
  model = policy.form.model
  width = capacity.F32 if model.dtype == "float32" else capacity.BF16
  tensor, here = sizes["tensor"], batch / (sizes["data"] * sizes["fsdp"])
  each = capacity.position_bytes(model, width) / tensor
  return StepReads(
    rows=here * group,
    tensor=tensor,
    weights=supervised.matrices(params) * width / tensor,
    head=head * model.d_model * width / tensor,
    own=here * group * positions * each,
    prompts=here * prompt * each,
  )


@dataclasses.dataclass(frozen=True)
class StepKernels:
  """Kernels of one step: those of each layer, and all others.

  Means over the steps of a call, for those that read more have a few more.
  """

  others: float
  layers: int  # 0 = the layers are no loop, and their kernels are in `others`
  a_layer: float
  most: int  # of any step

  @property
  def a_step(self) -> float:
    """Kernels of the whole step."""
    return self.others + self.layers * self.a_layer


def kernels(text: str, layers: int) -> StepKernels | None:
  """Kernels of a step of the sampler, as it was compiled.

  A step is a trip of a loop that has the loop over the layers in it; there is
  one of text and one of maps, and more where the sampler has a ladder. Where
  the layers are no loop, it is one of the loops that have none in them. None
  where there is no loop at all.
  """
  loops = list(_with_times(read(text), 1))
  steps = [
    (times, loop, inner)
    for times, loop in loops
    for inner in loop.loops
    if inner.trips == layers
  ]
  if steps:
    weights = [times for times, _, _ in steps]
    a_layer = np.average([inner.a_trip for *_, inner in steps], weights=weights)
    a_step = np.average([loop.a_trip for _, loop, _ in steps], weights=weights)
    most = max(loop.a_trip for _, loop, _ in steps)
    return StepKernels(
      float(a_step - layers * a_layer), layers, float(a_layer), most
    )
  single = [(times, loop.own) for times, loop in loops if not loop.loops]
  if not single:
    return None
  times, counts = zip(*single, strict=True)
  mean = float(np.average(counts, weights=times))
  return StepKernels(mean, 0, 0.0, max(counts))


def _with_times(program: KernelLoop, times: int):
  """Yields (trips in one call, loop) of every loop of a program."""
  for loop in program.loops:
    yield times * loop.trips, loop
    yield from _with_times(loop, times * loop.trips)


def shown(step: StepReads, found: Slice, counted: StepKernels | None) -> str:
  """Lines on a step for the table: GB a chip, MB a row, kernels, the floor."""
  parts = ", ".join(
    f"{_NAMES[name]} {size / capacity.GB:.2f} ({size / step.rows / 1e6:.1f})"
    for name, size in step.kinds.items()
  )
  text = (
    f"a step of text reads {step.total / capacity.GB:.2f} GB (MB a row of"
    f" {step.rows:g}): {parts}; at least {1e3 * step.seconds(found):.1f} ms, so"
    f" at most {step.tokens_a_second(found):,.0f} tokens/s a chip"
  )
  if counted is not None:
    text += f"; {counted.a_step:,.0f} kernels"
    if counted.layers:
      text += (
        f", {counted.others:.0f} and {counted.a_layer:.1f} in each of"
        f" {counted.layers} layers"
      )
  return text


_NAMES = {
  "weights": "weights", "head": "head", "own": "own keys and values",
  "prompts": "prompts'",
}  # fmt: skip
