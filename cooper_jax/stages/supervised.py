"""The part that pretraining and SFT share: next-token training of a policy."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax import policy as policies
from cooper_jax.data import codes as coding
from cooper_jax.data import counterfactual as edits
from cooper_jax.data import mixture, pipeline
from cooper_jax.data.sources import DataConfig
from cooper_jax.parallel import processes, shard
from cooper_jax.rollouts import self_maps as own_maps
from cooper_jax.rollouts import validation_pictures as pictures
from cooper_jax.sequences import packing
from cooper_jax.sequences import scoring as losses
from cooper_jax.stages import tokenizer as tokenizer_stage
from cooper_jax.training import accumulate, loop, optim, telemetry
from cooper_jax.training import state as states
from cooper_jax.training import workdir as workdirs
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.log_line import fitted


def run(config, workdir, *, stage: str, make_lesson, before: str | None):
  """Trains the policy on one kind of lesson.

  Args:
    config, workdir: of the run.
    stage: the config's section and the folder's name.
    make_lesson: make_lesson(policy, codes, settings) -> build(sample, rng).
    before: the stage whose parameters are the start; None starts fresh.
  """
  folder, settings = Path(workdir) / stage, config[stage]
  policy = policies.make(config)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**settings.optim), steps=settings.steps
  )
  state = policies.init_state(
    policy, optimizer, seed=config.seed, ema=settings.optim.ema_decay > 0
  )
  if before:
    state = policies.start_from(
      state, policies.load_stage(policy, config, workdir, before)
    )
  overview(state.params, stage)
  source = processes.in_turn(
    "scenes",
    lambda: mixture.open_split(DataConfig.from_config(config), "train"),
  )
  codecs = tokenizer_stage.load(config, workdir)
  codes = make_codes(
    config, workdir, policy, state.params, codecs, source, stage
  )
  lesson = make_lesson(policy, codes, settings)
  batches = pipeline.make_batches(
    source,
    build=lesson,
    batch_size=settings.batch,
    seed=config.seed + 1 + len(stage),
    bad_samples=config.data.bad_samples,
  )
  writer = telemetry.make_writer(folder)
  checkpoints = Checkpoints(folder / "checkpoints", keep=settings.keep)
  shape = lesson.shape
  with batches:
    _, figures = loop.run_loop(
      label=stage,
      steps=settings.steps,
      state=state,
      step_fn=make_step(policy, optimizer, settings, shape),
      batches=batches,
      writer=writer,
      checkpoints=checkpoints,
      log_every=settings.log_every,
      save_every=settings.save_every,
      images=pictures.drawn(config, policy, codecs),
      image_every=settings.image_every,
      shown=shown(policy),
      flops_per_step=flops(state.params, policy, settings.batch, shape),
    )
  writer.close()
  checkpoints.close()
  speed = {f"speed/{stage}/{name}": v for name, v in figures.items()}
  workdirs.add_summary(workdir, speed)


def make_codes(config, workdir, policy, params, codecs, source, stage: str):
  """Codes of the maps that a stage reads or writes, each kind made once."""
  folder, settings = Path(workdir) / stage, config[stage]
  codes = processes.in_turn(
    "codes",
    lambda: coding.encode(source, codecs, folder.parent / "tokenizer/codes"),
  )
  # Only traces about samples that have a map draw it.
  codecs = {n: codec for n, codec in codecs.items() if len(codes.known(n))}
  if settings.get("own_maps", 0) and codecs:
    params = policies.own(policy, params)
    own = processes.in_turn(
      "own maps",
      lambda: own_maps.draw(
        policy,
        params,
        codecs,
        source,
        count=settings.own_maps,
        batch=config.evaluate.batch,
        buckets=config.sampling.prompt_buckets,
        path=folder / "own_maps.npz",
      ),
    )
    codes = dataclasses.replace(codes, own=own)
  if settings.edited and edits.MODALITY in codecs:
    changed = processes.in_turn(
      "edited maps",
      lambda: edits.make(
        source,
        codecs[edits.MODALITY],
        own=codes.own.get(edits.MODALITY),
        seed=config.seed,
        path=folder / "edited_maps.npz",
      ),
    )
    codes = dataclasses.replace(codes, edits=changed)
  return codes


def jit_step(policy, optimizer, settings, shape: packing.Shape):
  """Returns step(state, batch) -> (state, metrics), jitted and donated."""
  form = policy.form
  kinds = loss_shares(settings, policy.writer.modalities)
  lies = policies.param_shardings(policy)

  def loss_of(params, batch):
    scores = losses.score(
      policy.model, params, batch, form=form, blocks=shape.blocks
    )
    return losses.next_token(
      scores, batch, form=form, z_weight=settings.z_weight
    )

  @functools.partial(jax.jit, donate_argnames="state")
  def step(state: states.TrainState, batch):
    grads, found, metrics = accumulate.accumulate(
      loss_of,
      state.params,
      batch,
      micro_batches=settings.optim.micro_batches,
      coefficients=kinds,
    )
    grads = jax.lax.with_sharding_constraint(grads, lies)
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


def make_step(policy, optimizer, settings, shape: packing.Shape):
  """`jit_step`, given each process's part of a batch as it was packed."""
  step = jit_step(policy, optimizer, settings, shape)
  sharding = shard.batch_sharding(jax.sharding.get_mesh())

  def put(state, batch):
    placed = {
      name: jax.make_array_from_process_local_data(sharding, array)
      for name, array in batch.items()
    }
    return step(state, placed)

  return put


def loss_shares(settings, modalities) -> dict[str, float]:
  """What each mean loss counts: text 1, the maps `map_weight` together.

  In: weights {"depth": 1, "segmentation": 3}, map_weight 2, slots 0 and 1
  Out: {"text": 1.0, "map0": 0.5, "map1": 1.5}
  """
  named = {name: 1.0 for name, _ in modalities}
  named |= settings.modality_weights.to_dict()
  weights = {slot: named[name] for name, slot in modalities}
  each = settings.map_weight / sum(weights.values())
  return {"text": 1.0} | {f"map{s}": each * w for s, w in weights.items()}


def shape_of(settings, policy: policies.Policy, *, blocks: int, maps: int):
  """The row of a stage's config: trunk of one image, blocks of branches."""
  trunk = policy.form.model.locations
  return packing.Shape(
    length=trunk + blocks * settings.block,
    texts=settings.texts,
    codes=maps * policy.form.model.map_codes,
    trunk=trunk,
    block=settings.block,
  )


def flops(params, policy, batch: int, shape: packing.Shape) -> float:
  """Floating-point operations of a step, forward and backward, by formula.

  Six per parameter of a matrix and token, twelve per head width and attended
  key; heads count at scored positions only. Padding is computed, so it counts.
  """
  model = policy.form.model
  keys = shape.length if not shape.block else shape.trunk + shape.block
  attention = 2 * model.layers * model.heads * model.head_dim * keys
  tokens = batch * shape.length
  heads = batch * model.d_model
  heads *= (
    shape.texts * policy.form.vocabulary.text_rows + shape.codes * model.codes
  )
  return 6.0 * (tokens * (matrices(params) + attention) + heads)


def matrices(params) -> int:
  """Parameters of the decoder's matrices: each a product with every token."""
  inner = params["params"]["decoder"]["blocks"]
  return sum(
    leaf.size
    for path, leaf in jax.tree_util.tree_leaves_with_path(inner)
    if shard.path_name(path).endswith("kernel")
  )


def shown(policy) -> dict[str, str]:
  """What the log line of a teaching stage shows, see `stages/line.py`."""
  maps = {
    f"accuracy/map{slot}": f"{name} {{:.0%}}"
    for name, slot in policy.writer.modalities
  }
  return {"loss": "loss {:.3g}", "accuracy/text": "text {:.0%}", **maps}


def overview(params, stage: str) -> None:
  """Prints in one line how large the model is, its largest parts first."""
  from clu import parameter_overview

  if jax.process_index() == 0:
    counts = {
      name: int(sum(np.size(x) for x in jax.tree.leaves(part)))
      for name, part in params["params"].items()
    }
    total = parameter_overview.count_parameters(params)
    parts = sorted(counts.items(), key=lambda part: -part[1])
    said = [f"{name} {n / total:.0%}" for name, n in parts]
    said = fitted([f"{stage:9s} {total:,} parameters:", *said], 80)
    print(said, flush=True)
