"""Policy: model, vocabulary, token format and text, built from a config.

Every stage after the tokenizers builds it the same way, so that a checkpoint
of one stage is a start for the next.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cooper_jax import modalities, plugins
from cooper_jax.data import fitting
from cooper_jax.errors import UserError
from cooper_jax.models import kernels, lora, rounding, unified
from cooper_jax.models.config import ModelConfig, VisionConfig
from cooper_jax.parallel import processes, shard
from cooper_jax.parallel.mesh import own_mesh
from cooper_jax.parallel.rules import DECODE_RULES, TRAIN_RULES, Rules
from cooper_jax.sampling.grammar import Limits
from cooper_jax.sequences import packing, segments
from cooper_jax.sequences.markup import MarkupEncoder
from cooper_jax.tokenizers import picture_tokenizer, text_files
from cooper_jax.tokenizers.folder_text import FolderText
from cooper_jax.tokenizers.text import TextTokenizer
from cooper_jax.tokenizers.vocab import Vocabulary
from cooper_jax.training import precision, start_folders
from cooper_jax.training.state import create


@dataclasses.dataclass(frozen=True)
class Policy:
  """The model and what it speaks."""

  model: unified.Unified
  form: segments.Format
  text: TextTokenizer
  markup: MarkupEncoder
  limits: Limits
  # Every modality there is, as the config sets it up.
  modalities: Mapping[str, Any] = dataclasses.field(
    default_factory=dict, hash=False
  )


def find_text(config) -> TextTokenizer:
  """The text tokenizer of a config: a downloaded folder's, or the package's.

  Raises UserError where the folder has another than the one that was noted.
  """
  if config.text_folder or config.text_digest:
    return FolderText.load(config.text_folder, digest=config.text_digest)
  return TextTokenizer.load()


def note_text(config) -> None:
  """Notes in a config its text's digest and rows, by which a run knows it.

  The digest is of the tokenizer's file alone; the rows stand in another one.
  """
  config.text_digest = text_files.checked(
    config.text_folder, config.text_digest
  )
  if config.text_folder and not config.text_rows:
    config.text_rows = find_text(config).rows


def make_policy(config, *, platform: str = "") -> Policy:
  """Builds the policy of a config; raises UserError where sizes don't fit.

  platform: as JAX names it, of the devices that it will run on; "" = those
  here.
  """
  platform = platform or jax.default_backend()
  text = find_text(config)
  drawn = tuple(
    (name, plugins.find("modalities", name).MODALITY_ID)
    for name in config.modalities
  )
  settings = dict(config.model)
  codes, code_levels = picture_tokenizer.code_rows(config)
  dtypes = precision.dtypes(config.precision, platform)
  settings["attention"] = kernels.choose(
    settings["attention"],
    platform,
    head_dim=settings["head_dim"],
    dtype=dtypes.activations,
    sequences=config.mesh.sequence,
  )
  if settings["attention"] == "cudnn" and settings["remat"] == "attention":
    raise UserError(
      "config.model.remat=attention keeps nothing of cuDNN's attention, whose"
      " parts have no names; take full, dots or none"
    )
  settings["unroll"] = kernels.unrolled(settings["unroll"], platform)
  rows = config.text_rows or text.rows
  if rows < text.size:
    raise UserError(
      f"config.text_rows is {rows}, the text tokenizer has {text.size} tokens;"
      " raise it, or give 0 for as many"
    )
  vision = VisionConfig(
    **settings.pop("vision"),
    image_size=config.data.image_size,
    # Older packages and runs know of no fit.
    shapes=fitting.shapes(config.data.get("fit", fitting.SQUASH)),
  )
  model_config = ModelConfig(
    **settings,
    text=rows,
    codes=codes,
    code_levels=code_levels,
    vision=vision,
    dtype=dtypes.activations,
    operands=dtypes.operands,
  )
  vocabulary = Vocabulary(
    rows, model_config.locations, model_config.codes, text.size, text.absent
  )
  calls = {
    modality_id: text.encode(" " + plugins.find("modalities", name).CALL)
    for name, modality_id in drawn
  }
  if len({ids[0] for ids in calls.values()}) < len(calls):
    raise UserError(
      f"of config.modalities ({', '.join(config.modalities)}) two have a CALL"
      " that begins with the same token; the sampler bars calls by their first"
      " one: let each begin with another word"
    )
  form = segments.Format(
    vocabulary,
    model_config,
    modality_ids=tuple(modality_id for _, modality_id in drawn),
    max_maps=model_config.max_maps,
    calls=tuple((modality_id, ids[0]) for modality_id, ids in calls.items()),
  )
  if config.sampling.maps > model_config.max_maps:
    raise UserError(
      f"config.sampling.maps is {config.sampling.maps}, the model learns at"
      f" most config.model.max_maps={model_config.max_maps} in an answer"
    )
  return Policy(
    model=unified.Unified(model_config, vocabulary.text_rows),
    form=form,
    text=text,
    markup=MarkupEncoder(
      form, text, drawn, config.data.get("tell_lens", False)
    ),
    limits=Limits(
      text=config.sampling.text,
      maps=config.sampling.maps,
      # A call is held between two tags and followed by the map's opening.
      script=max(Limits.script, 3 + max(map(len, calls.values()))),
    ),
    modalities=modalities.of(config),
  )


def init_params(policy: Policy, key):
  """Returns fresh parameters, boxed with their logical axis names."""
  return _init_params(policy.model, policy.form, key)


def _init_params(model: unified.Unified, form: segments.Format, key):
  shape = packing.Shape(length=8, texts=1, codes=1)
  empty = packing.pack([], form=form, shape=shape, rows=1)
  tokens, layout = packing.inputs(empty)
  return model.init(
    key,
    tokens,
    layout,
    packing.pictures(empty),
    empty["image_at"],
    method=unified.Unified.everything,
  )


def adaptation_of(policy: Policy, config, stage: str):
  """What LoRA trains in a stage (`lora.Adaptation`); None = all is trained."""
  settings = lora.LoraConfig(**config.lora)
  if not settings.rank or stage not in settings.stages:
    return None
  return lora.plan(
    boxed_params(policy),
    settings,
    imported=start_folders.imported(config),
    text=policy.form.model.text,
  )


def boxed_params(policy: Policy, adaptation: lora.Adaptation | None = None):
  """The shapes of `init_params`, which is traced once for a model.

  adaptation: of what LoRA trains of them, None = of all.
  """
  boxed = _boxed(policy.model, policy.form, jax.sharding.get_abstract_mesh())
  return lora.trained_shapes(boxed, adaptation) if adaptation else boxed


@functools.lru_cache(maxsize=8)
def _boxed(model, form, mesh):
  del mesh  # it is read where the model names its axes
  init = functools.partial(_init_params, model, form)
  return jax.eval_shape(init, _abstract_key())


def _abstract_key():
  """The shape of a random key, made nowhere: a plan's devices don't compute."""
  return jax.eval_shape(jax.random.key, 0)


def init_state(policy: Policy, optimizer, *, seed: int, **parts: bool):
  """Returns the state before the first step, sharded as it is made.

  parts: `ema` and `stale_params`, as in `state.create`.
  """

  def make(key):
    params = shard.unbox(init_params(policy, key))
    return create(params, optimizer, key=key, **parts)

  shardings = _state_shardings(policy, optimizer, **parts)
  return jax.jit(make, out_shardings=shardings)(jax.random.key(seed))


def start_from(policy: Policy, optimizer, params, *, seed: int, **parts: bool):
  """Returns the state before the first step from a former stage's parameters.

  Copied: the step donates its state, and the caller may keep the parameters
  as a reference policy.
  """

  def make(params, key):
    params = jax.tree.map(jnp.copy, params)
    return create(params, optimizer, key=key, **parts)

  shardings = _state_shardings(policy, optimizer, **parts)
  params = jax.device_put(params, shardings.params)
  return jax.jit(make, out_shardings=shardings)(params, jax.random.key(seed))


def _state_shardings(policy: Policy, optimizer, *given, **parts: bool):
  abstract = abstract_state(policy, optimizer, *given, **parts)
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def check_heads(policy: Policy, tensor: int) -> None:
  """Raises UserError where key heads would be divided over devices."""
  kv_heads = policy.form.model.kv_heads
  if kv_heads % tensor:
    raise UserError(
      f"config.mesh.tensor={tensor} does not divide"
      f" config.model.kv_heads={kv_heads}; the most is"
      f" {math.gcd(kv_heads, tensor)}"
    )


def abstract_params(
  policy: Policy,
  rules: Rules = TRAIN_RULES,
  adaptation: lora.Adaptation | None = None,
):
  """The parameters' shapes, with their shardings by a table of rules.

  adaptation: as in `boxed_params`.
  """
  check_heads(policy, jax.sharding.get_mesh().shape["tensor"])
  boxed = boxed_params(policy, adaptation)
  shardings = shard.abstract_shardings(boxed, jax.sharding.get_mesh(), rules)
  return shard.placed(shard.unbox(boxed), shardings)


def param_shardings(policy: Policy, adaptation: lora.Adaptation | None = None):
  """Shardings of the parameters in training; as in `boxed_params`."""
  abstract = abstract_params(policy, adaptation=adaptation)
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def abstract_frozen(policy: Policy, adaptation: lora.Adaptation | None):
  """The shapes of what is frozen beside what LoRA trains, None without."""
  if adaptation is None:
    return None
  params = abstract_params(policy)
  dtypes = lora.base_dtypes(params, adaptation, policy.form.model)
  base = jax.tree.map(
    lambda leaf, dtype: leaf.update(dtype=jnp.dtype(dtype)), params, dtypes
  )
  return lora.Frozen(base, adaptation.scale)


def abstract_state(
  policy: Policy,
  optimizer,
  adaptation: lora.Adaptation | None = None,
  **parts: bool,
):
  """The state's shapes with their shardings; no array is made."""
  make = functools.partial(create, optimizer=optimizer, **parts)
  abstract = jax.eval_shape(
    lambda params, key: make(params, key=key),
    shard.unbox(boxed_params(policy, adaptation)),
    _abstract_key(),
  )
  mesh, own = jax.sharding.get_mesh(), param_shardings(policy, adaptation)
  return shard.placed(abstract, shard.state_shardings(abstract, own, mesh))


def for_sampling(policy: Policy, params, frozen: lora.Frozen | None = None):
  """The parameters as the sampler wants them, once a step.

  Sharded as for decoding, so that no layer is gathered for a single token, and
  rounded (`models.rounding`); what LoRA trains is merged with what is frozen
  beside it. The very same arrays where none of it changes anything.
  """
  mesh, operands = jax.sharding.get_mesh(), policy.form.model.operands
  unchanged = operands == "float32" and mesh.shape["fsdp"] == 1
  if unchanged and frozen is None:
    return params
  return _convert(policy, mesh, decode=True)(frozen, params)


def whole_params(policy: Policy, params, frozen: lora.Frozen | None = None):
  """All parameters of a training state, in training's shardings.

  They are the state's own unless LoRA trains a part of them.
  """
  if frozen is None:
    return params
  mesh = jax.sharding.get_mesh()
  return _convert(policy, mesh, decode=False)(frozen, params)


@functools.cache
def _convert(policy: Policy, mesh, *, decode: bool):
  del mesh  # part of the key: the shardings are of the mesh that is set
  wanted = sampling_params(policy) if decode else abstract_params(policy)

  def convert(frozen, params):
    whole = lora.merged(frozen, params)
    return rounding.rounded(whole, policy.form.model)

  return jax.jit(
    convert, out_shardings=jax.tree.map(lambda x: x.sharding, wanted)
  )


def sampling_params(policy: Policy):
  """Shapes of what `for_sampling` returns."""
  abstract = abstract_params(policy, DECODE_RULES)
  return jax.tree.map(
    lambda leaf, dtype: jax.ShapeDtypeStruct(
      leaf.shape, dtype, sharding=leaf.sharding
    ),
    abstract,
    rounding.dtypes(abstract, policy.form.model),
  )


def own_params(policy: Policy, params, frozen: lora.Frozen | None = None):
  """Parameters on this process' devices alone, for `processes.alone`.

  All processes have to call it; in a run of one they stay where they are.
  frozen: as in `whole_params`.
  """
  params = whole_params(policy, params, frozen)
  if not processes.several():
    return params
  boxed = boxed_params(policy)
  shardings = shard.abstract_shardings(boxed, own_mesh())
  return jax.device_put(shard.whole(params), shardings)
