"""Stage 1: auxiliary modality generation, with dense grounding beside it.

Image and request -> codes of the map; in the same rows the objects are listed,
found and marked, because a model that can't name what it sees has no use for
its own maps.
"""

from cooper_jax import plugins
from cooper_jax.data import tasks
from cooper_jax.data.selection import Selection
from cooper_jax.stages import supervised


def row_shape(config, policy):
  """Of a row: a bin for each map, and some of text."""
  maps, settings = len(policy.form.modality_ids), config.pretrain
  return supervised.shape_of(
    settings, policy, bins=maps + settings.text_bins, maps=maps
  )


def task(config, policy, codes):
  """What an example of this stage is made by."""
  settings = config.pretrain
  return tasks.MapTask(
    markup=policy.markup,
    codes=codes,
    shape=row_shape(config, policy),
    map_noise=settings.code_noise,
    weights=dict(settings.weights),
    titles=tuple(
      (name, plugins.find("modalities", name).REQUEST)
      for name in config.modalities
    ),
    map_context=settings.map_context,
    counterfactual=settings.counterfactual,
    single_object=settings.single_object,
    extra_counting=settings.extra_counting,
    extra_sizes=settings.extra_sizes,
    near_misses=config.world.near_misses,
    any_order=settings.any_order,
    selection=Selection(tuple(settings.families), settings.without_lengths),
  )


def run(config, workdir) -> None:
  """Trains the policy from nothing on maps and grounding."""
  supervised.run(
    config,
    workdir,
    stage="pretrain",
    make_task=lambda policy, codes, _: task(config, policy, codes),
    before=None,
  )
