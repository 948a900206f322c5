"""Sizes and switches of the unified transformer.

Every flag that imported weights need is here (QK-norm, QKV bias, tied head,
mixture of transformers), so that one set of modules serves all sizes.
"""

import dataclasses
import math

from cooper_jax import errors

MAP_GROUPS = ("token", "row", "all")
# What of a block the backward pass computes again: nothing; everything but the
# result of attention; all but the matrix products; everything.
REMAT = ("none", "attention", "dots", "full")


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """The image encoder: a ViT of SigLIP2's shape and its connector."""

  image_size: int  # pixels a side
  patch: int = 8  # pixels a side of one image cell
  width: int = 128  # channels of a cell
  layers: int = 1  # transformer layers
  heads: int = 4  # attention heads
  ffn: int = 256  # hidden channels of the feed-forward layers
  # First layer: linear (SigLIP2) | conv (two convolutions, from scratch).
  stem: str = "conv"
  norm_eps: float = 1e-6  # added to the variance in LayerNorm
  # A table of sines, a row a cell, is added behind the connector and never
  # trained (BAGEL).
  cell_table: bool = False

  def __post_init__(self):
    if self.image_size % self.patch:
      raise errors.UserError(
        f"image size {self.image_size} is not divisible by the patch"
        f" {self.patch}; set config.model.vision.image_size to a multiple"
      )
    if self.stem not in ("linear", "conv"):
      raise errors.UserError(
        f"config.model.vision.stem is {self.stem!r}; allowed: linear, conv"
      )
    if self.stem == "conv" and self.patch % 4:
      raise errors.UserError(
        f"config.model.vision.patch is {self.patch}, the conv stem needs a"
        " multiple of 4; make it one, or set config.model.vision.stem=linear"
      )
    if self.width % self.heads:
      raise errors.UserError(
        f"config.model.vision.width={self.width} is not divisible by"
        f" config.model.vision.heads={self.heads}; make heads a divisor"
      )

  @property
  def grid(self) -> int:
    """Image cells along one side."""
    return self.image_size // self.patch

  @property
  def cells(self) -> int:
    """Image cells of one image."""
    return self.grid**2


@dataclasses.dataclass(frozen=True)
class BinLayout:
  """Static layout of a packed row: a trunk, then bins of equal size.

  A branch is in one bin whole, so that its positions attend to the trunk and
  to their own bin alone. L = trunk + n * bin_size.
  """

  trunk: int  # positions of the trunk
  bin_size: int  # positions of a bin

  def bins_in(self, length: int) -> int:
    """n, the bins of a row of L positions."""
    return (length - self.trunk) // self.bin_size


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The decoder. Sizes named by a letter are those of docs/glossary.md."""

  text: int  # tokens of the text tokenizer
  codes: int  # C, rows shared by the codes of every modality
  vision: VisionConfig
  attention: str  # kernel: xla | splash | cudnn | auto (of the platform)
  # Layers called one by one, in training up to 8: on | off | auto (on a CPU).
  # This compiles as long as there are layers and on a CPU copies less.
  unroll: bool
  d_model: int = 128  # channels of a token
  layers: int = 4  # transformer layers
  heads: int = 4  # attention heads
  kv_heads: int = 2  # heads of keys and values, a divisor of heads
  head_dim: int = 32  # channels of a head, a multiple of 4
  ffn: int = 384  # hidden channels of the feed-forward layers
  map_grid: int = 8  # codes along one side of a map
  max_maps: int = 2  # maps in one answer, at most; sampling.maps may be fewer
  # Codes of a map drawn at once, in a group: token | row | all.
  codes_per_step: str = "row"
  qk_norm: bool = True  # RMSNorm of queries and keys (Qwen3)
  qkv_bias: bool = False  # bias of queries, keys and values (Qwen2)
  tied_head: bool = False  # the output head is the embedding table
  mixture_of_transformers: bool = False  # own weights at code positions (BAGEL)
  pointer: bool = True  # location logits point at image cells
  map_lookup: bool = True  # a place that is named reads the codes drawn there
  aligned_queries: bool = True  # a map position sees the feature of its cell
  code_levels: tuple[int, ...] = ()  # of an FSQ code's digits; () = no FSQ
  code_digits: bool = True  # codes share what is learned of their digits
  # All cells of a picture have one position, else by row and column (BAGEL).
  one_position: bool = False
  smear: bool = True  # a text token sees its predecessor's embedding
  rope_theta: float = 10_000.0  # base of the rotary embedding's wavelengths
  # Wavelengths stretched as Llama 3 has them: (factor, low, high, positions
  # trained on), by the names of its config; () = not.
  rope_llama3: tuple[float, ...] = ()
  norm_eps: float = 1e-6  # added to the mean square in RMSNorm
  # What the backward pass computes again, for memory: none | attention | dots |
  # full, from least to most.
  remat: str = "none"
  # MiB of logits a device that are kept for the backward pass; a batch with
  # more computes them again.
  kept_logits_mib: int = 256
  dtype: str = "float32"  # of activations; parameters stay float32
  # What the matrix products of layers and heads multiply, summing in float32.
  operands: str = "float32"

  def __post_init__(self):
    if self.codes_per_step not in MAP_GROUPS:
      raise errors.UserError(
        f"config.model.codes_per_step is {self.codes_per_step!r}; allowed:"
        f" {', '.join(MAP_GROUPS)}"
      )
    if self.remat not in REMAT:
      raise errors.UserError(
        f"config.model.remat is {self.remat!r}; allowed: {', '.join(REMAT)}"
      )
    if self.rope_llama3:
      self._check_llama3()
    if self.code_levels and math.prod(self.code_levels) != self.codes:
      raise errors.UserError(
        f"code_levels {self.code_levels} make {math.prod(self.code_levels)}"
        f" codes, the model has {self.codes}"
      )
    if self.heads % self.kv_heads:
      raise errors.UserError(
        f"config.model.heads={self.heads} can't share"
        f" config.model.kv_heads={self.kv_heads} evenly; make kv_heads a"
        " divisor of heads"
      )
    if self.head_dim % 4:
      raise errors.UserError(
        f"config.model.head_dim is {self.head_dim}; allowed: multiples of 4,"
        " for RoPE has two axes"
      )

  def _check_llama3(self) -> None:
    given = self.rope_llama3
    good = len(given) == 4 and given[0] >= 1 and 0 < given[1] < given[2]
    if not good or given[3] < 1:
      raise errors.UserError(
        f"config.model.rope_llama3 is {given}; allowed: () and (factor from 1"
        " on, low above 0, high above low, positions from 1 on), as in (8.0,"
        " 1.0, 4.0, 8192.0)"
      )

  @property
  def digits(self) -> tuple[int, ...]:
    """Levels of the digits that have rows of their own, () if none have."""
    return self.code_levels if self.code_digits else ()

  @property
  def locations(self) -> int:
    """Location tokens: one for each cell of an image."""
    return self.vision.cells

  @property
  def map_codes(self) -> int:
    """Q, codes of one map."""
    return self.map_grid**2

  @property
  def step_codes(self) -> int:
    """g, codes drawn at once."""
    return {"token": 1, "row": self.map_grid, "all": self.map_codes}[
      self.codes_per_step
    ]

  @property
  def map_positions(self) -> int:
    """Positions of one map: Q codes shifted by one step, Q + g."""
    return self.map_codes + self.step_codes

  @property
  def image_advance(self) -> int:
    """Positions that the text after a picture moves on by."""
    return 1 if self.one_position else self.vision.grid

  @property
  def map_advance(self) -> int:
    """Positions that the text after a map moves on by."""
    return max(-(-self.map_positions // self.map_grid), self.map_grid)
