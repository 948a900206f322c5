"""Wait of a training step for its batch: the share that reading data costs.

Pretraining as the packaged model was trained, on scenes of the embedded world
that are built into shards. A step begins when the one before has ended, so what
it waits for is not hidden behind it: a run, whose host is a step ahead of its
device, waits less.
"""

import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from configs import base
from cooper_jax.data import mixture, pipeline, shards
from cooper_jax.data.codes import Codes
from cooper_jax.data.sources import DataConfig
from cooper_jax.policy import init_state, make_policy
from cooper_jax.stages import pretrain, supervised
from cooper_jax.training import optim

PACKAGED = "long"  # what the packaged model was trained by
WAIT_SCENES = 64  # that are built
WAIT_STEPS = 20
WAIT_GOAL = 0.05  # of a step


def of_packaged() -> dict:
  """`measure` of the packaged model's own pretraining."""
  return measure(base.get_base(PACKAGED, ("pretrain",)))


def measure(
  config, *, scenes: int = WAIT_SCENES, steps: int = WAIT_STEPS
) -> dict:
  """Seconds of a step of pretraining, those it waits, and their share."""
  config = config.copy_and_resolve_references()
  policy, settings = make_policy(config), config.pretrain
  optimizer = optim.make_optimizer(
    optim.OptimConfig(**settings.optim), steps=settings.steps
  )
  with tempfile.TemporaryDirectory() as folder:
    with config.unlocked():
      config.data.update(cache=f"{folder}/world", train_scenes=scenes)
    data = DataConfig.from_config(config)
    world = mixture.open_split(data, "train")
    task = pretrain.task(config, policy, random_codes(world, policy))
    with pipeline.make_batches(
      built(Path(folder), world),
      build=task,
      batch_size=settings.batch,
      seed=config.seed,
    ) as batches:
      return waited(
        batches,
        supervised.make_step(policy, optimizer, settings, task.shape),
        init_state(policy, optimizer, seed=config.seed, ema=False),
        steps,
      )


def random_codes(source, policy) -> Codes:
  """Codes of every sample's maps, as good as true ones for time."""
  model, rng = policy.form.model, np.random.default_rng(0)
  shape = (len(source), model.map_codes)
  return Codes(
    index={source[i].id: i for i in range(len(source))},
    maps={
      name: rng.integers(0, model.codes, shape)
      for name, _ in policy.markup.modalities
    },
    marked=np.zeros(len(source), int),
    mark=np.zeros(shape, int),
  )


def waited(batches, step_fn, state, steps: int) -> dict:
  """Means over some steps, after those whose batches were made ahead."""
  spent = []
  for _ in range(1 + pipeline.PREFETCH + steps):
    times = [time.perf_counter()]
    batch = next(batches)
    times.append(time.perf_counter())
    state, metrics = step_fn(state, batch)
    jax.block_until_ready(metrics)
    times.append(time.perf_counter())
    spent.append(np.diff(times))
  wait, work = np.mean(spent[-steps:], axis=0)
  return {
    "steps": steps,
    "step_s": float(wait + work),
    "wait_s": float(wait),
    "share": float(wait / (wait + work)),
    "goal": WAIT_GOAL,
  }


def built(folder: Path, source) -> shards.BuiltSource:
  """The samples of a source in two shards, as `data/build.py` writes them."""
  count, half = len(source), len(source) // 2
  facts = [
    shards.write(folder, source, shards.ShardJob("train", i, 2, start, stop))
    for i, (start, stop) in enumerate(((0, half), (half, count)))
  ]
  manifest = {"source": "bench", "splits": {"train": {"shards": facts}}}
  return shards.BuiltSource(folder, "train", manifest)
