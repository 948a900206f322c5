"""Stage 0: one tokenizer per modality, all trained by one jitted step.

What the tokenizers lose no later stage can bring back, so the stage ends with
their own errors on the test split, beside those of a constant map.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax import modalities, plugins
from cooper_jax.data import map_examples, mixture, pipeline
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.grading.metrics import maps
from cooper_jax.parallel import processes, shard
from cooper_jax.rollouts.validation_pictures import save_png
from cooper_jax.tokenizers import map_tokenizer
from cooper_jax.tokenizers.map_tokenizer import Codec, MapTokenizer
from cooper_jax.training import accumulate, loop, optim, telemetry
from cooper_jax.training.checkpoint import Checkpoints
from cooper_jax.training.state import create, step_key
from cooper_jax.training.workdir import add_summary, read_json

STAGE = "tokenizer"
BASELINE_SCENES = 1024  # train scenes that the constant map is made of
_SHOWN = 6  # maps in a picture
LEAST_USAGE = 0.2  # share of the codes
OVER = f"{STAGE}/over"  # key: what the metrics of a modality are over
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
  shown = map_examples.read_maps(opened["validation"], modules, count=_SHOWN)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**settings.optim), steps=settings.steps
  )
  state = init_state(configs, optimizer, seed=config.seed)
  step_fn = make_step(configs, modules, optimizer, settings.optim)
  checkpoints = Checkpoints(folder / "checkpoints", keep=settings.keep)
  counts = {f"{TRAINED}/{name}": len(each) for name, each in places.items()}
  if not modules:  # later stages load them all the same
    if checkpoints.latest() is None:  # else: interrupted after it
      checkpoints.save(0, {"params": state.params}, data_state={}, meta={})
    add_summary(workdir, counts)
    return checkpoints.close()
  writer = telemetry.make_writer(folder, config.trackers)
  batches = pipeline.make_batches(
    opened["train"],
    build=map_examples.Build(
      tuple(modules),
      opened["train"],
      places,
      {name: module.absent() for name, module in modules.items()},
    ),
    batch_size=settings.batch,
    seed=config.seed,
    bad_samples=data.bad_samples,
  )

  def pictures(step, state):
    del step
    now = codecs(configs, modules, shard.own_copy(state.params))
    if not processes.is_first():
      return {}
    with processes.alone():
      return draw(modules, shown, redraw(now, shown))

  with batches:
    state, figures = loop.Loop(
      label=STAGE,
      steps=settings.steps,
      state=state,
      step_fn=step_fn,
      batches=batches,
      writer=writer,
      checkpoints=checkpoints,
      log_every=settings.log_every,
      save_every=settings.save_every,
      images=pictures,
      image_every=settings.image_every,
      shown={"loss": "loss {:.3g}"}
      | {name: f"{name} {{:.3g}}" for name in modules},
      flops_per_step=sum(
        settings.batch * map_tokenizer.flops(state.params[name], configs[name])
        for name in modules
      ),
    ).run()
  trained = codecs(configs, modules, shard.own_copy(state.params))

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
    report(modules, summary)

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
  """Name -> MapTokenizerConfig."""
  return {
    name: map_tokenizer.MapTokenizerConfig(
      channels=module.CHANNELS,
      outputs=module.OUTPUTS,
      image_size=config.data.image_size,
      grid=config.model.map_grid,
      **config.tokenizer.network,
    )
    for name, module in modules.items()
  }


def codecs(configs, modules, params) -> dict[str, Codec]:
  """Name -> Codec with its part of the parameters."""
  return {
    name: Codec(modules[name], configs[name], params[name]) for name in modules
  }


def load(config, workdir) -> dict[str, Codec]:
  """The trained tokenizers of a workdir; UserError where there are none."""
  modules = find_modules(config)
  configs = make_configs(config, modules)
  folder = Path(workdir) / STAGE / "checkpoints"
  checkpoints = Checkpoints(folder)
  abstract = jax.eval_shape(lambda: init_params(configs, jax.random.key(0)))
  params = checkpoints.restore_part("params", abstract)
  checkpoints.close()
  if params is None:
    raise UserError(
      f"no trained tokenizer in {folder}; put 'tokenizer' into config.pipeline"
    )
  return codecs(configs, modules, shard.own_copy(params))


def init_params(configs, key):
  """Name -> fresh parameters."""
  params = {}
  for index, (name, config) in enumerate(configs.items()):
    shape = (1, config.image_size, config.image_size, config.channels)
    params[name] = MapTokenizer(config).init(
      jax.random.fold_in(key, index), jnp.zeros(shape)
    )["params"]
  return params


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


@dataclasses.dataclass(frozen=True)
class Redrawn:
  """What the tokenizer leaves of maps, and the codes it goes through."""

  maps: np.ndarray
  codes: np.ndarray  # i32 [n, Q]
  size: int  # of the code book


def redraw(trained: dict[str, Codec], targets) -> dict[str, Redrawn]:
  """Encodes and decodes the maps of every modality that there is."""
  result = {}
  for name, found in targets.items():
    codec = trained[name]
    drawn, codes_nQ = map_tokenizer.redraw_maps(codec, found.targets)
    result[name] = Redrawn(drawn, codes_nQ, codec.config.codes)
  return result


def measure(modules, targets, drawn: dict[str, Redrawn]) -> dict:
  """Errors of encoding and decoding, and how many codes that uses."""
  result = {}
  for name, found in targets.items():
    scores = maps.score(
      modules[name], drawn[name].maps, found.targets, found.objects
    )
    for metric, value in scores.items():
      result[f"{name}/tokenizer_{metric}"] = value
    size = drawn[name].size
    share = np.bincount(drawn[name].codes.ravel(), minlength=size)
    used = share[share > 0] / share.sum()
    result[f"{name}/tokenizer_usage"] = used.size / size
    result[f"{name}/tokenizer_perplexity"] = float(
      np.exp(-np.sum(used * np.log(used)))
    )
  return result


def numbers(prefix: str, values) -> dict:
  """What a scalar log can hold of a summary: no intervals."""
  return {
    prefix + name: value
    for name, value in values.items()
    if not isinstance(value, list)
  }


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


def over(modules) -> dict[str, float]:
  """What the metrics of each modality are over, as it says of itself."""
  return {
    f"{OVER}/{name}/{fact}": value
    for name, module in modules.items()
    for fact, value in module.facts().items()
  }


def constant_scores(modules, train, test) -> dict:
  """Errors on `test` of the best map that is the same for every image.

  The best one for the first BASELINE_SCENES of the source `train`.
  """
  result = {}
  train = map_examples.read_maps(train, modules, count=BASELINE_SCENES)
  for name, found in test.items():
    if name not in train:
      continue
    module = modules[name]
    best = module.constant(train[name].targets)
    drawn = np.broadcast_to(best, found.targets.shape)
    scores = maps.score(module, drawn, found.targets, found.objects)
    for metric, value in scores.items():
      head, *tail = metric.split("/")
      if head != "iou":
        result["/".join([name, f"{head}_constant", *tail])] = value
  return result


def draw(modules, targets, drawn) -> dict[str, np.ndarray]:
  """Per modality: true maps above, what the tokenizer leaves of them below."""
  pictures = {}
  for name, found in targets.items():
    pairs = zip(found.targets[:_SHOWN], drawn[name].maps)
    panels = [modules[name].panels(*pair) for pair in pairs]
    rows = [
      np.concatenate([each[k][1] for each in panels], axis=1) for k in (0, 1)
    ]
    pictures[f"tokenizer/{name}"] = np.concatenate(rows)
  return pictures


def report(modules, summary) -> None:
  """Says what the tokenizers lose, and warns of unused codes."""
  for name in modules:
    head, tail = f"{name}/tokenizer_", "/ci95"
    if f"{head}usage" not in summary:
      print(f"{STAGE} {name}: no test sample has this map to measure it by")
      continue
    metrics = [
      key.removeprefix(head).removesuffix(tail)
      for key in summary
      if key.startswith(head) and key.endswith(tail)
    ]
    usage = summary[f"{head}usage"]
    print(f"{STAGE} {name}: {usage:.0%} of the codes used")
    for fact, value in modules[name].facts().items():
      print(f"  {fact.replace('_', ' ')} {value:g}")
    for metric in metrics:
      constant = summary[f"{name}/{metric}_constant"]
      print(
        f"  {metric} {summary[head + metric]:.4f}"
        f" (constant map {constant:.4f})",
        flush=True,
      )
    if usage < LEAST_USAGE:
      print(
        f"warning: the {name} tokenizer uses {usage:.1%} of its codes, under"
        f" {LEAST_USAGE:.0%}; train longer, or raise"
        " config.tokenizer.network.spread_weight",
        flush=True,
      )
