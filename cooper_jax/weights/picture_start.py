"""Start of a run with image tokenizers of others, in place of trained ones."""

import dataclasses

from cooper_jax.errors import UserError
from cooper_jax.tokenizers import picture_tokenizer, vqgan
from cooper_jax.weights import folder, importing, picture_codes


def take(config, digest_of, given=()) -> None:
  """Notes the networks of the folders `config.init.tokenizer` names.

  digest_of(source): which weights a folder has. given: names of settings that
  were asked for; the grid of codes follows from the network where it was not.
  Raises UserError where a folder is no image tokenizer, or not the noted one.
  """
  init = config.init
  named = {name: path for name, path in init.tokenizer.items() if path}
  if named and config.init_from:
    raise UserError(
      f"config.init_from={config.init_from} begins with a package, and"
      f" config.init.tokenizer.{min(named)} with a folder of weights; set"
      " --config.init_from='' or take a variant that trains every stage (long,"
      " scratch, smoke)"
    )
  for name in named:
    _, init.networks[name] = _planned(config, name, digest_of)
  grids = {
    config.data.image_size // each.factor
    for each in picture_tokenizer.networks(config).values()
  }
  if len(grids) == 1 and "model.map_grid" not in given:
    (config.model.map_grid,) = grids


def read(config, name: str, digest_of) -> dict:
  """The parameters of a modality's network, of the folder that it names."""
  if not config.init.tokenizer[name]:
    raise UserError(
      f"config.init.networks.{name} is noted, and its folder is not named; set"
      f" config.init.tokenizer.{name}"
    )
  planned, _ = _planned(config, name, digest_of)
  return picture_codes.tree(importing.read(planned))


def _planned(config, name: str, digest_of):
  """(plan of a modality's folder, its network as a config notes it).

  Raises UserError where another one was noted before.
  """
  path = config.init.tokenizer[name]
  try:
    planned = importing.plan(folder.open_folder(path))
  except UserError as error:
    raise UserError(f"config.init.tokenizer.{name}: {error}") from error
  if picture_codes.SIZES not in planned.sizes:
    raise UserError(
      f"config.init.tokenizer.{name}: {path} is no image tokenizer; name a"
      " folder of Janus-Pro's VQ-16 or Emu3's"
    )
  network = planned.sizes[picture_codes.SIZES]
  if isinstance(network, vqgan.VqganConfig):
    network = dataclasses.replace(network, by_angle=config.init.by_angle)
  found = picture_tokenizer.written(network, digest_of(planned.source))
  noted = config.init.networks[name]
  if noted not in ("", found):
    raise UserError(
      f"config.init.tokenizer.{name}: {path} is not what this was begun with,"
      f" {noted}; name the folder that is"
    )
  return planned, found
