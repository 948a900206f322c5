"""Supervised training of a policy: what pretraining and SFT share."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.data import counterfactual, mixture, pipeline
from cooper_jax.data.codes import encode, exchanged
from cooper_jax.data.selection import USUAL_WORDS, first, phrased
from cooper_jax.data.sources import DataConfig
from cooper_jax.models import lora
from cooper_jax.parallel import processes, shard
from cooper_jax.policy import (
  Policy,
  adaptation_of,
  init_state,
  make_policy,
  own_params,
  param_shardings,
  start_from,
)
from cooper_jax.rollouts import self_maps, validation_pictures
from cooper_jax.sequences import packing, scoring
from cooper_jax.stages import tokenizer
from cooper_jax.trained import begin_adapted, imported_params, load_stage
from cooper_jax.training import (
  accumulate,
  loop,
  optim,
  start_folders,
  telemetry,
)
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.log_line import fitted
from cooper_jax.training.state import TrainState
from cooper_jax.training.workdir import add_summary

# What names of parameters end with that are multiplied with every token.
MULTIPLIED = (lora.KERNEL, lora.A, lora.B)


def run(config, workdir, *, stage: str, make_task, before: str | None):
  """Trains the policy on one kind of task.

  Args:
    config, workdir: of the run.
    stage: the config's section and the folder's name.
    make_task: make_task(policy, codes, settings) -> build(sample, rng).
    before: the stage whose parameters are the start; None starts fresh.
  """
  folder, settings = Path(workdir) / stage, config[stage]
  policy = make_policy(config)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**settings.optim), steps=settings.steps
  )
  parts = {"seed": config.seed, "ema": settings.optim.ema_decay > 0}
  checkpoints = Checkpoints(folder / "checkpoints", keep=settings.keep)
  adaptation, frozen = adaptation_of(policy, config, stage), None
  if adaptation:
    given = (policy, optimizer, adaptation, config, workdir, stage)
    state, frozen = begin_adapted(*given, before=before, **parts)
  elif before:
    start = load_stage(policy, config, workdir, before)
    state = start_from(policy, optimizer, start, **parts)
  elif start_folders.folders(config) and checkpoints.latest() is None:
    start = imported_params(policy, config, stage_folder=folder)
    state = start_from(policy, optimizer, start, **parts)
  else:
    state = init_state(policy, optimizer, **parts)
  overview(state.params, stage, frozen)
  source = processes.in_turn(
    "scenes",
    lambda: mixture.open_tolerant(DataConfig.from_config(config), "train"),
  )
  codecs = tokenizer.load(config, workdir)
  codes = make_codes(
    config, workdir, policy, (state.params, frozen), codecs, source, stage
  )
  task = make_task(policy, codes, settings)
  batches = pipeline.make_batches(
    asked_of(source, settings),
    build=task,
    batch_size=settings.batch,
    seed=config.seed + 1 + len(stage),
    bad_samples=config.data.bad_samples,
  )
  writer = telemetry.make_writer(folder, config.trackers)
  shape = task.shape
  with batches:
    _, figures = loop.Loop(
      label=stage,
      steps=settings.steps,
      state=state,
      step_fn=make_step(policy, optimizer, settings, shape, adaptation, frozen),
      batches=batches,
      writer=writer,
      checkpoints=checkpoints,
      log_every=settings.log_every,
      save_every=settings.save_every,
      images=validation_pictures.drawn(config, policy, codecs, frozen),
      image_every=settings.image_every,
      shown=shown(policy),
      flops_per_step=flops(state.params, policy, settings.batch, shape, frozen),
    ).run()
  writer.close()
  checkpoints.close()
  speed = {f"speed/{stage}/{name}": v for name, v in figures.items()}
  add_summary(workdir, speed)


def asked_of(source, settings):
  """The scenes of the training split that a stage asks about, in its words."""
  some = first(source, settings.get("scenes", 0))
  return phrased(some, settings.get("phrasings", USUAL_WORDS))


def make_codes(config, workdir, policy, params, codecs, source, stage: str):
  """Codes of the maps that a stage reads or writes, each kind made once.

  params: (those in training, those frozen beside them or None).
  """
  folder, settings = Path(workdir) / stage, config[stage]
  codes = processes.in_turn(
    "codes",
    lambda: encode(source, codecs, folder.parent / "tokenizer/codes"),
  )
  if settings.get("exchanged_maps", False):
    codes = exchanged(codes, seed=config.seed)
  read = first(source, settings.get("scenes", 0))
  # Only traces about samples that have a map draw it.
  codecs = {n: codec for n, codec in codecs.items() if len(codes.known(n))}
  if settings.get("self_map_scenes", 0) and codecs:
    params = own_params(policy, *params)
    own = processes.in_turn(
      "own maps",
      lambda: self_maps.draw(
        policy,
        params,
        codecs,
        read,
        count=settings.self_map_scenes,
        batch=config.evaluate.batch,
        buckets=config.sampling.prompt_buckets,
        path=folder / "self_maps.npz",
      ),
    )
    codes = dataclasses.replace(codes, own=own)
  changeable = counterfactual.changeable()
  if settings.counterfactual and changeable in codecs:
    changed = processes.in_turn(
      "counterfactual maps",
      lambda: counterfactual.make(
        read,
        codecs[changeable],
        own=codes.own.get(changeable),
        seed=config.seed,
        path=folder / "counterfactual_maps.npz",
      ),
    )
    codes = dataclasses.replace(codes, changed=changed)
  return codes


def jit_step(
  policy, optimizer, settings, shape: packing.Shape, adaptation=None
):
  """Returns step(state, batch, frozen) -> (state, metrics), jitted.

  The state is donated. adaptation: what LoRA trains, beside `frozen`; None =
  all is trained.
  """
  form = policy.form
  kinds = loss_shares(settings, policy.markup.modalities)
  shardings = param_shardings(policy, adaptation)

  def loss_of(params, batch, frozen):
    scores = scoring.score(
      policy.model,
      lora.laid_over(frozen, params),
      batch,
      form=form,
      sampled=False,
      bins=shape.bins,
    )
    return scoring.next_token(
      scores, batch, form=form, z_weight=settings.z_weight
    )

  @functools.partial(jax.jit, donate_argnames="state")
  def step(state: TrainState, batch, frozen=None):
    grads, found, metrics = accumulate.accumulate(
      functools.partial(loss_of, frozen=frozen),
      state.params,
      batch,
      micro_batches=settings.optim.micro_batches,
      coefficients=kinds,
    )
    grads = jax.lax.with_sharding_constraint(grads, shardings)
    state, extra = optim.apply_gradients(
      state, grads, optimizer=optimizer, ema_decay=settings.optim.ema_decay
    )
    metrics |= {f"loss/{name}": pair for name, pair in found.items()}
    metrics |= extra
    metrics["loss"] = sum(
      share * found[name][0] / jnp.maximum(found[name][1], 1e-8)
      for name, share in kinds.items()
    )
    metrics["tokens"] = jnp.sum(batch["document"] > 0)
    metrics["rows/left_out"] = jnp.mean(batch["left_out"])
    return state, metrics

  return step


def make_step(
  policy,
  optimizer,
  settings,
  shape: packing.Shape,
  adaptation=None,
  frozen=None,
):
  """`jit_step`, given each process's part of a batch as it was packed."""
  step = jit_step(policy, optimizer, settings, shape, adaptation)
  sharding = shard.batch_sharding(jax.sharding.get_mesh())

  def put(state, batch):
    placed = {
      name: jax.make_array_from_process_local_data(sharding, array)
      for name, array in batch.items()
    }
    return step(state, placed, frozen)

  return put


def loss_shares(settings, modalities) -> dict[str, float]:
  """What each mean loss counts: text 1, the maps `map_weight` together.

  In: weights {"depth": 1, "segmentation": 3}, map_weight 2, ids 0 and 1
  Out: {"text": 1.0, "map0": 0.5, "map1": 1.5}
  """
  named = {name: 1.0 for name, _ in modalities}
  named |= settings.modality_weights.to_dict()
  weights = {modality_id: named[name] for name, modality_id in modalities}
  each = settings.map_weight / sum(weights.values())
  return {"text": 1.0} | {f"map{s}": each * w for s, w in weights.items()}


def shape_of(settings, policy: Policy, *, bins: int, maps: int):
  """The row of a stage's config: trunk of one image, bins of branches."""
  trunk = policy.form.model.locations
  return packing.Shape(
    length=trunk + bins * settings.bin,
    texts=settings.texts,
    codes=maps * policy.form.model.map_codes,
    trunk=trunk,
    bin_size=settings.bin,
  )


def flops(
  params, policy, batch: int, shape: packing.Shape, frozen=None
) -> float:
  """Floating-point operations of a step, forward and backward, by formula.

  Six per parameter of a matrix and token (four of one that is frozen, which
  has no gradient), twelve per head width and attended key; heads count at
  scored positions only. Padding is computed, so it counts.
  """
  model = policy.form.model
  keys = shape.length if not shape.bin_size else shape.trunk + shape.bin_size
  attention = 2 * model.layers * model.heads * model.head_dim * keys
  tokens = batch * shape.length
  heads = batch * model.d_model
  heads *= (
    shape.texts * policy.form.vocabulary.text_rows + shape.codes * model.codes
  )
  if frozen is None:
    return 6.0 * (tokens * (matrices(params) + attention) + heads)
  each = 6.0 * matrices(params) + 4.0 * matrices(frozen.base)
  return tokens * (each + 6.0 * attention) + 4.0 * heads


def matrices(params) -> int:
  """Parameters of the decoder's matrices: each a product with every token."""
  return sum(
    leaf.size
    for name, leaf in lora.flatten(params).items()
    if name.startswith("decoder/blocks/") and name.endswith(MULTIPLIED)
  )


def shown(policy) -> dict[str, str]:
  """What the log line of these stages shows, see `training/log_line.py`."""
  maps = {
    f"accuracy/map{modality_id}": f"{name} {{:.0%}}"
    for name, modality_id in policy.markup.modalities
  }
  return {"loss": "loss {:.3g}", "accuracy/text": "text {:.0%}", **maps}


def overview(params, stage: str, frozen=None) -> None:
  """Prints in one line how large the model is, its largest parts first.

  And in a second, where LoRA trains a part of it, how many that are.
  """
  from clu import parameter_overview

  if jax.process_index() == 0:
    trained, params = params, params if frozen is None else frozen.base
    counts = {
      name: int(sum(np.size(x) for x in jax.tree.leaves(part)))
      for name, part in params["params"].items()
    }
    total = parameter_overview.count_parameters(params)
    parts = sorted(counts.items(), key=lambda part: -part[1])
    said = [f"{name} {n / total:.0%}" for name, n in parts]
    said = fitted([f"{stage:9s} {total:,} parameters:", *said], 80)
    print(said, flush=True)
    if frozen is not None:
      count = parameter_overview.count_parameters(trained)
      print(f"{'':9s} {count:,} trained ({count / total:.2%})", flush=True)
