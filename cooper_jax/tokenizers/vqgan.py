"""VQ-16, the image tokenizer of LlamaGen and Janus-Pro: pictures <-> codes.

A VQGAN (arXiv 2012.09841) whose code book has few channels, all vectors being
of length 1 (arXiv 2406.06525). Weights are a released folder's
(`weights/janus_vq.py`); nothing of it is trained here.
"""

import dataclasses
import functools

import flax.linen as nn

from cooper_jax.tokenizers import picture_layers
from cooper_jax.tokenizers.picture_layers import Conv, GroupNorm, PictureBlock


@dataclasses.dataclass(frozen=True)
class VqganConfig:
  """Sizes of a VQ-16; those of Janus-Pro where nothing is said."""

  codes: int = 16_384  # C, the size of the code book
  code_width: int = 8  # channels of a code
  latent: int = 256  # channels between the code and the convolutions
  width: int = 128  # channels at full resolution
  multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)  # of them, by resolution
  blocks: int = 2  # residual blocks of the encoder at each resolution
  # Codes are those nearest by angle, as it was trained; else by distance, as
  # the class of transformers has it.
  by_angle: bool = True

  @property
  def factor(self) -> int:
    """Pixels along a side of a code's square."""
    return 2 ** (len(self.multipliers) - 1)

  def module(self) -> "Vqgan":
    """The network."""
    return Vqgan(self)


class Attended(nn.Module):
  """x + attention(norm(x)), of all cells of a picture to all."""

  @nn.compact
  def __call__(self, x_BHWD):
    layer = functools.partial(Conv, x_BHWD.shape[-1], (1, 1))
    h_BHWD = GroupNorm(name="norm")(x_BHWD)
    names = ("q", "k", "v", "proj_out")
    return x_BHWD + picture_layers.attention(h_BHWD, layer, names)


class VqganMiddle(nn.Module):
  """What stands at the lowest resolution between encoder and code."""

  @nn.compact
  def __call__(self, x_BHWD):
    width = x_BHWD.shape[-1]
    x_BHWD = PictureBlock(width, name="block_1")(x_BHWD)
    x_BHWD = Attended(name="attn_1")(x_BHWD)
    return PictureBlock(width, name="block_2")(x_BHWD)


class VqganLevel(nn.Module):
  """Residual blocks of one resolution, and the way to the next."""

  width: int
  blocks: int
  is_lowest: bool  # which has attention behind each block
  change: str = ""  # name of a function of `picture_layers`, "" = none

  @nn.compact
  def __call__(self, x_BHWD):
    for i in range(self.blocks):
      x_BHWD = PictureBlock(self.width, name=f"block.{i}")(x_BHWD)
      if self.is_lowest:
        x_BHWD = Attended(name=f"attn.{i}")(x_BHWD)
    return (
      getattr(picture_layers, self.change)(x_BHWD) if self.change else x_BHWD
    )


class VqganEncoder(nn.Module):
  """Pictures [B, H, W, 3] -> what codes are made of [B, h, w, latent]."""

  config: VqganConfig

  @nn.compact
  def __call__(self, x_BHWC):
    config = self.config
    x_BHWD = Conv(config.width, (3, 3), name="conv_in")(x_BHWC)
    last = len(config.multipliers) - 1
    for level, times in enumerate(config.multipliers):
      x_BHWD = VqganLevel(
        width=config.width * times,
        blocks=config.blocks,
        is_lowest=level == last,
        change="" if level == last else "downsample",
        name=f"down.{level}",
      )(x_BHWD)
    x_BHWD = VqganMiddle(name="mid")(x_BHWD)
    x_BHWD = nn.silu(GroupNorm(name="norm_out")(x_BHWD))
    return Conv(config.latent, (3, 3), name="conv_out")(x_BHWD)


class VqganDecoder(nn.Module):
  """The way back: [B, h, w, latent] -> pictures [B, H, W, 3]."""

  config: VqganConfig

  @nn.compact
  def __call__(self, x_BHWD):
    config = self.config
    last = len(config.multipliers) - 1
    lowest = config.width * config.multipliers[-1]
    x_BHWD = Conv(lowest, (3, 3), name="conv_in")(x_BHWD)
    x_BHWD = VqganMiddle(name="mid")(x_BHWD)
    for i, times in enumerate(reversed(config.multipliers)):
      x_BHWD = VqganLevel(
        width=config.width * times,
        blocks=config.blocks + 1,
        is_lowest=i == 0,
        change="" if i == last else "upsample",
        name=f"up.{i}",
      )(x_BHWD)
    x_BHWD = nn.silu(GroupNorm(name="norm_out")(x_BHWD))
    return Conv(picture_layers.CHANNELS_RGB, (3, 3), name="conv_out")(x_BHWD)


class Vqgan(nn.Module):
  """Encoder, code book and decoder; pictures are in [-1, 1]."""

  config: VqganConfig

  def setup(self):
    config = self.config
    self.encoder = VqganEncoder(config)
    self.decoder = VqganDecoder(config)
    self.quant_conv = Conv(config.code_width, (1, 1))
    self.post_quant_conv = Conv(config.latent, (1, 1))
    shape = (config.codes, config.code_width)
    self.book = self.param(
      "quantize.embedding", nn.initializers.normal(1.0), shape
    )

  def __call__(self, x_BHWC):
    """Pictures [B, H, W, 3] that are left of pictures."""
    return self.decode(self.encode(x_BHWC))

  def features(self, x_BHWC):
    """What is rounded to a code: [B, h, w, code_width]."""
    return self.quant_conv(self.encoder(x_BHWC))

  def codes_of(self, z_BHWd):
    """Codes i32 [B, h, w] of features."""
    book_Cd = self.book
    if self.config.by_angle:
      z_BHWd, book_Cd = (
        picture_layers.unit(z_BHWd),
        picture_layers.unit(book_Cd),
      )
    return picture_layers.nearest(z_BHWd, book_Cd)

  def encode(self, x_BHWC):
    """Codes i32 [B, h, w] of pictures [B, H, W, 3]."""
    return self.codes_of(self.features(x_BHWC))

  def decode(self, codes_BHW):
    """Pictures [B, H, W, 3] that codes [B, h, w] stand for; not clipped."""
    return self.decoder(
      self.post_quant_conv(picture_layers.unit(self.book[codes_BHW]))
    )
