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
# What a tower knows of the place of a patch, besides what turns.
POSITIONS = ("grid", "averaged", "resized", "none")
NORMS = ("layer", "rms")
RGB = 3


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """The image encoder: a ViT of SigLIP2's or Qwen-VL's shape, its connector."""

  image_size: int  # pixels a side
  patch: int = 8  # pixels a side of a patch: of an image cell, if none merge
  width: int = 128  # channels of a patch
  layers: int = 1  # transformer layers
  heads: int = 4  # attention heads
  ffn: int = 256  # hidden channels of the feed-forward layers
  # First layer: linear (SigLIP2) | conv (two convolutions, from scratch).
  stem: str = "conv"
  stem_bias: bool = True  # the linear stem has a bias
  # Frames that a patch spans, of which a still picture is each (Qwen-VL: 2).
  frames: int = 1
  # Subtracted from red, green and blue, which are from 0 to 1.
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)
  # What they are divided by then.
  deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
  # Learned: grid (a row a patch) | averaged (a grid that fits other pictures) |
  # resized (a square over every picture, Qwen3-VL) | none.
  position: str = "grid"
  position_side: int = 0  # rows, and columns, of a table that is resized
  # Base of the wavelengths of rotary positions, of rows and columns; 0 = none.
  rope_theta: float = 0.0
  norm: str = "layer"  # layer (of mean and variance) | rms
  norm_eps: float = 1e-6  # added to the variance in norms
  gated: bool = False  # feed-forward layers as a decoder has them (Qwen2.5-VL)
  # Patches along a side of those that merge into a cell (Qwen-VL: 2); 0 = each
  # is a cell, and has a connector.
  merge: int = 0
  # Layers, from 0 on, whose states are merged, too, and added behind the first
  # layers of the decoder (DeepStack).
  deepstack: tuple[int, ...] = ()
  # Cells along a side of the windows that patches attend in; 0 = everywhere.
  window: int = 0
  full_layers: tuple[int, ...] = ()  # layers without windows, from 0 on
  # A table of sines, a row a cell, is added behind the connector and never
  # trained (BAGEL).
  cell_table: bool = False
  # (height, width) in pixels of the pictures that may come beside squares.
  shapes: tuple[tuple[int, int], ...] = ()

  def __post_init__(self):
    if self.image_size % self.cell:
      merged = f" times the {self.merge} merged" if self.merge else ""
      raise errors.UserError(
        f"image size {self.image_size} is not divisible by the patch"
        f" {self.patch}{merged}; set config.model.vision.image_size to a"
        " multiple"
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
    self._check_choices()
    self._check_layers()
    if self.shapes:
      self._check_shapes()

  def _check_choices(self) -> None:
    """What may be is said, and what needs another setting has it."""
    for name, allowed in (("position", POSITIONS), ("norm", NORMS)):
      if getattr(self, name) not in allowed:
        raise errors.UserError(
          f"config.model.vision.{name} is {getattr(self, name)!r}; allowed:"
          f" {', '.join(allowed)}"
        )
    if (self.position == "resized") != (self.position_side > 0):
      raise errors.UserError(
        f"config.model.vision.position={self.position} has"
        f" position_side={self.position_side}; give it a side from 1 on where"
        " the table is resized, and 0 elsewhere"
      )
    if self.rope_theta and self.head_dim % 4:
      raise errors.UserError(
        f"config.model.vision.rope_theta needs heads of a multiple of 4"
        f" channels, not {self.head_dim}; set config.model.vision.heads"
      )
    for name in ("mean", "deviation"):
      if len(getattr(self, name)) != RGB:
        raise errors.UserError(
          f"config.model.vision.{name} is {getattr(self, name)}; give three,"
          " of red, green and blue"
        )
    if min(self.deviation) <= 0:
      raise errors.UserError(
        f"config.model.vision.deviation is {self.deviation}; allowed: above 0"
      )
    if self.cell_table and self.merge:
      raise errors.UserError(
        "config.model.vision.cell_table is added behind the connector, which"
        f" config.model.vision.merge={self.merge} has none of; turn one off"
      )
    plain = self.stem_bias and self.frames == 1
    if self.stem == "conv" and not plain:
      raise errors.UserError(
        "config.model.vision.stem=conv has a bias and one frame; set it to"
        " linear"
      )

  def _check_shapes(self) -> None:
    """Shapes are of whole cells, and the tower takes them."""
    for sides in self.shapes:
      if any(side < self.cell or side % self.cell for side in sides):
        raise errors.UserError(
          f"config.data.fit has pictures of {sides[0]}x{sides[1]} pixels, and a"
          f" cell has {self.cell} a side; make both sides multiples of it"
        )
    squares_alone = {
      "stem=conv": self.stem == "conv",
      "position=grid": self.position == "grid",
      "cell_table=True": self.cell_table,
    }
    for name, so in squares_alone.items():
      if so:
        raise errors.UserError(
          f"config.data.fit has shapes, and config.model.vision.{name} takes"
          " squares alone; leave the shapes out, or take a tower that takes"
          " them: stem=linear, position averaged, resized or none"
        )

  def _check_layers(self) -> None:
    for name in ("deepstack", "full_layers"):
      given = tuple(getattr(self, name))
      inside = all(0 <= layer < self.layers for layer in given)
      if not inside or given != tuple(sorted(set(given))):
        raise errors.UserError(
          f"config.model.vision.{name} is {given}; allowed: layers of 0 to"
          f" {self.layers - 1}, in order, each once"
        )
    if self.deepstack and not self.merge:
      raise errors.UserError(
        "config.model.vision.deepstack needs a merger; set"
        " config.model.vision.merge"
      )

  @property
  def head_dim(self) -> int:
    """Channels of a head."""
    return self.width // self.heads

  @property
  def cell(self) -> int:
    """Pixels along a side of an image cell."""
    return self.patch * max(self.merge, 1)

  @property
  def values(self) -> int:
    """Values of a patch, as the linear stem takes it."""
    return self.frames * self.patch**2 * RGB

  @property
  def table_side(self) -> int:
    """Rows, and columns, of the table of positions."""
    return self.position_side or self.image_size // self.patch

  @property
  def grid(self) -> int:
    """Image cells along one side."""
    return self.image_size // self.cell

  @property
  def grids(self) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of cells of each shape, the square's first."""
    return (
      (self.grid, self.grid),
      *(tuple(side // self.cell for side in sides) for sides in self.shapes),
    )

  @property
  def cells(self) -> int:
    """Image cells that one image has room for."""
    return max(rows * columns for rows, columns in self.grids)


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
  # A picture's cells attend to those before them only, else to all (Qwen-VL).
  causal_cells: bool = False
  smear: bool = True  # a text token sees its predecessor's embedding
  rope_theta: float = 10_000.0  # base of the rotary embedding's wavelengths
  # Wavelengths stretched as Llama 3 has them: (factor, low, high, positions
  # trained on), by the names of its config; () = not.
  rope_llama3: tuple[float, ...] = ()
  # Frequencies that turn with time, with row and with column (Qwen-VL); () =
  # with row and column by turns.
  rope_sections: tuple[int, ...] = ()
  rope_interleaved: bool = False  # the three by turns (Qwen3-VL)
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
    if self.rope_sections:
      self._check_sections()
    if len(self.vision.deepstack) > self.layers:
      raise errors.UserError(
        f"config.model.vision.deepstack names {len(self.vision.deepstack)}"
        f" layers, config.model.layers is {self.layers}; name no more"
      )
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

  def _check_sections(self) -> None:
    given, half = tuple(self.rope_sections), self.head_dim // 2
    if len(given) != 3 or min(given) < 0 or sum(given) != half:
      raise errors.UserError(
        f"config.model.rope_sections is {given}; allowed: () and three numbers"
        f" of frequencies that add up to {half}, half of a head"
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
    """J, location tokens: one for each cell of the largest image."""
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
  def map_advance(self) -> int:
    """Positions that the text after a map moves on by."""
    return max(-(-self.map_positions // self.map_grid), self.map_grid)
