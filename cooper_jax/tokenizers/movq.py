"""Emu3's image tokenizer (arXiv 2409.18869): pictures <-> codes.

A MoVQ (arXiv 2209.09002): the decoder's norms are scaled and moved by the code
that is drawn there. It is of films, several frames to a code; a picture is a
film that stands still, of which the first frame is drawn. No frame sees what
follows it, so that the others need not be. Weights are a released folder's
(`weights/emu3_vq.py`); nothing of it is trained here.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from cooper_jax.tokenizers import picture_layers
from cooper_jax.tokenizers.picture_layers import (
  Conv,
  Dense,
  GroupNorm,
  PictureBlock,
)

BATCH_EPS = 1e-5  # added to the variance in the norms over films
EMPTY_FRAMES = 2  # empty frames in front of a film


@dataclasses.dataclass(frozen=True)
class MovqConfig:
  """Sizes of an Emu3 tokenizer; the released one's where nothing is said."""

  codes: int = 32_768  # C, the size of the code book
  code_width: int = 4  # channels of a code, and of what it is made of
  width: int = 256  # channels at full resolution
  multipliers: tuple[int, ...] = (1, 2, 2, 4)  # of them, by resolution
  blocks: int = 2  # residual blocks of the encoder at each resolution
  attended: tuple[int, ...] = (3,)  # resolutions with attention, 0 = full
  heads: int = 1  # attention heads
  frames: int = 4  # of a film to a code, a power of 2

  @property
  def factor(self) -> int:
    """Pixels along a side of a code's square."""
    return 2 ** (len(self.multipliers) - 1)

  def module(self) -> "Movq":
    """The network."""
    return Movq(self)


class SpatialNorm(nn.Module):
  """A norm whose scale and shift are of the code at each place."""

  @nn.compact
  def __call__(self, x_BHWD, code_Bhwd):
    width = x_BHWD.shape[-1]
    code = picture_layers.doubled(
      code_Bhwd, x_BHWD.shape[1] // code_Bhwd.shape[1]
    )
    x_BHWD = GroupNorm(name="norm_layer")(x_BHWD)
    scale_BHWD = Conv(width, (1, 1), name="conv_y")(code)
    return x_BHWD * scale_BHWD + Conv(width, (1, 1), name="conv_b")(code)


class BatchNorm(nn.Module):
  """A norm by means and variances of training; film: [B, frames, H, W, D]."""

  @nn.compact
  def __call__(self, film):
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    makes = {"mean": zeros, "var": ones, "scale": ones, "bias": zeros}
    mean, variance, scale, bias = (
      self.param(name, make, film.shape[-1:]) for name, make in makes.items()
    )
    film = (film - mean) * jax.lax.rsqrt(variance + BATCH_EPS)
    return film * scale + bias


def film_conv(width: int, kernel, name: str, stride: int = 1):
  """A convolution over frames, rows and columns that sees no later frame."""
  return Conv(
    width,
    kernel,
    strides=(stride, 1, 1),
    padding=((EMPTY_FRAMES, 0), *((n // 2, n // 2) for n in kernel[1:])),
    name=f"{name}.conv",
  )


class FilmBlock(nn.Module):
  """A residual block over films."""

  @nn.compact
  def __call__(self, film):
    h, width = film, film.shape[-1]
    for i in (1, 2):
      h = nn.silu(BatchNorm(name=f"norm{i}")(h))
      h = film_conv(width, (3, 3, 3), f"conv{i}")(h)
    return film + h


class Attention(nn.Module):
  """Attention of all cells of a picture to all."""

  heads: int

  @nn.compact
  def __call__(self, x_BHWD):
    width = x_BHWD.shape[-1]
    names = ("q_proj", "k_proj", "v_proj", "out_proj")

    def layer(name):
      return Dense(width, name=name)

    return picture_layers.attention(x_BHWD, layer, names, heads=self.heads)


class MovqMiddle(nn.Module):
  """What stands at the lowest resolution between encoder and code."""

  heads: int
  norm: type[nn.Module]

  @nn.compact
  def __call__(self, x_BHWD, *seen):
    width = x_BHWD.shape[-1]
    x_BHWD = PictureBlock(width, self.norm, name="block_1")(x_BHWD, *seen)
    h_BHWD = self.norm(name="attn_norm")(x_BHWD, *seen)
    x_BHWD += Attention(self.heads, name="attn_1")(h_BHWD)
    return PictureBlock(width, self.norm, name="block_2")(x_BHWD, *seen)


class MovqLevel(nn.Module):
  """Residual blocks of one resolution, and the way to the next."""

  width: int
  blocks: int
  heads: int  # of attention behind each block, 0 = none
  norm: type[nn.Module]
  change: str = ""  # name of a function of `picture_layers`, "" = none

  @nn.compact
  def __call__(self, x_BHWD, *seen):
    for i in range(self.blocks):
      block = PictureBlock(self.width, self.norm, name=f"block.{i}")
      x_BHWD = block(x_BHWD, *seen)
      if self.heads:
        h_BHWD = self.norm(name=f"attn_norms.{i}")(x_BHWD, *seen)
        x_BHWD += Attention(self.heads, name=f"attn.{i}")(h_BHWD)
    return (
      getattr(picture_layers, self.change)(x_BHWD) if self.change else x_BHWD
    )


class MovqEncoder(nn.Module):
  """Pictures [B, H, W, 3] -> films of one frame [B, 1, h, w, d]."""

  config: MovqConfig

  @nn.compact
  def __call__(self, x_BHWC):
    config = self.config
    x_BHWD = Conv(config.width, (3, 3), name="conv_in")(x_BHWC)
    last = len(config.multipliers) - 1
    for level, times in enumerate(config.multipliers):
      x_BHWD = MovqLevel(
        width=config.width * times,
        blocks=config.blocks,
        heads=config.heads if level in config.attended else 0,
        norm=GroupNorm,
        change="" if level == last else "downsample",
        name=f"down_block.down.{level}",
      )(x_BHWD)
    x_BHWD = MovqMiddle(config.heads, GroupNorm, name="middle_block")(x_BHWD)
    x_BHWD = nn.silu(GroupNorm(name="norm_out")(x_BHWD))
    x_BHWD = Conv(config.code_width, (3, 3), name="conv_out")(x_BHWD)
    film = jnp.repeat(x_BHWD[:, None], config.frames, axis=1)
    for i in range(config.frames.bit_length() - 1):
      halve = film_conv(config.code_width, (4, 3, 3), f"time_conv.{i}.conv", 2)
      film = nn.silu(halve(film))
    for i in range(config.blocks):
      film = FilmBlock(name=f"time_res_stack.{i}")(film)
    return film


class MovqDecoder(nn.Module):
  """The way back: first frames [B, 1, h, w, d] -> pictures [B, H, W, 3].

  Takes what the codes stand for behind `post_quant_conv`, and as it is.
  """

  config: MovqConfig

  @nn.compact
  def __call__(self, film, code):
    config = self.config
    # Both go through one and the same stack.
    both = jnp.concatenate([film, code])
    for i in range(config.blocks):
      both = FilmBlock(name=f"time_res_stack.{i}")(both)
    for i in range(config.frames.bit_length() - 1):
      # It would double the frames; the first is made of the first alone.
      follow = film_conv(config.code_width, (3, 3, 3), f"time_conv.{i}.conv")
      both = nn.silu(follow(both))
    x_BHWD, code_BHWd = jnp.split(both[:, 0], 2)
    lowest = config.width * config.multipliers[-1]
    x_BHWD = Conv(lowest, (3, 3), name="conv_in")(x_BHWD)
    middle = MovqMiddle(config.heads, SpatialNorm, name="middle_block")
    x_BHWD = middle(x_BHWD, code_BHWd)
    for level, times in reversed([*enumerate(config.multipliers)]):
      x_BHWD = MovqLevel(
        width=config.width * times,
        blocks=config.blocks + 1,
        heads=config.heads if level in config.attended else 0,
        norm=SpatialNorm,
        change="upsample" if level else "",
        name=f"up_block.up.{level}",
      )(x_BHWD, code_BHWd)
    x_BHWD = nn.silu(SpatialNorm(name="norm_out")(x_BHWD, code_BHWd))
    return Conv(picture_layers.CHANNELS_RGB, (3, 3), name="conv_out")(x_BHWD)


class Movq(nn.Module):
  """Encoder, code book and decoder; pictures are in [-1, 1]."""

  config: MovqConfig

  def setup(self):
    config = self.config
    self.encoder = MovqEncoder(config)
    self.decoder = MovqDecoder(config)
    width, kernel = config.code_width, (3, 1, 1)
    self.quant_conv = film_conv(width, kernel, "quant_conv")
    self.post_quant_conv = film_conv(width, kernel, "post_quant_conv")
    self.book = self.param(
      "quantize.embedding",
      nn.initializers.normal(1.0),
      (config.codes, width),
    )

  def __call__(self, x_BHWC):
    """Pictures [B, H, W, 3] that are left of pictures."""
    return self.decode(self.encode(x_BHWC))

  def features(self, x_BHWC):
    """What is rounded to a code: [B, h, w, code_width]."""
    return self.quant_conv(self.encoder(x_BHWC))[:, 0]

  def codes_of(self, z_BHWd):
    """Codes i32 [B, h, w] of features."""
    return picture_layers.nearest(z_BHWd, self.book)

  def encode(self, x_BHWC):
    """Codes i32 [B, h, w] of pictures [B, H, W, 3]."""
    return self.codes_of(self.features(x_BHWC))

  def decode(self, codes_BHW):
    """Pictures [B, H, W, 3] that codes [B, h, w] stand for; not clipped."""
    code = self.book[codes_BHW][:, None]
    return self.decoder(self.post_quant_conv(code), code)
