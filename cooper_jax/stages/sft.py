"""Stage 2: interleaved reasoning, from gold traces.

Every question is asked in one of several modes (direct, text, with the maps
that its program needs, with depth, with both), so that one model can be held
to each of them later, and can choose.
"""

import dataclasses

from cooper_jax.data import tasks
from cooper_jax.data.selection import Selection
from cooper_jax.stages import supervised
from cooper_jax.training import start_folders


def row_shape(config, policy):
  """Of a row: bins of questions, some with maps."""
  settings = config.sft
  shape = supervised.shape_of(
    settings, policy, bins=settings.bins, maps=settings.maps
  )
  return dataclasses.replace(shape, hides=settings.view_dropout > 0)


def task(config, policy, codes):
  """What an example of this stage is made by."""
  settings = config.sft
  return tasks.ReasoningTask(
    markup=policy.markup,
    codes=codes,
    shape=row_shape(config, policy),
    map_noise=settings.code_noise,
    weights=dict(settings.weights),
    shares=tuple(settings.shares.items()),
    corrupted=settings.corrupted,
    self_map_share=settings.self_map_share,
    counterfactual=settings.counterfactual,
    extra_counting=settings.extra_counting,
    extra_sizes=settings.extra_sizes,
    near_misses=config.world.near_misses,
    any_order=settings.any_order,
    lengths_need_map=settings.lengths_need_map,
    direct_families=tuple(settings.direct_families),
    view_dropout=settings.view_dropout,
    selection=Selection(tuple(settings.families)),
  )


def run(config, workdir) -> None:
  """Trains the pretrained policy on traces.

  Without one it begins with folders of weights, or with nothing.
  """
  before = "pretrain" if "pretrain" in config.pipeline else None
  if before is None:
    named = ", ".join(start_folders.folders(config).values()) or "nothing"
    print(f"sft       starts from {named}: no pretrain in config.pipeline")
  supervised.run(
    config,
    workdir,
    stage="sft",
    make_task=lambda policy, codes, _: task(config, policy, codes),
    before=before,
  )
