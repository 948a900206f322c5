"""Stage 1: auxiliary modality generation, with dense grounding beside it.

Image and request -> codes of the map; in the same rows the objects are listed,
found and marked, because a model that can't name what it sees has no use for
its own maps.
"""

from cooper_jax import plugins
from cooper_jax.data import tasks as lessons
from cooper_jax.stages import supervised as teaching


def row_shape(config, policy):
  """Of a row: a block for each map, and some of text."""
  maps, settings = len(policy.form.slots), config.pretrain
  return teaching.shape_of(
    settings, policy, blocks=maps + settings.text_blocks, maps=maps
  )


def run(config, workdir) -> None:
  """Trains the policy from nothing on maps and grounding."""

  def make_lesson(policy, codes, settings):
    titles = tuple(
      (name, plugins.find("modalities", name).TITLE)
      for name in config.modalities
    )
    return lessons.Pretrain(
      writer=policy.writer,
      codes=codes,
      shape=row_shape(config, policy),
      map_noise=settings.code_noise,
      weights=dict(settings.weights),
      titles=titles,
      given=settings.given,
      edited=settings.edited,
      marks=settings.marks,
      counts=settings.counts,
    )

  teaching.run(
    config, workdir, stage="pretrain", make_lesson=make_lesson, before=None
  )
