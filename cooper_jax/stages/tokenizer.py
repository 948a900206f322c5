"""Stage 0: one tokenizer per modality, all trained by one jitted step.

What the tokenizers lose no later stage can bring back, so the stage ends with
their own errors on the test split, beside those of a constant map.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp

from cooper_jax import modalities, plugins
from cooper_jax.data import map_examples, mixture, pipeline
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.parallel import processes, shard
from cooper_jax.rollouts.validation_pictures import save_png
from cooper_jax.stages.tokenizer_scores import (
  MAPS_STAGE,
  SHOWN_MAPS,
  constant_scores,
  draw,
  measure,
  numbers,
  over,
  redraw,
  report,
)
from cooper_jax.tokenizers import map_tokenizer, picture_tokenizer
from cooper_jax.tokenizers.map_tokenizer import Codec, MapTokenizer
from cooper_jax.training import accumulate, loop, optim, telemetry
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.json_files import read_json
from cooper_jax.training.state import create, step_key
from cooper_jax.training.workdir import add_summary
from cooper_jax.weights import picture_start, starting

STAGE = MAPS_STAGE
IMPORTED = "imported"  # folder of parameters that folders of weights gave
TRAINED = f"{STAGE}/maps"  # key: how many maps trained that of a modality


def run(config, workdir) -> None:
  """Trains the tokenizers of `config.modalities`, measures and shows them."""
  folder = Path(workdir) / STAGE
  settings, modules = config.tokenizer, find_modules(config)
  configs = make_configs(config, modules)
  data = DataConfig.from_config(config)
  splits = ("train", "validation", "test")
  opened = processes.in_turn(
    "scenes", lambda: {n: mixture.open_tolerant(data, n) for n in splits}
  )
  places = map_examples.places(opened["train"], modules)
  modules = with_maps(modules, places, len(opened["train"]))
  shown = map_examples.read_maps(
    opened["validation"], modules, count=SHOWN_MAPS
  )
  theirs = imported(config, folder)
  own = {name: each for name, each in configs.items() if name not in theirs}
  learning = {name: each for name, each in modules.items() if name in own}
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**settings.optim), steps=settings.steps
  )
  state = init_state(own, optimizer, seed=config.seed)
  checkpoints = Checkpoints(folder / "checkpoints", keep=settings.keep)
  counts = {f"{TRAINED}/{name}": len(each) for name, each in places.items()}
  if own and not learning and checkpoints.latest() is None:
    # Later stages load them all the same.
    checkpoints.save(0, {"params": state.params}, data_state={}, meta={})
  if not modules:
    add_summary(workdir, counts)
    return checkpoints.close()
  writer = telemetry.make_writer(folder, config.trackers)

  def now(state):
    return codecs(configs, modules, shard.own_copy(state.params | theirs))

  def pictures(step, state):
    del step
    drawing = now(state)
    if not processes.is_first():
      return {}
    with processes.alone():
      return draw(modules, shown, redraw(drawing, shown))

  figures = {}
  if learning:
    batches = pipeline.make_batches(
      opened["train"],
      build=map_examples.Build(
        tuple(learning),
        opened["train"],
        places,
        {name: module.absent() for name, module in learning.items()},
      ),
      batch_size=settings.batch,
      seed=config.seed,
      bad_samples=data.bad_samples,
    )
    with batches:
      state, figures = loop.Loop(
        label=STAGE,
        steps=settings.steps,
        state=state,
        step_fn=make_step(own, learning, optimizer, settings.optim),
        batches=batches,
        writer=writer,
        checkpoints=checkpoints,
        log_every=settings.log_every,
        save_every=settings.save_every,
        images=pictures,
        image_every=settings.image_every,
        shown={"loss": "loss {:.3g}"}
        | {name: f"{name} {{:.3g}}" for name in learning},
        flops_per_step=sum(
          settings.batch * map_tokenizer.flops(state.params[name], own[name])
          for name in learning
        ),
      ).run()
  trained = now(state)

  def score():
    summary = {f"speed/{STAGE}/{name}": each for name, each in figures.items()}
    summary |= counts | over(modules)
    for split in ("validation", "test"):
      targets = map_examples.read_maps(opened[split], modules)
      drawn = redraw(trained, targets)
      found = measure(modules, targets, drawn)
      writer.scalars(settings.steps, numbers(f"{split}/", found))
    summary |= found | constant_scores(modules, opened["train"], targets)
    pictures = draw(modules, targets, drawn)
    save_png(folder / "pictures", pictures)
    writer.images(settings.steps, {f"{k}/test": v for k, v in pictures.items()})
    add_summary(workdir, summary)
    report(modules, summary, [*theirs])

  processes.first_alone(STAGE, score)
  writer.close()
  checkpoints.close()


def with_maps(modules, places, samples: int) -> dict:
  """The modalities that the data has maps of; says which it has none of."""
  for name in modules:
    if not len(places[name]):
      print(
        f"{STAGE} {name}: none of the {samples:,} training samples has this"
        " map; it is not trained, and no stage asks for it. A model that draws"
        " it: --config.data.source=world,jsonl, or configs/sft.py with"
        " --config.init_from=tiny --config.init_as=pretrain",
        flush=True,
      )
  return {name: each for name, each in modules.items() if len(places[name])}


def find_modules(config) -> dict:
  """Name -> modality of the config, as its settings set it up."""
  every = modalities.of(config)
  for name in config.modalities:
    plugins.check("modalities", name)
  return {name: every[name] for name in config.modalities}


def make_configs(config, modules) -> dict:
  """Name -> MapTokenizerConfig, or of a released one PictureTokenizerConfig."""
  picture_tokenizer.code_rows(config)  # of one size
  networks = picture_tokenizer.networks(config)
  return {
    name: picture_tokenizer.make_config(config, name, module, networks[name])
    if name in networks
    else map_tokenizer.MapTokenizerConfig(
      channels=module.CHANNELS,
      outputs=module.OUTPUTS,
      image_size=config.data.image_size,
      grid=config.model.map_grid,
      **config.tokenizer.network,
    )
    for name, module in modules.items()
  }


def imported(config, folder) -> dict:
  """Name -> parameters of the image tokenizers that folders of weights give.

  They are kept beside the checkpoints, where later stages find them.
  """
  networks = picture_tokenizer.networks(config)
  if not networks:
    return {}
  # By this folder a run knows that the stage was there.
  (Path(folder) / "checkpoints").mkdir(parents=True, exist_ok=True)
  kept = Checkpoints(Path(folder) / IMPORTED)
  if kept.latest() is None:
    params = {}
    for name, network in networks.items():
      params[name] = picture_start.read(config, name, starting.digest)
      if processes.is_first():
        print(
          f"{STAGE} {name}: {network.codes:,} codes of"
          f" {config.init.tokenizer[name]}; there is nothing to train",
          flush=True,
        )
    params = jax.device_put(params, shard.replicated(jax.sharding.get_mesh()))
    kept.save(0, {"params": params}, data_state={}, meta={})
  kept.close()
  configs = make_configs(config, find_modules(config))
  own = {name: configs[name] for name in networks}
  return restored(Path(folder) / IMPORTED, own)


def codecs(configs, modules, params) -> dict[str, Codec]:
  """Name -> Codec with its part of the parameters."""
  return {
    name: Codec(modules[name], configs[name], params[name]) for name in modules
  }


def load(config, workdir) -> dict[str, Codec]:
  """The trained tokenizers of a workdir; UserError where there are none."""
  modules = find_modules(config)
  configs = make_configs(config, modules)
  networks = picture_tokenizer.networks(config)
  own = [name for name in configs if name not in networks]
  folder, params = Path(workdir) / STAGE, {}
  for part, names in (("checkpoints", own), (IMPORTED, [*networks])):
    found = restored(folder / part, {name: configs[name] for name in names})
    if found is None:
      raise UserError(
        f"no trained tokenizer in {folder / part}; put 'tokenizer' into"
        " config.pipeline"
      )
    params |= found
  return codecs(configs, modules, shard.own_copy(params))


def restored(folder, configs):
  """Parameters by name, of the checkpoints of a folder; None without any."""
  if not configs:
    return {}
  checkpoints = Checkpoints(folder)
  abstract = jax.eval_shape(lambda: init_params(configs, jax.random.key(0)))
  params = checkpoints.restore_part("params", abstract)
  checkpoints.close()
  return params


def keep(config, folder, params) -> None:
  """Saves parameters by name, made elsewhere, as the stage would have."""
  networks = picture_tokenizer.networks(config)
  own = {name: each for name, each in params.items() if name not in networks}
  theirs = {name: params[name] for name in networks}
  (Path(folder) / "checkpoints").mkdir(parents=True, exist_ok=True)
  for part, found in (("checkpoints", own), (IMPORTED, theirs)):
    if not found:
      continue
    checkpoints = Checkpoints(Path(folder) / part)
    if checkpoints.latest() is None:  # else: interrupted after it
      step = config[STAGE].steps
      checkpoints.save(step, {"params": found}, data_state={}, meta={})
    checkpoints.close()


def init_params(configs, key):
  """Name -> fresh parameters."""
  return {
    name: config.init(jax.random.fold_in(key, index))
    for index, (name, config) in enumerate(configs.items())
  }


def init_state(configs, optimizer, *, seed: int):
  """The state before the first step, a copy on every device."""
  mesh = jax.sharding.get_mesh()

  @functools.partial(jax.jit, out_shardings=shard.replicated(mesh))
  def make(key):
    params = init_params(configs, key)
    return create(params, optimizer, key=key)

  return make(jax.random.key(seed))


def make_step(configs, modules, optimizer, settings):
  """step(state, batch) -> (state, metrics): all tokenizers move at once."""
  sharding = shard.batch_sharding(jax.sharding.get_mesh())

  def losses_of(params, batch):
    losses, extra = {}, {}
    for name, module in modules.items():
      outputs, codes, aux = MapTokenizer(configs[name]).apply(
        {"params": params[name]}, module.to_input(batch[name])
      )
      losses[name] = module.loss(outputs, batch[name])
      losses[f"{name}/penalty"] = (aux["penalty"], jnp.ones(()))
      size = configs[name].codes
      used = jnp.zeros(size).at[codes].add(1.0)
      extra[name] = {"used": used, "assigned": aux.get("assigned")}
    return losses, extra

  @functools.partial(jax.jit, donate_argnames="state")
  def step(state, batch):
    key = step_key(state)
    grads, losses, extra = accumulate.accumulate(
      losses_of, state.params, batch, micro_batches=settings.micro_batches
    )
    state, metrics = optim.apply_gradients(
      state, grads, optimizer=optimizer, ema_decay=settings.ema_decay
    )
    params = dict(state.params)
    for name, found in extra.items():
      share = found["used"] / jnp.sum(found["used"])
      entropy = -jnp.sum(share * jnp.log(jnp.maximum(share, 1e-9)))
      metrics[f"{name}/perplexity"] = jnp.exp(entropy)
      if found["assigned"] is not None:
        params[name] = map_tokenizer.follow(
          params[name], found["assigned"], key=key
        )
    metrics |= losses
    metrics["loss"] = sum(total / weight for total, weight in losses.values())
    maps_drawn = sum(target.shape[0] for target in batch.values())
    metrics["tokens"] = maps_drawn * next(iter(configs.values())).cells
    return state.replace(params=params), metrics

  def put(state, batch):
    placed = {
      name: jax.make_array_from_process_local_data(sharding, batch[name])
      for name in modules
    }
    return step(state, placed)

  return put


def trained_on(workdir, trained: dict[str, Codec]) -> dict[str, Codec]:
  """Those of the tokenizers that had maps to learn from."""
  path = Path(workdir) / "summary.json"
  summary = read_json(path) if path.exists() else {}
  return {
    name: codec
    for name, codec in trained.items()
    if summary.get(f"{TRAINED}/{name}") != 0
  }


def test_scores(config, trained: dict[str, Codec]) -> dict:
  """What the stage says of its tokenizers, for some trained elsewhere."""
  data, modules = DataConfig.from_config(config), find_modules(config)
  test = mixture.open_tolerant(data, "test")
  targets = map_examples.read_maps(test, modules)
  found = measure(modules, targets, redraw(trained, targets))
  train = mixture.open_tolerant(data, "train")
  return over(modules) | found | constant_scores(modules, train, targets)
