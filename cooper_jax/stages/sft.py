"""Stage 2: interleaved reasoning, from gold traces.

Every question is asked in one of several modes (direct, text, with the maps
that its program needs, with depth, with both), so that one model can be held
to each of them later, and can choose.
"""

from cooper_jax.data import tasks as lessons
from cooper_jax.stages import supervised as teaching


def row_shape(config, policy):
  """Of a row: blocks of questions, some with maps."""
  settings = config.sft
  return teaching.shape_of(
    settings, policy, blocks=settings.blocks, maps=settings.maps
  )


def lesson(config, policy, codes):
  """What an example of this stage is made by."""
  settings = config.sft
  return lessons.Reason(
    writer=policy.writer,
    codes=codes,
    shape=row_shape(config, policy),
    map_noise=settings.code_noise,
    weights=dict(settings.weights),
    shares=tuple(settings.shares.items()),
    faulty=settings.faulty,
    own=settings.own_share,
    edited=settings.edited,
    counts=settings.counts,
    measured=settings.measured,
  )


def run(config, workdir) -> None:
  """Trains the pretrained policy on traces; from nothing if there is none."""
  before = "pretrain" if "pretrain" in config.pipeline else None
  if before is None:
    print("sft       starts from nothing: no pretrain in config.pipeline")
  teaching.run(
    config,
    workdir,
    stage="sft",
    make_lesson=lambda policy, codes, _: lesson(config, policy, codes),
    before=before,
  )
