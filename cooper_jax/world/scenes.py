"""Samples of the embedded world, each a function of (config, split, index)."""

from __future__ import annotations

from cooper_jax.errors import UserError, nearest
from cooper_jax.sample import Sample
from cooper_jax.world.config import SPLITS, WorldConfig
from cooper_jax.world.layout import sample
from cooper_jax.world.questions import assemble, labels, measure, select
from cooper_jax.world.render import render

BATCH_SCENES = 32  # scenes drawn at once: more fall out of the cache


def generate(
  config: WorldConfig, *, split: str, start: int, count: int
) -> list[Sample]:
  """Draws scenes `start` to `start + count` of a split with their questions.

  A sample depends on (config, split, index) alone, not on the batch that it
  is drawn in.

  Raises:
    UserError: the split does not exist, or a number is below 0.
  """
  if split not in SPLITS:
    raise UserError(
      f'split is "{split}", the world has {", ".join(SPLITS)}'
      + nearest(split, SPLITS)
    )
  for name, value in (("start", start), ("count", count)):
    if value < 0:
      raise UserError(f"{name} is {value}; scenes are counted from 0 on")
  samples: list[Sample] = []
  for low in range(start, start + count, BATCH_SCENES):
    number = min(BATCH_SCENES, start + count - low)
    samples.extend(_batch(config, split, low, number))
  return samples


def _batch(config, split, start, count):
  scenes = sample.sample(config, split=split, start=start, count=count)
  pictures = render.render(scenes, config)
  known = measure.gather(scenes, pictures, config)
  picks = select.choose(scenes, known, config, split)
  text = labels.Words(known)
  asked = assemble.questions(
    picks,
    text,
    most=config.max_questions,
    split=split,
    derive=config.derive,
  )
  return [
    Sample(
      id=f"scenes/{split}/{start + b}",
      source="scenes",
      image=pictures.image[b],
      maps={
        "depth": pictures.depth[b],  # f32 [H, W] planar metres
        "segmentation": pictures.classes[b],  # u8 [H, W]
        "normals": pictures.normals[b],  # f32 [H, W, 3] in the camera's frame
      },
      instances=pictures.instances[b],
      camera=pictures.camera[b],
      questions=asked[b],
      grounding=assemble.grounding(text, b, config.derive),
    )
    for b in range(count)
  ]
