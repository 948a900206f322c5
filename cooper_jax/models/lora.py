"""LoRA: low-rank updates of frozen layers, in a tree of their own.

A layer y = x W becomes y = x W + alpha / rank * x A B, with W frozen, A drawn
and B zero at first, so that training begins with what was there (Hu et al.,
arXiv 2106.09685). What is trained, A, B and what has no frozen weights to begin
with, is a sparse tree: gradients, optimiser, averages and checkpoints are of it
alone. For the model it is laid over the frozen one, for the sampler both are
merged into an ordinary one.
"""

import dataclasses
import fnmatch
import math
import zlib

import jax
import jax.numpy as jnp
from flax import struct, traverse_util

from cooper_jax.errors import UserError, nearest
from cooper_jax.models import rounding
from cooper_jax.models.config import ModelConfig

A, B = "lora_a", "lora_b"  # beside a layer's "kernel"
KERNEL = "kernel"
# Behind the name of a table: its last rows, which are trained.
OWN_ROWS = "_own"
ROW_TABLES = ("embedding", "head")
RANK = "rank"  # logical axis between A and B
OWN = "own"  # in `full`: what no imported folder has
BASE_DTYPES = ("auto", "float32", "bfloat16")
EXPORTS = ("none", "adapter", "merged")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Low-rank training of the policy, beside frozen parameters."""

  rank: int = 0  # columns of A and rows of B; 0 = off, all is trained
  alpha: float = 32.0  # A B counts alpha / rank
  # Layers that have A and B: patterns of their names, divided by commas.
  match: str = "decoder/blocks/*"
  # What is trained in full: patterns of parameters' names, divided by commas;
  # own = what no folder of released weights has, "" = nothing.
  full: str = OWN
  # Type that frozen matrices are kept in: float32 | bfloat16 | auto (that in
  # which they are multiplied, which changes no result).
  base_dtype: str = "auto"
  # Stages that are trained so; others train all.
  stages: tuple[str, ...] = ("pretrain", "sft", "grpo")
  # What a stage leaves in the hub's form: none | adapter (PEFT's) | merged.
  export: str = "none"

  def __post_init__(self):
    for field, allowed in (("base_dtype", BASE_DTYPES), ("export", EXPORTS)):
      value = getattr(self, field)
      if value not in allowed:
        raise UserError(
          f'config.lora.{field} is "{value}"; allowed: {", ".join(allowed)}'
          f"{nearest(value, allowed)}"
        )
    if self.rank < 0:
      raise UserError(f"config.lora.rank is {self.rank}; allowed: 0 and more")
    if not 0 < self.alpha < math.inf:
      raise UserError(f"config.lora.alpha is {self.alpha}; allowed: above 0")

  @property
  def scale(self) -> float:
    """What A B is multiplied by."""
    return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class Adaptation:
  """What of a model is trained, by name, and what is added to what."""

  rank: int
  scale: float
  layers: tuple[str, ...]  # that have A and B
  full: tuple[str, ...]  # parameters that are trained in full
  own_rows: tuple[str, ...]  # tables of which the last rows are trained
  first_row: int  # of those
  base_dtype: str = "auto"


@struct.dataclass
class Frozen:
  """The parameters beside those that are trained; `base` is a whole tree.

  It has what is trained in full as it was before, too: with A and B left out
  it is the policy that the stage began with.
  """

  base: dict
  scale: float = struct.field(pytree_node=False)


def plan(params, config: LoraConfig, *, imported=(), text: int) -> Adaptation:
  """What a config trains of a model; UserError where a pattern names nothing.

  params: a tree of shapes [...], with axis names or without. imported: patterns
  of names that folders of released weights have, () where there are none.
  text: rows of a table that such a folder has.
  """
  flat = flatten(params)
  full, own_rows = [], ()
  for pattern in patterns(config.full):
    if pattern != OWN:
      full += _matching(pattern, flat, "config.lora.full", "parameter")
    elif imported:
      full += [name for name in flat if not fits(name, imported)]
      own_rows = [n for n in ROW_TABLES if n in flat and fits(n, imported)]
  own_rows = tuple(name for name in own_rows if name not in full)
  known = linear_layers(flat)
  layers = [
    name
    for pattern in patterns(config.match)
    for name in _matching(pattern, known, "config.lora.match", "layer")
  ]
  kept = {name for name in layers if f"{name}/{KERNEL}" not in full}
  if not layers:
    raise UserError(
      f'config.lora.match is "{config.match}" and names no layer; there are'
      f" {_some(known)}"
    )
  if not kept:
    raise UserError(
      f"config.lora.match={config.match} leaves no layer for A and B:"
      " config.lora.full has them all; let it name others"
    )
  return Adaptation(
    config.rank,
    config.scale,
    tuple(name for name in known if name in kept),
    tuple(name for name in flat if name in set(full)),
    own_rows,
    text,
    config.base_dtype,
  )


def patterns(said: str) -> list[str]:
  """In: "a/*, b"   Out: ["a/*", "b"]."""
  return [each.strip() for each in said.split(",") if each.strip()]


def linear_layers(names) -> list[str]:
  """The layers that a model has products with, by parameters' names."""
  ending = f"/{KERNEL}"
  return [name.removesuffix(ending) for name in names if name.endswith(ending)]


def fits(name: str, given) -> bool:
  """Whether a name fits one of the patterns."""
  return any(fnmatch.fnmatchcase(name, pattern) for pattern in given)


def _matching(pattern: str, names, setting: str, what: str) -> list[str]:
  found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
  if not found:
    close = nearest(pattern, names) or f"; there are {_some(names)}"
    raise UserError(f'{setting} names no {what} with "{pattern}"{close}')
  return found


def _some(names) -> str:
  names = list(names)
  more = f" and {len(names) - 6} more" if len(names) > 6 else ""
  return f"{', '.join(names[:6])}{more}"


def flatten(params) -> dict:
  """Leaves by name: {"params": {"a": {"b": x}}} -> {"a/b": x}."""
  return traverse_util.flatten_dict(dict(params["params"]), sep="/")


def unflatten(flat: dict) -> dict:
  """The tree of `flatten`."""
  return {"params": traverse_util.unflatten_dict(flat, sep="/")}


def trained_shapes(boxed, adaptation: Adaptation):
  """Shapes with axis names of all that is trained, of a model's with them.

  Raises UserError where the model lacks a parameter.
  """
  flat = flatten(boxed)
  kernels = [f"{name}/{KERNEL}" for name in adaptation.layers]
  for name in (*adaptation.full, *adaptation.own_rows, *kernels):
    if name not in flat:
      raise UserError(
        f"LoRA trains {name}, which the model lacks{nearest(name, flat)}; give"
        " the config.model that it was begun with"
      )
  found = {name: flat[name] for name in adaptation.full}
  for name in adaptation.own_rows:
    rows = flat[name].value.shape[0] - adaptation.first_row
    found[name + OWN_ROWS] = _like(flat[name], 0, rows, "vocabulary")
  for name in adaptation.layers:
    kernel = flat[f"{name}/{KERNEL}"]
    found[f"{name}/{A}"] = _like(kernel, -1, adaptation.rank, RANK)
    found[f"{name}/{B}"] = _like(kernel, -2, adaptation.rank, RANK)
  return unflatten(dict(sorted(found.items())))


def _like(box, axis: int, size: int, name: str):
  """A box of another size along one axis, which has another name then.

  Float32, whatever the frozen one is: it is trained.
  """
  shape, names = list(box.value.shape), list(box.names)
  shape[axis], names[axis] = size, name
  value = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
  return box.replace(value=value, names=tuple(names))


def trained_parts(params, adaptation: Adaptation) -> dict:
  """What is trained and is no A or B, by name, as it is in a whole tree."""
  flat = flatten(params)
  found = {name: flat[name] for name in adaptation.full}
  for name in adaptation.own_rows:
    found[name + OWN_ROWS] = flat[name][adaptation.first_row :]
  return found


def begin(parts: dict, shapes, *, key):
  """What is trained, [...] each, before the first step.

  The policy is what it was. parts: of `trained_parts`; shapes: of
  `trained_shapes`, unboxed. A is drawn as PEFT draws it, uniformly up to
  1 / sqrt(inputs).
  """
  found = {}
  for name, shape in flatten(shapes).items():
    layer, _, last = name.rpartition("/")
    if last == A:
      each = jax.random.fold_in(key, zlib.crc32(layer.encode()))
      bound = shape.shape[-2] ** -0.5
      found[name] = jax.random.uniform(
        each, shape.shape, jnp.float32, -bound, bound
      )
    elif last == B:
      found[name] = jnp.zeros(shape.shape, jnp.float32)
    else:
      found[name] = jnp.array(parts[name], jnp.float32)
  return unflatten(found)


def laid_over(frozen: Frozen | None, trained):
  """The parameters as the model takes them in training, [...] each.

  B counts its scale. Without `frozen` they are those that are trained.
  """
  if frozen is None:
    return trained
  flat = flatten(trained)
  scaled = {
    name: x * frozen.scale if name.endswith(B) else x
    for name, x in flat.items()
  }
  return unflatten(flatten(frozen.base) | scaled)


def merged(frozen: Frozen | None, trained):
  """Ordinary parameters, [...] each: what is trained is added in float32."""
  if frozen is None:
    return trained
  whole = dict(flatten(frozen.base))
  flat = flatten(trained)
  for name, x in flat.items():
    layer, _, last = name.rpartition("/")
    if last == A:
      kernel, b = whole[f"{layer}/{KERNEL}"], flat[f"{layer}/{B}"]
      product = jnp.matmul(x, b, precision=jax.lax.Precision.HIGHEST)
      added = kernel.astype(jnp.float32) + product * frozen.scale
      whole[f"{layer}/{KERNEL}"] = added
    elif name.endswith(OWN_ROWS):
      table = name.removesuffix(OWN_ROWS)
      first = whole[table][: -x.shape[0]].astype(x.dtype)
      whole[table] = jnp.concatenate([first, x])
    elif last != B:
      whole[name] = x
  return unflatten(whole)


def base_dtypes(params, adaptation: Adaptation, model: ModelConfig):
  """The dtype that each frozen parameter [...] is kept in.

  Of "auto" that in which products and look-ups round it anyway.
  """
  asked = adaptation.base_dtype
  if asked != "auto":
    model = dataclasses.replace(model, dtype=asked, operands=asked)
  return rounding.dtypes(params, model)
