"""The map tokenizer: a map <-> a grid of discrete codes, one per modality.

Space-to-depth first and convolutions at the two lowest resolutions only: a
64 x 64 map becomes 8 x 8 codes for 1/30 of the arithmetic of a VQGAN at full
resolution, which is what lets two of them train in minutes on a laptop.
"""

import dataclasses
import functools
from types import ModuleType
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.tokenizers import quantize
from cooper_jax.tokenizers.picture_tokenizer import PictureTokenizerConfig

QUANTIZERS = ("fsq", "vq_ema")
VQ_DIMENSIONS = 8
BATCH = 64  # maps that are encoded or decoded at once


@dataclasses.dataclass(frozen=True)
class MapTokenizerConfig:
  """Sizes of one tokenizer: Q = grid^2 codes a map, C = product of levels."""

  channels: int  # of the encoder's input
  outputs: int  # of the decoder
  image_size: int = 64  # pixels
  grid: int = 8  # codes per side
  width: int = 64  # channels at the grid's resolution
  blocks: int = 2  # residual blocks at it in the decoder (encoder: one)
  fine_width: int = 32  # channels at twice the grid's resolution
  fine_blocks: int = 1  # residual blocks at that, in the decoder only
  levels: tuple[int, ...] = (8, 5, 5, 5)  # levels of each digit
  quantizer: str = "fsq"  # quantiser: fsq | vq_ema
  spread_weight: float = 0.02  # loss weight of codes in use (fsq)
  commitment_weight: float = 0.25  # weight of the commitment loss (vq_ema)

  def __post_init__(self):
    if self.image_size % (2 * self.grid):
      raise UserError(
        f"image_size {self.image_size} does not divide into"
        f" {2 * self.grid} cells (twice config.model.map_grid={self.grid}); set"
        " config.data.image_size to a multiple of it"
      )
    if self.quantizer not in QUANTIZERS:
      raise UserError(
        f"config.tokenizer.network.quantizer is {self.quantizer!r}, allowed:"
        f" {', '.join(QUANTIZERS)}"
      )
    if not self.levels or min(self.levels) < 2:
      raise UserError(
        f"config.tokenizer.network.levels is {self.levels}, each level needs 2"
        " or more"
      )

  @property
  def codes(self) -> int:
    """C, the size of the code book."""
    return quantize.fsq_size(self.levels)

  @property
  def cells(self) -> int:
    """Q, the codes of one map."""
    return self.grid**2

  @property
  def batch(self) -> int:
    """Maps that are encoded or decoded at once."""
    return BATCH

  def init(self, key):
    """Fresh parameters."""
    shape = (1, self.image_size, self.image_size, self.channels)
    return MapTokenizer(self).init(key, jnp.zeros(shape))["params"]

  def encode(self, params, modality, targets):
    """Codes i32[B,Q] of maps [B, H, W, ...] of a modality."""
    x_BHWD = modality.to_input(targets)
    return MapTokenizer(self).apply({"params": params}, x_BHWD, method="encode")

  def decode(self, params, modality, codes_BQ):
    """Maps [B, H, W, ...] that codes [B, Q] stand for."""
    outputs_BHWO = MapTokenizer(self).apply(
      {"params": params}, codes_BQ, method="decode"
    )
    return modality.from_output(outputs_BHWO)


class ResidualBlock(nn.Module):
  """x + conv(silu(norm(conv(silu(norm(x)))))), 3 x 3 kernels."""

  @nn.compact
  def __call__(self, x_BHWD):
    width = x_BHWD.shape[-1]
    h_BHWD = x_BHWD
    for index in range(2):
      h_BHWD = nn.silu(nn.RMSNorm(name=f"norm_{index}")(h_BHWD))
      init = nn.initializers.zeros if index else nn.initializers.lecun_normal()
      h_BHWD = nn.Conv(width, (3, 3), kernel_init=init, name=f"conv_{index}")(
        h_BHWD
      )
    return x_BHWD + h_BHWD


def _gather(x_BHWD, side: int):
  """Space to depth: each side x side square becomes one cell."""
  return einops.rearrange(
    x_BHWD, "b (h p) (w q) c -> b h w (p q c)", p=side, q=side
  )


def _spread(x_BHWD, side: int):
  """Depth to space, the inverse of `_gather`."""
  return einops.rearrange(
    x_BHWD, "b h w (p q c) -> b (h p) (w q) c", p=side, q=side
  )


class MapTokenizer(nn.Module):
  """Encoder, quantiser and decoder of one modality's maps."""

  config: MapTokenizerConfig

  def setup(self):
    config = self.config
    side = config.image_size // (2 * config.grid)
    is_fsq = config.quantizer == "fsq"
    dimensions = len(config.levels) if is_fsq else VQ_DIMENSIONS
    self.patch_in = nn.Dense(config.fine_width)
    self.merge = nn.Dense(config.width)
    self.coarse_in = ResidualBlock()
    self.norm_in = nn.RMSNorm()
    self.to_code = nn.Dense(dimensions)
    self.from_code = nn.Dense(config.width)
    self.coarse_out = [ResidualBlock() for _ in range(config.blocks)]
    self.split = nn.Dense(4 * config.fine_width)
    self.fine_out = [ResidualBlock() for _ in range(config.fine_blocks)]
    self.norm_out = nn.RMSNorm()
    self.patch_out = nn.Dense(side**2 * config.outputs)
    if not is_fsq:
      shape = (config.codes, VQ_DIMENSIONS)
      self.codebook_total = self.param(
        "codebook_total", nn.initializers.normal(1.0), shape
      )
      self.codebook_count = self.param(
        "codebook_count", nn.initializers.ones, shape[:1]
      )

  def __call__(self, x_BHWD):
    """(outputs [B, H, W, O], codes [B, Q], aux).

    aux has `penalty`, to be added to the loss, and for VQ `assigned`, which
    `follow` moves the code book by.
    """
    z = self._features(x_BHWD)
    config = self.config
    if config.quantizer == "fsq":
      values, codes = quantize.fsq(z, config.levels)
      penalty = config.spread_weight * quantize.spread_penalty(z)
      aux = {"penalty": penalty}
    else:
      values, codes, commitment = quantize.vq(z, self._book())
      aux = {
        "penalty": config.commitment_weight * commitment,
        "assigned": quantize.vq_assigned(z, codes, size=config.codes),
      }
    return self._draw(values), _flat(codes), aux

  def encode(self, x_BHWD):
    """Codes i32[B,Q], row by row."""
    z = self._features(x_BHWD)
    if self.config.quantizer == "fsq":
      return _flat(quantize.fsq(z, self.config.levels)[1])
    return _flat(quantize.vq(z, self._book())[1])

  def decode(self, codes_BQ):
    """Outputs f32[B,H,W,O] that codes i32[B,Q] stand for."""
    grid = self.config.grid
    codes = einops.rearrange(codes_BQ, "b (h w) -> b h w", h=grid, w=grid)
    if self.config.quantizer == "fsq":
      return self._draw(quantize.fsq_values(codes, self.config.levels))
    return self._draw(self._book().vectors()[codes])

  def _book(self):
    return quantize.Codebook(
      total=jax.lax.stop_gradient(self.codebook_total),
      count=jax.lax.stop_gradient(self.codebook_count),
    )

  def _features(self, x_BHWD):
    config = self.config
    side = config.image_size // (2 * config.grid)
    if x_BHWD.shape[1:3] != (config.image_size, config.image_size):
      raise UserError(
        f"map is {x_BHWD.shape[1]}x{x_BHWD.shape[2]}, tokenizer expects"
        f" {config.image_size}x{config.image_size}; set"
        f" config.data.image_size={config.image_size} or train it anew"
      )
    h = self.patch_in(_gather(x_BHWD, side))
    h = self.coarse_in(self.merge(nn.silu(_gather(h, 2))))
    return self.to_code(self.norm_in(h))

  def _draw(self, values):
    config = self.config
    h = self.from_code(values)
    for block in self.coarse_out:
      h = block(h)
    h = _spread(self.split(h), 2)
    for block in self.fine_out:
      h = block(h)
    h = self.patch_out(self.norm_out(h))
    return _spread(h, config.image_size // (2 * config.grid))


def _flat(codes_BHW):
  return einops.rearrange(codes_BHW, "b h w -> b (h w)")


def flops(params, config: MapTokenizerConfig) -> float:
  """Arithmetic of one training step on one map: products, three passes."""
  total = 0
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if name.endswith("kernel"):
      fine = name.startswith(("patch_", "fine_"))
      total += 2 * leaf.size * config.cells * (4 if fine else 1)
  return 3.0 * total


def follow(params, assigned: quantize.Codebook, *, key):
  """VQ parameters with the code book moved to what was `assigned`."""
  book = quantize.Codebook(params["codebook_total"], params["codebook_count"])
  book = quantize.vq_follow(book, assigned, key=key)
  return {
    **params,
    "codebook_total": book.total,
    "codebook_count": book.count,
  }


@dataclasses.dataclass(frozen=True)
class Codec:
  """A tokenizer and its modality, for `encode_maps` and `decode_maps`."""

  modality: ModuleType  # a file of cooper_jax/modalities
  config: MapTokenizerConfig | PictureTokenizerConfig
  params: Any


def encode_maps(codec: Codec, targets) -> np.ndarray:
  """Codes i32[n,Q] of target maps [n,H,W,...], on the host."""
  return _in_batches(
    lambda batch: _encode(
      codec.params, batch, config=codec.config, modality=codec.modality
    ),
    np.asarray(targets),
    codec.config.batch,
  )


def decode_maps(codec: Codec, codes_nQ) -> np.ndarray:
  """Target maps [n,H,W,...] that codes [n,Q] stand for, on the host."""
  return _in_batches(
    lambda batch: _decode(
      codec.params, batch, config=codec.config, modality=codec.modality
    ),
    np.asarray(codes_nQ, np.int32),
    codec.config.batch,
  )


def redraw_maps(codec: Codec, targets) -> tuple[np.ndarray, np.ndarray]:
  """(maps [n,H,W,...], codes [n,Q]): what a tokenizer leaves of targets."""
  codes_nQ = encode_maps(codec, targets)
  return decode_maps(codec, codes_nQ), codes_nQ


@functools.partial(jax.jit, static_argnames=("config", "modality"))
def _encode(params, targets, *, config, modality):
  return config.encode(params, modality, targets)


@functools.partial(jax.jit, static_argnames=("config", "modality"))
def _decode(params, codes_BQ, *, config, modality):
  return config.decode(params, modality, codes_BQ)


def _in_batches(function, array, most: int):
  """Runs in batches of a few fixed sizes, so that little is compiled."""
  results = []
  for start in range(0, len(array), most):
    batch = array[start : start + most]
    size = next(size for size in (1, 8, BATCH) if size >= len(batch))
    padding = [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
    result = function(np.pad(batch, padding, mode="edge"))
    results.append(np.asarray(result)[: len(batch)])
  return np.concatenate(results)
