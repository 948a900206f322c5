"""Table of a run's programs, compiled for a slice that is not here.

Per chip: arguments, temporaries and peak memory as the compiler gives them;
what is received, by kind; and how long a call would take at least, by the
slowest of arithmetic (counted by formula), memory and links. Of decoding, too,
what a step reads and how many kernels it starts (`decode.py`).
"""

import collections
import dataclasses
import re
import time

import jax

from cooper_jax.errors import UserError
from cooper_jax.parallel import hlo, topology
from cooper_jax.parallel.chips import LISTED, Slice, find_slice
from cooper_jax.parallel.mesh import MeshConfig, describe, make_mesh
from cooper_jax.plan import budget, decode, programs
from cooper_jax.plan.capacity import FILLED, GB
from cooper_jax.policy import abstract_params, check_heads, make_policy
from cooper_jax.runtime import compilation

STAGE_OF = {"gradients": "grpo", "apply": "grpo", "prefill": "grpo"}
STAGE_OF |= {"decode": "grpo"}


@dataclasses.dataclass(frozen=True)
class ProgramRow:
  """What one program takes on a chip; bytes and seconds of one call."""

  name: str
  arguments: float
  temporary: float
  peak: float
  received: dict[str, int]
  whole: list[str]  # parameters, see `whole`
  compute: float
  memory: float
  links: float
  compiling: float
  step: decode.StepReads | None = None  # of text, where tokens are drawn
  kernels: decode.StepKernels | None = None  # of such a step

  @property
  def floor(self) -> float:
    """Seconds that a call takes at least."""
    return max(self.compute, self.memory, self.links)


def run(asked) -> None:
  """Prints what the flags --plan and --compile_only ask for."""
  if asked.plan:
    plan(asked.config)
  if asked.topology:
    compile_for(asked.config, asked.topology)


def device_memory(found: Slice) -> float:
  """Bytes of memory that a JAX device of a slice has."""
  return found.chip.memory_gb * found.chip.per_device * GB


def compile_for(config, topology_name: str) -> None:
  """Prints the table; UserError if a program does not fit, with advice."""
  found = find_slice(topology_name)
  tensor = budget.axis_sizes(config, found)["tensor"]
  check_heads(make_policy(config, platform="tpu"), tensor)
  _check_state(config, found)
  mesh = topology.absent_mesh(found, MeshConfig(**config.mesh))
  made = programs.of(config)
  if not made:
    raise UserError(
      f"config.pipeline is {tuple(config.pipeline)}; --compile_only takes a"
      " stage of pretrain, sft and grpo, so name one of them"
    )
  print(f"{found.name}: {found.chips} chips, mesh {describe(mesh)}")
  print(HEADER, flush=True)
  for name, make in made.items():
    with jax.set_mesh(mesh):
      row = compile_one(name, make(), found)
    if row is not None:
      print(line(row, found), flush=True)
    if row is None or row.peak > device_memory(found):
      raise UserError(_refuse(config, found, name))


def _check_state(config, found: Slice) -> None:
  """Raises UserError where parameters and optimiser alone have no room."""
  params = _params(config)
  for stage, each in budget.budgets(config, found, params).items():
    if each.held > device_memory(found):
      raise UserError(_refuse(config, found, stage))


def compile_one(name: str, program, found: Slice) -> ProgramRow | None:
  """Compiles one program; None where the compiler finds no room for it."""
  start = time.perf_counter()
  lowered = program.trace().lower(lowering_platforms=("tpu",))
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if not compilation.fills_memory(error):
      raise
    return None
  seconds = time.perf_counter() - start
  memory = compiled.memory_analysis()
  text = compiled.as_text()
  moved = hlo.collectives(text)
  received = hlo.totals(moved)
  chip = found.chip
  arguments = memory.argument_size_in_bytes
  fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
  peak = max(
    memory.peak_memory_in_bytes,
    arguments + fresh + memory.temp_size_in_bytes,
  )
  return ProgramRow(
    name=name,
    arguments=arguments,
    temporary=memory.temp_size_in_bytes,
    peak=peak,
    received=received,
    whole=whole(moved, program.params),
    compute=program.flops / (found.chips * chip.teraflops * 1e12),
    memory=program.traffic / (found.chips * chip.memory_gb_s * GB),
    # What a chip receives takes half of what its links can do both ways.
    links=2 * sum(received.values()) / (chip.per_device * chip.link_gb_s * GB),
    compiling=seconds,
    step=program.step,
    kernels=program.step and decode.kernels(text, program.layers),
  )


def whole(moved, params) -> list[str]:
  """Sharded parameters that the program moves in one piece.

  What belongs to one layer may be: there it is used. More than the largest
  matrix of a layer is a whole table, or one matrix of all layers.
  """
  layer = max(
    leaf.size // leaf.shape[0] if "/blocks/" in name else 0
    for name, leaf in params.items()
  )
  large = {
    name: _sides(leaf.shape)
    for name, leaf in params.items()
    if leaf.size > layer and not leaf.sharding.is_fully_replicated
  }
  times = collections.Counter()
  for each in moved:
    for _, shape in each.arrays:
      for name, sides in large.items():
        if _alike(_sides(shape), sides):
          times[f"{name} ({each.kind})"] += each.times
  return [f"{what} x {count}" for what, count in times.most_common(8)]


def _sides(shape) -> list[int]:
  return sorted(size for size in shape if size > 1)


def _alike(sides, others) -> bool:
  """Whether an array is another, but for the order of its axes or some rows."""
  return len(sides) == len(others) and all(
    0.9 * other <= side <= other
    for side, other in zip(sides, others, strict=True)
  )


HEADER = (
  f"{'program':10s} {'arguments':>9s} {'temporary':>9s} {'peak':>7s}"
  f" {'of chip':>7s} {'received':>9s}  {'at least':>9s} {'allows':>6s}"
  "  by kind, GB"
)


def line(row: ProgramRow, found: Slice) -> str:
  """One row of the table, in GB and milliseconds."""
  share = row.peak / device_memory(found)
  kinds = ", ".join(
    f"{kind} {size / GB:.2f}" for kind, size in sorted(row.received.items())
  )
  bound = {
    row.compute: "arithmetic", row.memory: "memory", row.links: "links"
  }[row.floor]  # fmt: skip
  allows = f"{row.compute / row.floor:6.0%}" if row.floor else "     -"
  text = (
    f"{row.name:10s} {row.arguments / GB:9.2f} {row.temporary / GB:9.2f}"
    f" {row.peak / GB:7.2f} {share:7.0%} {sum(row.received.values()) / GB:9.2f}"
    f"  {1e3 * row.floor:6.0f} ms {allows}  {bound}; {kinds or 'nothing'};"
    f" compiled in {row.compiling:.0f} s"
  )
  if row.step:
    text += f"\n{'':10s} {decode.shown(row.step, found, row.kernels)}"
  if row.whole:
    text += f"\n{'':10s} in one piece: {', '.join(row.whole)}"
  return text


def _refuse(config, found: Slice, name: str) -> str:
  params, stage = _params(config), STAGE_OF.get(name, name)
  knobs = budget.advice(config, found, params, stage)
  there = budget.budgets(config, found, params)[stage]
  larger = budget.room(config, found, params, stage)
  sizes = (device_memory(found), there.total, there.held)
  memory, total, state = (f"{size / GB:.0f}" for size in sizes)
  knobs.append("a larger slice" + (f", as {larger}" if larger else ""))
  return (
    f"{name} does not fit the {memory} GB of a {found.chip.name}: about {total}"
    f" GB, {state} of them parameters and optimiser; largest gain first:"
    f" {'; '.join(knobs)}"
  )


def plan(config) -> None:
  """Prints for every listed slice what a chip would hold, by arithmetic.

  Of reinforcement also the tokens of text that a chip draws in a second at
  most: by its memory's bandwidth (`decode.py`).
  """
  params = _params(config)
  print(f"{budget.count(params):,} parameters; GB a chip, by arithmetic alone")
  for stage in config.pipeline if config.lora.rank else ():
    if stage in config.lora.stages:
      own, _ = budget.trained(config, params, stage)
      print(f"{stage}: LoRA of rank {config.lora.rank} trains {own:,}")
  names = [f.name for f in dataclasses.fields(budget.Budget)]
  print(
    f"{'slice':20s} {'stage':9s}", *(f"{n:>9s}" for n in names),
    f"{'tokens/s':>9s}    total",
  )  # fmt: skip
  for name in LISTED:
    found = find_slice(name)
    try:
      stages = budget.budgets(config, found, params)
    except UserError as error:
      print(f"{name:20s} {re.sub(r';.*', '', str(error))}")
      continue
    memory = device_memory(found)
    for stage, each in stages.items():
      parts = (f"{value / GB:9.2f}" for value in dataclasses.astuple(each))
      share = each.total / memory
      verdict = "fits" if share < FILLED else "tight"
      verdict = verdict if share < 1 else "does not fit"
      drawn = ""
      if stage == "grpo":
        drawn = f"{_step(config, found, params).tokens_a_second(found):,.0f}"
      print(
        f"{name:20s} {stage:9s}", *parts, f"{drawn:>9s}",
        f"{each.total / GB:8.2f} of {memory / GB:.0f}: {verdict}",
      )  # fmt: skip


def _step(config, found: Slice, params) -> decode.StepReads:
  """A step of text of the sampler on a slice."""
  return decode.of_text(
    make_policy(config, platform=found.chip.platform),
    params,
    batch=config.grpo.batch,
    group=config.grpo.rl.group_size,
    prompt=max(config.sampling.prompt_buckets),
    sizes=budget.axis_sizes(config, found),
  )


def _params(config):
  """The parameters' shapes, on a mesh of one device."""
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    return abstract_params(make_policy(config, platform="tpu"))
