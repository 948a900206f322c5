"""Memory of a chip that each stage needs, by arithmetic: no compiler, a second.

An estimate of the parts that grow: what is kept of parameters and optimiser,
what a layer keeps for the backward pass and what it works with, the logits,
the cache. The compiler's figure (`table.py`) is the one to believe.
"""

import dataclasses
import math

import jax

from cooper_jax import plugins
from cooper_jax.errors import UserError
from cooper_jax.models import kernels
from cooper_jax.parallel.chips import LISTED, Slice, find_slice
from cooper_jax.parallel.mesh import AXES, MeshConfig, make_mesh, mesh_shape
from cooper_jax.plan import capacity
from cooper_jax.plan.capacity import F32, FILLED, GB
from cooper_jax.policy import (
  abstract_frozen,
  abstract_params,
  adaptation_of,
  check_heads,
  make_policy,
)
from cooper_jax.rollouts import documents
from cooper_jax.sequences import packing, scoring
from cooper_jax.stages import supervised


@dataclasses.dataclass(frozen=True)
class Budget:
  """Bytes on one chip, by what they hold."""

  state: float  # parameters that are trained, and optimiser
  frozen: float  # parameters that LoRA leaves as they are
  gradients: float
  kept: float  # for the backward pass
  working: float  # of a layer, and gathered weights
  logits: float
  cache: float  # of rows that are sampled, and the weights for sampling

  @property
  def total(self) -> float:
    """Bytes held at once: sampling ends before the update begins."""
    update = self.gradients + self.kept + self.working + self.logits
    return self.held + max(update, self.cache)

  @property
  def held(self) -> float:
    """Bytes that are there before anything is computed."""
    return self.state + self.frozen

  @property
  def parts(self) -> float:
    """Bytes of all parts together, whether or not held at once."""
    return sum(dataclasses.astuple(self))


def count(params) -> int:
  """Number of parameters in a tree of arrays or of shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def axis_sizes(config, found: Slice) -> dict[str, int]:
  """Size of each mesh axis; UserError where the chips don't fill the mesh."""
  mesh = mesh_shape(MeshConfig(**config.mesh), found.devices)
  return dict(zip(AXES, mesh, strict=True))


def _width(dtype: str) -> int:
  return jax.numpy.dtype(dtype).itemsize


def _check_widths(model, sizes: dict[str, int]) -> None:
  """Raises UserError where fsdp does not divide the parameters' widths."""
  parts = sizes["fsdp"]
  for name, width in (
    ("d_model", model.d_model), ("vision.width", model.vision.width)
  ):  # fmt: skip
    if width % parts:
      raise UserError(
        f"config.mesh.fsdp={parts} does not divide config.model.{name}={width};"
        f" the most is {math.gcd(width, parts)}"
      )


def budgets(config, found: Slice, params) -> dict[str, Budget]:
  """Memory that each stage of a config needs on one chip of a slice."""
  policy = make_policy(config, platform=found.chip.platform)
  sizes = axis_sizes(config, found)
  check_heads(policy, sizes["tensor"])
  _check_widths(policy.form.model, sizes)
  out = {}
  for stage in config.pipeline:
    if stage in ("pretrain", "sft"):
      shape = plugins.find("stages", stage).row_shape(config, policy)
      rows = config[stage].batch / config[stage].optim.micro_batches
      out[stage] = _training(config, policy, sizes, params, shape, rows, stage)
    elif stage == "grpo":
      shape = documents.row_shape(
        policy.form,
        policy.limits,
        trunk=max(config.sampling.prompt_buckets),
        bins=config.grpo.bins,
      )
      rows = config.grpo.rows
      update = _training(config, policy, sizes, params, shape, rows, stage)
      cache = _cache(config, policy, sizes, params)
      out[stage] = dataclasses.replace(update, cache=cache)
  return out


def trained(config, params, stage: str) -> tuple[int, float]:
  """(parameters that a stage trains, bytes of those that it leaves frozen)."""
  # Shapes are any platform's, and this one's kernels are traced anywhere.
  policy = make_policy(config, platform="tpu")
  with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
    adaptation = adaptation_of(policy, config, stage)
    if adaptation is None:
      return count(params), 0.0
    frozen = abstract_frozen(policy, adaptation)
    own = abstract_params(policy, adaptation=adaptation)
  leaves = jax.tree.leaves(frozen)
  return count(own), sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _training(config, policy, sizes, params, shape: packing.Shape, rows, stage):
  model = policy.form.model
  width, rounded = _width(model.dtype), _width(model.operands)
  sharded, tensor = sizes["fsdp"] * sizes["tensor"], sizes["tensor"]
  local = max(1.0, rows / (sizes["data"] * sizes["fsdp"]))
  tokens = local * shape.length / sizes["sequence"]
  own, frozen = trained(config, params, stage)
  layer = supervised.matrices(params) / model.layers
  # Of a layer: the scores of attention, forward and backward, and the MLP.
  keys = shape.length if not shape.bin_size else shape.trunk + shape.bin_size
  scores = tokens * model.heads / tensor * keys * F32 * 3
  if model.attention != kernels.XLA:
    scores = 0.0
  inner = tokens * (3 * model.ffn / tensor + 6 * model.d_model) * width * 2
  layers = model.layers if model.remat == "none" else 1
  vocabulary = policy.form.vocabulary.text_rows
  texts = max(shape.texts, 1)
  logits = local * texts * vocabulary / tensor * F32
  if logits > model.kept_logits_mib * 2**20:  # not all of them are kept
    logits *= min(scoring.CHUNK, texts) / texts
  table = vocabulary * model.d_model * F32 / tensor
  return Budget(
    state=own * F32 * 3 / sharded,
    frozen=frozen / sharded,
    gradients=own * F32 / sharded,
    kept=tokens * model.d_model * model.layers * width,
    working=(scores + inner) * layers
    + (2 * layer * rounded / tensor + table) * (sharded > tensor),
    logits=logits * 3,  # restricted and their gradient, too
    cache=0.0,
  )


def _cache(config, policy, sizes, params) -> float:
  """All that a step's rollouts hold, and the weights they are made by."""
  group, tensor, model = (
    config.grpo.rl.group_size,
    sizes["tensor"],
    policy.form.model,
  )
  rows = config.grpo.batch * group / (sizes["data"] * sizes["fsdp"])
  each = capacity.row(
    model,
    own=policy.limits.positions(policy.form),
    prompt=max(config.sampling.prompt_buckets),
    group=group,
    words=policy.form.vocabulary.text_rows,
    tensor=tensor,
    width=_width(model.dtype),
  )
  return rows * each + count(params) * _width(model.operands) / tensor


def advice(config, found: Slice, params, stage: str) -> list[str]:
  """What would make a stage smaller on a chip, largest gain first.

  Of each knob the mildest turn that makes it fit, else the furthest; whether
  it is of sampling or of the update that a stage is too large, both are told.
  """
  now = budgets(config, found, params)[stage].parts
  limit = FILLED * found.chip.memory_gb * found.chip.per_device * GB
  tried = []
  for turns in _knobs(config, found, stage):
    best = None
    for changes in turns:
      changed = config.copy_and_resolve_references()
      with changed.unlocked():
        changed.update_from_flattened_dict(changes)
      try:
        need = budgets(changed, found, params)[stage].parts
      except UserError:  # these sizes can't be: not advised
        continue
      if best is None or best[0] > need:
        best = need, changes
      if need < limit:
        break
    if best and best[0] < now:
      less = now - best[0]
      words = " ".join(
        f"config.{key}={value}" for key, value in best[1].items()
      )
      tried.append((less, f"{words} (about {less / GB:.1f} GB less)"))
  return [words for _, words in sorted(tried, reverse=True)]


def room(config, found: Slice, params, stage: str) -> str | None:
  """The smallest listed slice of the same chip with room for a stage."""
  for name in LISTED:
    larger = find_slice(name)
    if larger.chip != found.chip or larger.chips <= found.chips:
      continue
    try:
      need = budgets(config, larger, params)[stage].total
    except UserError:  # a mesh that it does not fill
      continue
    if need < FILLED * larger.chip.memory_gb * larger.chip.per_device * GB:
      return name
  return None


def _knobs(config, found: Slice, stage: str):
  """Of each knob its turns, mildest first: what it sets, by flat name."""
  sizes = axis_sizes(config, found)
  ranks = sizes["data"] * sizes["fsdp"]
  if config.lora.rank and config.lora.base_dtype == "float32":
    yield [{"lora.base_dtype": "bfloat16"}]
  if config.model.remat != "full":
    yield [{"model.remat": "full"}]
  if stage == "grpo":
    for key in ("rows", "batch"):
      halves = _halves(config.grpo[key], ranks)
      yield [{f"grpo.{key}": half} for half in halves]
  else:
    rows = config[stage].batch
    yield [
      {f"{stage}.optim.micro_batches": rows // half}
      for half in _halves(rows // config[stage].optim.micro_batches, ranks)
    ]
  if sizes["data"] > found.slices:
    yield [{"mesh.data": found.slices, "mesh.fsdp": ranks // found.slices}]
  tensor = 2 * sizes["tensor"]
  yield [{"mesh.tensor": tensor, "mesh.data": found.slices, "mesh.fsdp": -1}]


def _halves(count: int, ranks: int):
  """Half of a count and half of that, as long as all devices have some."""
  while count % (2 * ranks) == 0:
    count //= 2
    yield count
