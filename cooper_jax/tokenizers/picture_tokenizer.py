"""Image tokenizers of others as map tokenizers: a map is drawn as a picture.

What a network is, is noted in a run's config (`config.init.networks`), so that
no later stage needs the folder that it came from.
"""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp

from cooper_jax.errors import UserError
from cooper_jax.tokenizers import movq, vqgan
from cooper_jax.tokenizers.picture_layers import CHANNELS_RGB

KINDS = {"vqgan": vqgan.VqganConfig, "movq": movq.MovqConfig}
# Maps at once -> values at full resolution up to which so many are.
MAPS_AT_ONCE = {64: 2**20, 8: 2**24}


@dataclasses.dataclass(frozen=True)
class PictureTokenizerConfig:
  """A released network for maps of one size; used as `MapTokenizerConfig`."""

  network: vqgan.VqganConfig | movq.MovqConfig
  image_size: int  # pixels

  @property
  def codes(self) -> int:
    """C, the size of the code book."""
    return self.network.codes

  @property
  def grid(self) -> int:
    """Codes per side."""
    return self.image_size // self.network.factor

  @property
  def cells(self) -> int:
    """Q, the codes of one map."""
    return self.grid**2

  @property
  def batch(self) -> int:
    """Maps that are encoded or decoded at once."""
    values = self.image_size**2 * self.network.width
    fits = (count for count, most in MAPS_AT_ONCE.items() if values <= most)
    return next(fits, 1)

  def init(self, key):
    """Parameters of the network, drawn: their shapes are those of a folder."""
    shape = (1, self.image_size, self.image_size, CHANNELS_RGB)
    return self.network.module().init(key, jnp.zeros(shape))["params"]

  def encode(self, params, modality, targets):
    """Codes i32[B,Q] of maps [B, H, W, ...] of a modality."""
    codes_BHW = self._call(params, "encode", modality.to_colours(targets))
    return codes_BHW.reshape(len(codes_BHW), -1)

  def decode(self, params, modality, codes_BQ):
    """Maps [B, H, W, ...] that codes [B, Q] stand for."""
    codes_BHW = codes_BQ.reshape(-1, self.grid, self.grid)
    return modality.from_colours(self._call(params, "decode", codes_BHW))

  def _call(self, params, method: str, given):
    return self.network.module().apply({"params": params}, given, method=method)


def written(network, digest: str) -> str:
  """A network as a config notes it, with the digest of its weights."""
  kinds = {kind: name for name, kind in KINDS.items()}
  said = {"kind": kinds[type(network)], "digest": digest}
  return json.dumps(said | dataclasses.asdict(network))


def networks(config) -> dict:
  """The networks that a run's config notes, by modality that it draws."""
  noted = config.get("init", {}).get("networks", {})
  found = {}
  for name in config.modalities:
    if noted.get(name):
      said = json.loads(noted[name])
      del said["digest"]
      fields = {
        k: tuple(v) if isinstance(v, list) else v for k, v in said.items()
      }
      found[name] = KINDS[fields.pop("kind")](**fields)
  return found


def code_rows(config) -> tuple[int, tuple[int, ...]]:
  """(C, levels of an FSQ code's digits or ()) that all modalities share.

  Raises UserError where their code books differ in size.
  """
  own, found = config.tokenizer.network, networks(config)
  size = math.prod(own.levels)
  levels = tuple(own.levels) if own.quantizer == "fsq" and not found else ()
  for name, network in found.items():
    others = [n for n in config.modalities if n not in found]
    unlike = [n for n in found if found[n].codes != network.codes]
    if unlike:
      raise UserError(
        f"config.init.tokenizer.{name} has {network.codes:,} codes,"
        f" config.init.tokenizer.{unlike[0]} {found[unlike[0]].codes:,};"
        " modalities share the model's rows of codes: name folders of one size"
      )
    if others and network.codes != size:
      raise UserError(
        f"config.init.tokenizer.{name} has {network.codes:,} codes, the"
        f" tokenizer of {others[0]} that is trained here {size:,}; modalities"
        " share the model's rows of codes: name a folder for it, too, or set"
        f" config.tokenizer.network.levels to a product of {network.codes:,}"
      )
    size = network.codes
  return size, levels


def make_config(config, name: str, modality, network) -> PictureTokenizerConfig:
  """The map tokenizer that a modality's network is, for a run's maps.

  Raises UserError where the modality or the sizes don't allow it.
  """
  said, pixels = f"config.init.tokenizer.{name}", config.data.image_size
  if modality.to_colours is None:
    raise UserError(
      f"{said}: maps of {name} can't be drawn in colours (to_colours in"
      f" cooper_jax/modalities/{name}.py); leave it out"
    )
  found = PictureTokenizerConfig(network, pixels)
  if pixels % network.factor:
    raise UserError(
      f"{said} draws squares of {network.factor} pixels, which do not divide"
      f" config.data.image_size={pixels}; make it a multiple"
    )
  if found.grid != config.model.map_grid:
    raise UserError(
      f"{said} gives {found.grid} codes a side for pictures of"
      f" config.data.image_size={pixels}, config.model.map_grid is"
      f" {config.model.map_grid}; set one of them, a code being of"
      f" {network.factor} pixels"
    )
  try:
    jax.eval_shape(modality.to_colours, jnp.zeros((1, 1, 1), jnp.int32))
  except UserError as error:
    raise UserError(f"{said}: {error}") from error
  return found
