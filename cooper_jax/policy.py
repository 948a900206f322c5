"""Policy: model, vocabulary, token format and text, built from a config.

Every stage after the tokenizers builds it the same way, so that a checkpoint
of one stage is a start for the next.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cooper_jax import modalities, plugins
from cooper_jax.errors import UserError
from cooper_jax.models import kernels, rounding, unified
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
from cooper_jax.training import precision
from cooper_jax.training.checkpoint import Checkpoints
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
    **settings.pop("vision"), image_size=config.data.image_size
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
    markup=MarkupEncoder(form, text, drawn),
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
    empty["images"],
    empty["image_at"],
    method=unified.Unified.everything,
  )


def boxed_params(policy: Policy):
  """The shapes of `init_params`, which is traced once for a model."""
  return _boxed(policy.model, policy.form, jax.sharding.get_abstract_mesh())


@functools.lru_cache(maxsize=8)
def _boxed(model, form, mesh):
  del mesh  # it is read where the model names its axes
  init = functools.partial(_init_params, model, form)
  return jax.eval_shape(init, jax.random.key(0))


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


def _state_shardings(policy: Policy, optimizer, **parts: bool):
  abstract = abstract_state(policy, optimizer, **parts)
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


def abstract_params(policy: Policy, rules: Rules = TRAIN_RULES):
  """The parameters' shapes, with their shardings by a table of rules."""
  check_heads(policy, jax.sharding.get_mesh().shape["tensor"])
  boxed = boxed_params(policy)
  shardings = shard.abstract_shardings(boxed, jax.sharding.get_mesh(), rules)
  return shard.placed(shard.unbox(boxed), shardings)


def param_shardings(policy: Policy):
  """Shardings of the parameters in training."""
  return jax.tree.map(lambda leaf: leaf.sharding, abstract_params(policy))


def abstract_state(policy: Policy, optimizer, **parts: bool):
  """The state's shapes with their shardings; no array is made."""
  make = functools.partial(create, optimizer=optimizer, **parts)
  abstract = jax.eval_shape(
    lambda params, key: make(params, key=key),
    shard.unbox(boxed_params(policy)),
    jax.random.key(0),
  )
  mesh = jax.sharding.get_mesh()
  shardings = shard.state_shardings(abstract, param_shardings(policy), mesh)
  return shard.placed(abstract, shardings)


def for_sampling(policy: Policy, params):
  """The parameters as the sampler wants them, once a step.

  Sharded as for decoding, so that no layer is gathered for a single token, and
  rounded (`models.rounding`). The very same arrays where neither changes
  anything.
  """
  mesh, operands = jax.sharding.get_mesh(), policy.form.model.operands
  if operands == "float32" and mesh.shape["fsdp"] == 1:
    return params
  return _convert(policy, mesh)(params)


@functools.cache
def _convert(policy: Policy, mesh):
  del mesh  # part of the key: the shardings are of the mesh that is set
  wanted = jax.tree.map(lambda x: x.sharding, sampling_params(policy))
  return jax.jit(
    lambda params: rounding.rounded(params, policy.form.model),
    out_shardings=wanted,
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


def load_params(
  policy: Policy, folder: Path, *, averaged: bool = False, older: bool = False
):
  """Returns the parameters that a stage's folder holds, None if it has none.

  Raises UserError where the checkpoint is corrupt or of another shape. older:
  whether, where it is corrupt, the one before it will do.
  """
  checkpoints = Checkpoints(Path(folder) / "checkpoints")
  boxed = boxed_params(policy)
  shardings = shard.abstract_shardings(boxed, jax.sharding.get_mesh())
  abstract = jax.tree.map(
    lambda leaf, sharding: leaf.update(sharding=sharding),
    shard.unbox(boxed),
    shardings,
  )
  part = "ema" if averaged else "params"
  params = checkpoints.restore_part(part, abstract, older=older)
  checkpoints.close()
  return params


def own_params(policy: Policy, params):
  """Parameters on this process' devices alone, for `processes.alone`.

  All processes have to call it; in a run of one they stay where they are.
  """
  if not processes.several():
    return params
  boxed = boxed_params(policy)
  shardings = shard.abstract_shardings(boxed, own_mesh())
  return jax.device_put(shard.whole(params), shardings)


def load_stage(
  policy: Policy, config, workdir, stage: str, *, older: bool = False
):
  """Returns `stage_params`; UserError where there are none.

  older: as in `load_params`; not for what is trained further or measured.
  """
  params = stage_params(policy, config, workdir, stage, older=older)
  if params is None:
    raise UserError(
      f"no {stage} checkpoint in {workdir}; put {stage!r} into config.pipeline"
      " before this stage"
    )
  return params


def stage_params(
  policy: Policy, config, workdir, stage: str, *, older: bool = False
):
  """Returns the parameters that a stage ended with, or its best, or None."""
  averaged = config[stage].optim.ema_decay > 0
  folder = Path(workdir) / stage
  # Older configs do not say which; the best are the averages where there are.
  if "result" in config[stage] and config[stage].result == "best":
    folder, averaged = folder / "best", False
  return load_params(policy, folder, averaged=averaged, older=older)
