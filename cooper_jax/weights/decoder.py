"""Decoders of the Llama kind: their sizes, and where each tensor of them goes.

RMSNorm, grouped-query attention, rotary positions, a gated MLP: that is what
their families have in common. One table, `names`, is all that import, export
and the check of coverage have.
"""

import dataclasses
import math

import numpy as np

from cooper_jax.weights.fields import REQUIRED, ConfigFields

# How a tensor of a folder becomes part of a leaf of ours.
AS_IT_IS = "as it is"
TRANSPOSED = "transposed"  # [out, in] there, [in, out] here
FIRST_ROWS = (
  "rows"  # the first rows of a table that has rows of ours behind them
)
# [out, colour, row, column] of a convolution, or [out, in] of the same as a
# product; of one over frames [out, colour, frame, row, column]. Here [row
# column colour, out], frames in front of rows.
PATCHES = "patches"
KERNEL = "kernel"  # [out, in, sizes] there, [sizes, in, out] here
CORNER = (
  "corner"  # a table of a square of cells; here one of its corner will do
)
BLOCKS = "params/decoder/blocks/"
MOST_LAYERS = 10_000  # more is a damaged config, and would fill the memory


@dataclasses.dataclass(frozen=True)
class TensorName:
  """Where a leaf is in a folder.

  pattern: of the key; {prefix} stands for how the folder calls the decoder,
  {tower} for its tower, and {layer} for a layer, whose tensors are stacked in
  the leaf. part: (which, of how many) equal parts of the tensor's rows the leaf
  has; others have the rest.
  """

  pattern: str
  transform: str
  shape: tuple[int, ...]  # of a tensor in the folder
  layers: int = 0  # tensors that are stacked; 0 = one that is not
  part: tuple[int, int] = (0, 1)

  @property
  def is_stacked(self) -> bool:
    """Whether there is one tensor a layer."""
    return self.layers > 0

  @property
  def shapes(self) -> tuple[tuple[int, ...], ...]:
    """All that a tensor may have in the folder."""
    if self.transform != PATCHES or len(self.shape) == 5:
      return (self.shape,)
    return self.shape, (self.shape[0], math.prod(self.shape[1:]))

  @property
  def leaf(self) -> tuple[int, ...]:
    """Shape of the leaf, without rows of our own, layers in front."""
    rows, *rest = self.shape
    shape = (rows // self.part[1], *rest)
    if self.transform == KERNEL:
      return (*shape[2:], shape[1], shape[0])
    if self.transform == PATCHES:
      shape = (shape[0], math.prod(rest))
    if self.transform in (TRANSPOSED, PATCHES):
      shape = shape[::-1]
    return (self.layers, *shape) if self.is_stacked else shape


def corner(side: int, own: int) -> np.ndarray:
  """Rows [own * own] of a table of side * side cells: own rows and columns."""
  at = np.arange(own)
  return (at[:, None] * side + at).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Skipped:
  """Tensors that are not imported: keys by pattern (of fnmatch), and why.

  carried: whether `convert` writes them as they are.
  """

  pattern: str
  why: str
  carried: bool


# Old folders hold what is computed from the config.
FREQUENCIES = Skipped(
  "*rotary_emb.inv_freq", "frequencies, computed from the config", False
)


def config(
  fields: ConfigFields, *, kv_heads=REQUIRED, eps=1e-6, head_dim=None
) -> dict:
  """The sizes of `ModelConfig` that all such decoders spell alike.

  kv_heads, eps, head_dim: the class's own where a config has none. kv_heads
  None = as many as heads; head_dim None = what is each head's of the width.
  """
  for name, allowed, why in (
    ("hidden_act", "silu", "other activations are not supported"),
    ("attention_bias", False, "bias of attention's output is not supported"),
    ("mlp_bias", False, "bias in the MLP is not supported"),
    ("rope_interleaved", False, "interleaved rotary is not supported"),
    ("partial_rotary_factor", 1.0, "partial rotary is not supported"),
    ("is_encoder_decoder", False, "encoders are not supported"),
    ("add_cross_attention", False, "encoders are not supported"),
    ("is_causal", True, "attention to what follows is not supported"),
  ):
    fields.only(name, allowed, why)
  width, heads = (
    fields.count("hidden_size"),
    fields.count("num_attention_heads"),
  )
  kv_heads = heads if kv_heads is None else kv_heads
  layers = fields.count("num_hidden_layers")
  if layers > MOST_LAYERS:
    fields.refuse("num_hidden_layers", layers, f"allowed: 1 to {MOST_LAYERS}")
  found = {
    "text": fields.count("vocab_size"),
    "d_model": width,
    "layers": layers,
    "heads": heads,
    "kv_heads": fields.count("num_key_value_heads", kv_heads),
    "ffn": fields.count("intermediate_size"),
    "norm_eps": fields.real("rms_norm_eps", eps),
  }
  own = fields.get("head_dim", head_dim)
  if own is None and width % heads:
    fields.refuse(
      "hidden_size", width, f"{heads} heads don't divide it; give head_dim"
    )
  found["head_dim"] = fields.count("head_dim", head_dim or width // heads)
  return found


NO_WINDOWS = "sliding windows are not supported"


def no_window(fields: ConfigFields, layers: int, *, absent=None) -> None:
  """Refuses the one window of Mistral's kind, which all layers have.

  absent: the class's own `sliding_window`, where a config has none. No other
  field turns it off: the class asks none.
  """
  fields.known |= {"use_sliding_window", "max_window_layers"}
  _full_layers(fields, layers)
  _null_window(fields, absent)


def no_windows(fields: ConfigFields, layers: int) -> None:
  """Refuses windows of Qwen's kind, which layers have one by one.

  Where no `layer_types` says which, those from `max_window_layers` on, if
  `use_sliding_window` is true.
  """
  used = fields.flag("use_sliding_window", False)
  first = fields.get("max_window_layers", 0)
  past = type(first) is int and first >= layers
  if _full_layers(fields, layers) or past or not used:
    fields.known.add("sliding_window")
  else:
    _null_window(fields, 4096)


def _full_layers(fields: ConfigFields, layers: int) -> bool:
  """Whether `layer_types` is there; refused unless all see everything."""
  kinds, full = fields.get("layer_types", None), ["full_attention"] * layers
  if kinds not in (None, full):
    why = f"{NO_WINDOWS}; allowed: {layers} times full_attention"
    fields.refuse("layer_types", kinds, why)
  return kinds is not None


def _null_window(fields: ConfigFields, absent) -> None:
  fields.known.add("sliding_window")
  window = fields.config.get("sliding_window", absent)
  if window is not None:
    said = "" if "sliding_window" in fields.config else ", where none is said"
    fields.refuse(
      "sliding_window", window, f"{NO_WINDOWS}{said}; allowed: null"
    )


def names(sizes: dict) -> dict[str, TensorName]:
  """Path in our tree -> where it is in a folder.

  sizes: fields of `ModelConfig`, as a family's `config` gives them.
  """
  width, ffn, head = sizes["d_model"], sizes["ffn"], sizes["head_dim"]
  wide = {"q": sizes["heads"] * head, "k": sizes["kv_heads"] * head}
  wide["v"] = wide["k"]
  table = (sizes["text"], width)
  found = {
    "params/embedding": TensorName(
      "{prefix}embed_tokens.weight", FIRST_ROWS, table
    ),
    "params/decoder/norm_final/main/scale": TensorName(
      "{prefix}norm.weight", AS_IT_IS, (width,)
    ),
  }
  if not sizes["tied_head"]:
    found["params/head"] = TensorName("{head}", FIRST_ROWS, table)

  def add(own: str, key: str, transform: str, *shape: int):
    pattern = f"{{prefix}}layers.{{layer}}.{key}"
    found[BLOCKS + own] = TensorName(pattern, transform, shape, sizes["layers"])

  def kernel(name: str, key: str, out: int, into: int):
    add(f"{name}/main/kernel", f"{key}.weight", TRANSPOSED, out, into)

  for name, size in wide.items():
    kernel(name, f"self_attn.{name}_proj", size, width)
    if sizes.get("qkv_bias"):
      key = f"self_attn.{name}_proj.bias"
      add(f"{name}/main/bias", key, AS_IT_IS, size)
  kernel("out", "self_attn.o_proj", width, wide["q"])
  kernel("gate", "mlp.gate_proj", ffn, width)
  kernel("up", "mlp.up_proj", ffn, width)
  kernel("down", "mlp.down_proj", width, ffn)
  norms = {"attention": "input_layernorm", "mlp": "post_attention_layernorm"}
  for name, key in norms.items():
    add(f"norm_{name}/main/scale", f"{key}.weight", AS_IT_IS, width)
  if sizes.get("qk_norm"):
    for name in ("q", "k"):
      key = f"self_attn.{name}_norm.weight"
      add(f"norm_{name}/main/scale", key, AS_IT_IS, head)
  return found
