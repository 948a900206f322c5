"""Trained parameters: what a stage ended with, and what the next begins with.

A stage trains all parameters, or by LoRA a part of them beside others that stay
as they are. Whoever loads a stage's result gets whole parameters either way.
"""

import dataclasses
import zlib
from pathlib import Path

import jax
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.models import lora
from cooper_jax.parallel import shard
from cooper_jax.policy import (
  Policy,
  abstract_frozen,
  abstract_params,
  abstract_state,
  boxed_params,
  init_params,
  param_shardings,
)
from cooper_jax.training import lora_record, start_folders, workdir
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.state import create
from cooper_jax.weights import starting


def load_params(
  policy: Policy,
  folder: Path,
  *,
  averaged: bool = False,
  older: bool = False,
  config=None,
):
  """Returns the parameters that a stage's folder holds, None if it has none.

  Of a LoRA stage they are merged, in float32. Raises UserError where the
  checkpoint is corrupt or of another shape, or what LoRA's are beside is
  another. older: whether, where it is corrupt, the one before it will do.
  config: of the run, by default that in its folder; LoRA may begin with what it
  names.
  """
  record = lora_record.read(folder)
  adaptation = record and adaptation_in(record)
  params = restored(policy, folder, adaptation, averaged=averaged, older=older)
  if record is None or params is None:
    return params
  base = jax.device_put(
    load_base(policy, record, config), param_shardings(policy)
  )
  frozen = lora.Frozen(base, adaptation.scale)
  return jax.jit(lora.merged, out_shardings=param_shardings(policy))(
    frozen, params
  )


def restored(
  policy: Policy,
  folder: Path,
  adaptation: lora.Adaptation | None,
  *,
  averaged: bool,
  older: bool = False,
):
  """The parameters in a stage's checkpoint as they are; as `load_params`.

  adaptation: of what LoRA trained, None = of all.
  """
  checkpoints = Checkpoints(Path(folder) / "checkpoints")
  boxed = boxed_params(policy, adaptation)
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


def load_stage(
  policy: Policy, config, run_folder, stage: str, *, older: bool = False
):
  """Returns `stage_params`; UserError where there are none.

  older: as in `load_params`; not for what is trained further or measured.
  """
  params = stage_params(policy, config, run_folder, stage, older=older)
  if params is None:
    raise UserError(
      f"no {stage} checkpoint in {run_folder}; put {stage!r} into"
      " config.pipeline before this stage"
    )
  return params


def stage_params(
  policy: Policy, config, run_folder, stage: str, *, older: bool = False
):
  """Returns the parameters that a stage ended with, or its best, or None."""
  folder, averaged = result_of(config, run_folder, stage)
  return load_params(
    policy, folder, averaged=averaged, older=older, config=config
  )


def result_of(config, run_folder, stage: str) -> tuple[Path, bool]:
  """(folder that holds what a stage ended with, whether it is averages)."""
  averaged = config[stage].optim.ema_decay > 0
  folder = Path(run_folder) / stage
  # Older configs do not say which; the best are the averages where there are.
  if "result" in config[stage] and config[stage].result == "best":
    return folder / "best", False
  return folder, averaged


def adaptation_in(record: lora_record.Record) -> lora.Adaptation:
  """What a LoRA stage trains, as it noted it."""
  trains = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in record.trains.items()
  }
  return lora.Adaptation(**trains)


def load_base(policy: Policy, record: lora_record.Record, config=None):
  """The whole parameters beside which a LoRA stage trains, in float32.

  Raises UserError where they are not those that it began with.
  """
  base = record.base
  if "stage" in base:
    stage, averaged = base["stage"], base["averaged"]
    here = lora_record.of_stage(record.workdir, stage, averaged=averaged)
    lora_record.check(record, here)
    return load_params(
      policy, record.workdir / stage, averaged=averaged, config=config
    )
  config = config or workdir.read_config(record.workdir)
  lora_record.check(record, lora_record.of_folders(config))
  return imported_params(policy, config)


def begin_adapted(
  policy: Policy,
  optimizer,
  adaptation: lora.Adaptation,
  config,
  run_folder,
  stage: str,
  *,
  before: str | None,
  **parts: bool,
):
  """(state, frozen) of a LoRA stage before its first step (`adapt`).

  before: the stage whose parameters are frozen; None = folders of released
  weights. It is noted in the stage's folder; another one than was noted is
  refused, and so is LoRA beside new parameters, which know nothing.
  """
  folder = Path(run_folder) / stage
  if before:
    averaged = config[before].optim.ema_decay > 0
    base = lora_record.of_stage(run_folder, before, averaged=averaged)
  elif start_folders.folders(config):
    base = lora_record.of_folders(config)
  else:
    raise UserError(
      f"config.lora.rank is {adaptation.rank} and {stage} begins with new"
      " parameters, which would stay as they are drawn; set config.init.text or"
      " from, begin with a package (config.init_from), or leave the stage out"
      " of config.lora.stages"
    )
  lora_record.note(folder, dataclasses.asdict(adaptation), base)
  if before:
    params = load_stage(policy, config, run_folder, before)
  else:
    kept = abstract_frozen(policy, adaptation).base
    began = Checkpoints(folder / "checkpoints").latest() is not None
    params = imported_params(
      policy, config, like=kept, stage_folder=None if began else folder
    )
  return adapt(policy, optimizer, params, adaptation, **parts)


def adapt(
  policy: Policy,
  optimizer,
  params,
  adaptation: lora.Adaptation,
  *,
  seed: int,
  **parts: bool,
):
  """(state, frozen) before the first step of LoRA, by whole parameters.

  params: on devices or on the host; those that are frozen are kept in the dtype
  of the adaptation, and what is trained in full begins with what is kept: so
  the policy is at first its own reference, to the bit.
  """
  shapes = abstract_params(policy, adaptation=adaptation)
  kept = abstract_frozen(policy, adaptation)
  base = jax.tree.map(_placed, params, kept.base)
  given = lora.trained_parts(base, adaptation)

  def make(given, key):
    draw = jax.random.fold_in(key, zlib.crc32(b"lora"))
    trained = lora.begin(given, shapes, key=draw)
    return create(trained, optimizer, key=key, **parts)

  state = abstract_state(policy, optimizer, adaptation, **parts)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
  made = jax.jit(make, out_shardings=shardings)
  return made(given, jax.random.key(seed)), kept.replace(base=base)


def _placed(x, like):
  """An array in the dtype and the sharding of a shape; on the host it is
  rounded there."""
  if x.dtype != like.dtype:
    x = x.astype(like.dtype) if isinstance(x, np.ndarray) else _cast(x, like)
  return jax.device_put(x, like.sharding)


def _cast(x, like):
  round_ = lambda x: x.astype(like.dtype)  # noqa: E731
  return jax.jit(round_, out_shardings=like.sharding)(x)


def imported_params(policy: Policy, config, *, like=None, stage_folder=None):
  """Parameters of released weights, those of our own as a new run has them.

  Imported ones are read slice by slice to the devices, and of them none is
  drawn before. like: shapes whose dtypes they get, None = float32.
  stage_folder: where their origins are stored, which are printed then; None =
  neither.
  """
  shapes = lora.flatten(abstract_params(policy) if like is None else like)
  known = start_folders.imported(config)
  drawn = [n for n in shapes if not lora.fits(n, known)]
  tree = lora.unflatten(shapes | _drawn(policy, drawn, config.seed))
  if stage_folder is None:
    params, _ = starting.build(config, tree)
  else:
    params = starting.load(config, tree, stage_folder)
  flat = lora.flatten(params)
  left = [n for n, x in flat.items() if isinstance(x, jax.ShapeDtypeStruct)]
  return lora.unflatten(flat | _drawn(policy, left, config.seed))


def _drawn(policy: Policy, names, seed: int) -> dict:
  """New parameters of these names, as a new run has them; no other is made."""
  if not names:
    return {}
  places = lora.flatten(param_shardings(policy))

  def make(key):
    flat = lora.flatten(shard.unbox(init_params(policy, key)))
    return {name: flat[name] for name in names}

  shardings = {name: places[name] for name in names}
  return jax.jit(make, out_shardings=shardings)(jax.random.key(seed))
