"""Rows that a chip samples together: as many groups as its memory has room for.

A step of decoding reads all weights, however many rows it serves, so tokens a
second grow with the rows until keys and values are most of what is read. Plain
arithmetic, so that a config can ask.
"""

import math

BF16, F32 = 2, 4
GB = 1e9
# Of a chip's memory that is planned for: the rest is the compiler's.
FILLED = 0.7
# Rollouts that one optimiser step takes at most: 512 prompts of 16, as in DAPO
# (arXiv 2503.14476), the largest step of published runs.
ROLLOUTS = 8192


def position_bytes(model, width: int = BF16) -> int:
  """Bytes of a position's key and value, in all layers.

  model: has layers, kv_heads and head_dim. width: bytes of a number.
  """
  return 2 * model.layers * model.kv_heads * model.head_dim * width


def row(
  model,
  *,
  own: int,
  prompt: int,
  group: int,
  words: int,
  tensor: int,
  width: int = BF16,
) -> float:
  """Bytes of a chip for each row that is sampled.

  Its keys and values with its share of the prompt's, the image's features and
  the keys that locations point at (float32, whole on each chip), and its
  logits, as scaled, as restricted and as summed up.

  Args:
    model: has map_grid and d_model, and what `position_bytes` asks for.
    own: positions that a row draws.
    prompt: positions of a prompt, shared by the `group` rows of it.
    words: of the text's vocabulary.
    tensor: chips that a matrix is sharded over.
    width: bytes of a key's number.
  """
  cache = position_bytes(model, width) * (own + prompt / group) / tensor
  seen = 2 * model.map_grid**2 * model.d_model * F32
  return cache + seen + 3 * words * F32 / tensor


def groups(
  *, room: float, row: float, weights: float, group: int, shards: int
) -> int:
  """Groups of rollouts, 1 or more, that each of `shards` parts samples at once.

  As many as there is room for, but no more than make keys and values nine
  tenths of what a step reads: beyond it tokens a second grow by a ninth at the
  very most, and a larger step means fewer updates. Nor more than `ROLLOUTS`.

  Args:
    room: bytes of a chip beside parameters, optimiser and sampler's weights.
    row: bytes of a row's cache on a chip, with its share of the prompt's.
    weights: bytes of weights that a step reads on a chip.
    group: rows of one prompt.
    shards: parts of a mesh that a batch is sharded over.
  """
  rows = min(room / row, 9 * weights / row, ROLLOUTS / shards)
  return max(1, math.floor(rows / group))
