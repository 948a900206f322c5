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

import jax.numpy as jnp

from cooper_jax.models import cached_attention
from cooper_jax.models.cache import aligned
from cooper_jax.parallel.chips import Slice
from cooper_jax.parallel.loops import read
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
  ladder = policy.limits.ladder(policy.form)
  begun = [rung for rung in ladder if rung[0] <= position]
  if policy.form.model.unroll:
    return sum(aligned(end - first) for first, end in begun)
  read, every = aligned(begun[-1][1]), aligned(ladder[-1][1])
  if policy.form.model.attention == "splash":
    return cached_attention.whole(read, every)
  return read


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
  kept, width = (
    jnp.dtype(name).itemsize for name in (model.dtype, model.operands)
  )
  tensor, here = sizes["tensor"], batch / (sizes["data"] * sizes["fsdp"])
  each = capacity.position_bytes(model, kept) / tensor
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
  """Kernels of a step, of every loop that makes steps: text, maps, rungs."""

  layers: int  # 0 = the layers are no loop, and their kernels are in `others`
  others: tuple[int, ...]  # beside those of the layers, of each loop
  a_layer: tuple[int, ...]  # of each loop

  @property
  def a_step(self) -> list[int]:
    """Kernels of a whole step of each loop."""
    return [
      others + self.layers * a_layer
      for others, a_layer in zip(self.others, self.a_layer, strict=True)
    ]


def kernels(text: str, layers: int) -> StepKernels | None:
  """Kernels of a step of the sampler, as it was compiled.

  A step is a trip of a loop that has the loop over the layers in it. Where the
  layers are no loop, it is a trip of one that has none in it. None where there
  is no loop at all.
  """
  loops = list(read(text).inner())
  steps = [
    (loop.a_trip - layers * inner.a_trip, inner.a_trip)
    for loop in loops
    for inner in loop.loops
    if inner.trips == layers
  ]
  if steps:
    return StepKernels(layers, *zip(*steps, strict=True))
  single = tuple(loop.own for loop in loops if not loop.loops)
  return StepKernels(0, single, (0,) * len(single)) if single else None


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
    text += f"; kernels {_span(counted.a_step)}"
    if counted.layers:
      text += f", {_span(counted.a_layer)} in each of {counted.layers} layers"
  return text


def _span(counts) -> str:
  least, most = min(counts), max(counts)
  return f"{least:,}" if least == most else f"{least:,} to {most:,}"


_NAMES = {
  "weights": "weights", "head": "head", "own": "own keys and values",
  "prompts": "prompts'",
}  # fmt: skip
