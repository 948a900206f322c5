"""Qwen2.5-VL and Qwen3-VL in small, with random weights, and what they give.

The reference is written down from their published rules in float64, loop by
loop, and shares no code with the package.
"""

import itertools
import math

import numpy as np

from tests.weights import released, released_pictures

WIDTH, HEADS, HEAD, FFN, ROWS, LAYERS = 48, 2, 24, 20, 40, 3
PATCH, MERGE, FRAMES = 3, 2, 2
WIDE, TOWER_HEADS, TOWER_FFN, DEPTH, SIDE = 24, 2, 20, 4, 5
SECTIONS = [6, 4, 2]
EPS, VISION = 1e-6, "vision_config"
# Rows and columns, in patches, of the pictures of each row of tokens.
GRIDS = ([(4, 6), (2, 4)], [(6, 4)])
TEXTS = ([3, 2, 4], [5, 6])  # tokens of text before, between and behind them
ROPE = {"rope_type": "default", "rope_theta": 700.0, "mrope_section": SECTIONS}

TEXT = {
  "hidden_size": WIDTH,
  "num_attention_heads": HEADS,
  "num_key_value_heads": 1,
  "intermediate_size": FFN,
  "num_hidden_layers": LAYERS,
  "vocab_size": ROWS,
  "rms_norm_eps": 1e-4,
  "hidden_act": "silu",
  "tie_word_embeddings": False,
}
TOWER = {
  "depth": DEPTH,
  "hidden_size": WIDE,
  "intermediate_size": TOWER_FFN,
  "num_heads": TOWER_HEADS,
  "out_hidden_size": WIDTH,
  "patch_size": PATCH,
  "spatial_merge_size": MERGE,
  "temporal_patch_size": FRAMES,
}
NEWER = {
  "model_type": "qwen3_vl",
  "tie_word_embeddings": False,
  "image_token_id": 3,
  "text_config": TEXT
  | {
    "model_type": "qwen3_vl_text",
    "head_dim": HEAD,
    "rope_parameters": ROPE | {"mrope_interleaved": True},
  },
  "vision_config": TOWER
  | {
    "model_type": "qwen3_vl",
    "hidden_act": "gelu_pytorch_tanh",
    "num_position_embeddings": SIDE**2,
    "deepstack_visual_indexes": [0, 2],
    "rope_parameters": {"rope_type": "axial", "rope_theta": 30.0},
  },
}
# As transformers 4 spelled it: text on top, "mrope" in rope_scaling.
OLDER = TEXT | {
  "model_type": "qwen2_5_vl",
  "image_token_id": 3,
  "rope_theta": 700.0,
  "rope_scaling": {"type": "mrope", "mrope_section": SECTIONS},
  "vision_config": TOWER
  | {
    "hidden_act": "silu",
    "in_chans": 3,
    "spatial_patch_size": PATCH,
    "window_size": 2 * MERGE * PATCH + 1,
    "fullatt_block_indexes": [1, 3],
    "tokens_per_second": 2,
  },
}
# Name -> (config, prefix of the decoder, of the tower, shards).
CASES = {
  "qwen3_vl": (NEWER, "model.language_model.", "model.visual.", 3),
  "qwen2_5_vl": (OLDER, "model.", "visual.", 1),
}


def is_newer(config):
  return config["model_type"] == "qwen3_vl"


def random_tensors(config, prefix, tower, seed=0):
  """Tensors by key, none of them like another, in float32."""
  rng, newer = np.random.default_rng(seed), is_newer(config)
  rows = config.get("text_config", config)["vocab_size"]
  patch = config[VISION]["patch_size"]
  found = {}

  def draw(key, *shape, around=0.0):
    scale = 0.3 if len(shape) == 1 else 0.8 / math.sqrt(np.prod(shape[1:]))
    found[key] = (around + rng.normal(0, scale, shape)).astype("f4")

  def linear(key, out, into, bias=True):
    draw(f"{key}.weight", out, into)
    if bias:
      draw(f"{key}.bias", out)

  def norm(key, size, bias=False):
    draw(f"{key}.weight", size, around=1.0)
    if bias:
      draw(f"{key}.bias", size)

  draw(f"{prefix}embed_tokens.weight", rows, WIDTH)
  draw("lm_head.weight", rows, WIDTH)
  norm(f"{prefix}norm", WIDTH)
  for layer in range(LAYERS):
    at = f"{prefix}layers.{layer}."
    for name, heads in (("q", HEADS), ("k", 1), ("v", 1)):
      linear(f"{at}self_attn.{name}_proj", heads * HEAD, WIDTH, not newer)
      if newer and name != "v":
        norm(f"{at}self_attn.{name}_norm", HEAD)
    linear(f"{at}self_attn.o_proj", WIDTH, HEADS * HEAD, False)
    linear(f"{at}mlp.gate_proj", FFN, WIDTH, False)
    linear(f"{at}mlp.up_proj", FFN, WIDTH, False)
    linear(f"{at}mlp.down_proj", WIDTH, FFN, False)
    norm(f"{at}input_layernorm", WIDTH)
    norm(f"{at}post_attention_layernorm", WIDTH)
  draw(f"{tower}patch_embed.proj.weight", WIDE, 3, FRAMES, patch, patch)
  if newer:
    draw(f"{tower}patch_embed.proj.bias", WIDE)
    draw(f"{tower}pos_embed.weight", SIDE**2, WIDE)
  for layer in range(DEPTH):
    at = f"{tower}blocks.{layer}."
    norm(f"{at}norm1", WIDE, newer)
    norm(f"{at}norm2", WIDE, newer)
    linear(f"{at}attn.qkv", 3 * WIDE, WIDE)
    linear(f"{at}attn.proj", WIDE, WIDE)
    for name, out, into in (
      (("linear_fc1", TOWER_FFN, WIDE), ("linear_fc2", WIDE, TOWER_FFN))
      if newer
      else (
        ("gate_proj", TOWER_FFN, WIDE),
        ("up_proj", TOWER_FFN, WIDE),
        ("down_proj", WIDE, TOWER_FFN),
      )
    ):
      linear(f"{at}mlp.{name}", out, into)
  big = MERGE**2 * WIDE
  if not newer:
    norm(f"{tower}merger.ln_q", WIDE)
    linear(f"{tower}merger.mlp.0", big, big)
    linear(f"{tower}merger.mlp.2", WIDTH, big)
    return found
  for key, size in (
    ("merger", WIDE),
    ("deepstack_merger_list.0", big),
    ("deepstack_merger_list.1", big),
  ):
    norm(f"{tower}{key}.norm", size, True)
    linear(f"{tower}{key}.linear_fc1", big, big)
    linear(f"{tower}{key}.linear_fc2", WIDTH, big)
  return found


class Weights:
  """Layers by key, in float64."""

  def __init__(self, tensors):
    self.of = {k: np.asarray(v, np.float64) for k, v in tensors.items()}

  def linear(self, x, key):
    weight = self.of[f"{key}.weight"]
    return x @ weight.reshape(len(weight), -1).T + self.of.get(f"{key}.bias", 0)

  def norm(self, x, key, eps):
    """Of mean and variance where there is a bias, else of the square."""
    bias = self.of.get(f"{key}.bias")
    if bias is not None:
      x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return x * self.of[f"{key}.weight"] + (0 if bias is None else bias)


def rotated(x, angle):
  """x [N, J, H] turned by angles [J, H / 2]: i goes with i + H / 2."""
  cos, sin = np.cos(angle), np.sin(angle)
  a, b = np.split(x, 2, axis=-1)
  return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention(q, k, v, seen):
  scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
  mass = np.exp(np.where(seen, scores, -np.inf))
  mixed = mass / mass.sum(-1, keepdims=True) @ v
  return mixed.transpose(1, 0, 2).reshape(len(seen), -1)


def heads(x, count):
  return x.reshape(len(x), count, -1).transpose(1, 0, 2)


def silu(x):
  return x / (1 + np.exp(-x))


def exact_gelu(x):
  return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def in_blocks(grid):
  """(row, column) of each patch: cell by cell, and in a cell row by row."""
  height, width = grid
  return [
    (MERGE * r + i, MERGE * c + j)
    for r in range(height // MERGE)
    for c in range(width // MERGE)
    for i in range(MERGE)
    for j in range(MERGE)
  ]


def stretched(table, grid):
  """A learned square, its corners on the picture's, at each patch."""
  square = table.reshape(SIDE, SIDE, -1)
  out = []
  for place in in_blocks(grid):
    at = [i * (SIDE - 1) / (n - 1) for i, n in zip(place, grid)]
    low = [int(a) for a in at]
    high = [min(i + 1, SIDE - 1) for i in low]
    (y, x), (a, b) = (a - i for a, i in zip(at, low)), zip(low, high)
    top = square[a[0], b[0]] * (1 - x) + square[a[0], b[1]] * x
    bottom = square[a[1], b[0]] * (1 - x) + square[a[1], b[1]] * x
    out.append(top * (1 - y) + bottom * y)
  return np.stack(out)


def tower_reference(config, tensors, tower, patches, grid):
  """(features, [what DeepStack adds]) of a picture, each [cells, WIDTH]."""
  weights, newer, own = Weights(tensors), is_newer(config), config[VISION]
  theta = own.get("rope_parameters", {}).get("rope_theta", 10_000.0)
  places = np.array(in_blocks(grid))
  quarter = WIDE // TOWER_HEADS // 4
  frequency = theta ** (-np.arange(quarter) / quarter)
  angle = np.concatenate(
    [places[:, :1] * frequency, places[:, 1:] * frequency], -1
  )
  x = weights.linear(patches, f"{tower}patch_embed.proj")
  everywhere = np.ones((len(x), len(x)), bool)
  window = everywhere
  if newer:
    x = x + stretched(weights.of[f"{tower}pos_embed.weight"], grid)
  else:
    side = own["window_size"] // MERGE // PATCH
    ids = [(r // MERGE // side, c // MERGE // side) for r, c in places]
    window = np.array([[a == b for b in ids] for a in ids])
  deep = []

  def merged(x, key, names, fold_first):
    x = x.reshape(-1, MERGE**2 * WIDE) if fold_first else x
    x = weights.norm(x, f"{tower}{key}.{names[0]}", EPS)
    x = x.reshape(-1, MERGE**2 * WIDE)
    x = exact_gelu(weights.linear(x, f"{tower}{key}.{names[1]}"))
    return weights.linear(x, f"{tower}{key}.{names[2]}")

  for layer in range(DEPTH):
    at = f"{tower}blocks.{layer}."
    h = weights.linear(weights.norm(x, f"{at}norm1", EPS), f"{at}attn.qkv")
    q, k, v = (heads(part, TOWER_HEADS) for part in np.split(h, 3, axis=-1))
    full = newer or layer in own["fullatt_block_indexes"]
    mixed = attention(
      rotated(q, angle), rotated(k, angle), v, everywhere if full else window
    )
    x = x + weights.linear(mixed, f"{at}attn.proj")
    h = weights.norm(x, f"{at}norm2", EPS)
    if newer:
      h = released_pictures.gelu(weights.linear(h, f"{at}mlp.linear_fc1"))
      x = x + weights.linear(h, f"{at}mlp.linear_fc2")
    else:
      gate = silu(weights.linear(h, f"{at}mlp.gate_proj"))
      up = weights.linear(h, f"{at}mlp.up_proj")
      x = x + weights.linear(gate * up, f"{at}mlp.down_proj")
    names = ("norm", "linear_fc1", "linear_fc2")
    if newer and layer in own["deepstack_visual_indexes"]:
      key = f"deepstack_merger_list.{len(deep)}"
      deep.append(merged(x, key, names, True))
  names = names if newer else ("ln_q", "mlp.0", "mlp.2")
  return merged(x, "merger", names, False), deep


def axis_of(config):
  """0 time, 1 row, 2 column: what each frequency of a head turns with."""
  if not is_newer(config):
    return [axis for axis, count in enumerate(SECTIONS) for _ in range(count)]
  found = [0] * (HEAD // 2)
  for axis in (1, 2):
    for i in range(axis, 3 * SECTIONS[axis], 3):
      found[i] = axis
  return found


def decoder_reference(config, tensors, prefix, x, position, deep):
  """Logits [L, ROWS] of x [L, WIDTH]; position [3, L]; deep: added behind."""
  weights, length = Weights(tensors), len(x)
  frequency = 700.0 ** (-np.arange(HEAD // 2) / (HEAD // 2))
  angle = position.T[:, axis_of(config)] * frequency
  causal = np.tril(np.ones((length, length), bool))
  eps = TEXT["rms_norm_eps"]
  for layer in range(LAYERS):
    at = f"{prefix}layers.{layer}."
    h = weights.norm(x, f"{at}input_layernorm", eps)
    parts = []
    for name in "qkv":
      part = heads(
        weights.linear(h, f"{at}self_attn.{name}_proj"),
        HEADS if name == "q" else 1,
      )
      if f"{at}self_attn.{name}_norm.weight" in weights.of:
        part = weights.norm(part, f"{at}self_attn.{name}_norm", eps)
      part = part if name == "v" else rotated(part, angle)
      parts.append(np.repeat(part, HEADS // len(part), axis=0))
    x = x + weights.linear(attention(*parts, causal), f"{at}self_attn.o_proj")
    h = weights.norm(x, f"{at}post_attention_layernorm", eps)
    gate = silu(weights.linear(h, f"{at}mlp.gate_proj"))
    up = weights.linear(h, f"{at}mlp.up_proj")
    x = x + weights.linear(gate * up, f"{at}mlp.down_proj")
    x = x + (deep[layer] if layer < len(deep) else 0)
  return weights.linear(weights.norm(x, f"{prefix}norm", eps), "lm_head")


def kinds_and_places(grids, texts):
  """(kind [L], position [3, L]) of a row of text and pictures by turns."""
  kind, position, start = [], [], 0
  for count, grid in itertools.zip_longest(texts, grids):
    kind += [0] * count
    position += [(start + i,) * 3 for i in range(count)]
    start += count
    if grid is not None:
      rows, columns = (n // MERGE for n in grid)
      kind += [1] * (rows * columns)
      position += [
        (start, start + r, start + c)
        for r in range(rows)
        for c in range(columns)
      ]
      start += max(rows, columns)
  return np.array(kind, np.int32), np.array(position, np.int32).T


def write(folder, name, **changes):
  """Writes the folder of a case with its io.npz; gives its tensors."""
  config, prefix, tower, shards = CASES[name]
  config = config | changes
  tensors = random_tensors(config, prefix, tower)
  folder.mkdir(parents=True, exist_ok=True)
  released.write_json(folder / "config.json", config)
  released.write_tensors(folder, tensors, shards)
  rng = np.random.default_rng(5)
  table = tensors[f"{prefix}embed_tokens.weight"].astype(np.float64)
  every = {"ids": [], "kind": [], "position_thw": [], "logits": []}
  flat = {"patches": [], "grid_thw": [], "features": []}
  for grids, texts in zip(GRIDS, TEXTS, strict=True):
    kind, position = kinds_and_places(grids, texts)
    ids = rng.integers(0, ROWS, len(kind), dtype=np.int32)
    x, seen, behind = table[ids], [], []
    for grid in grids:
      shape = (math.prod(grid), 3 * FRAMES * PATCH**2)
      patches = rng.normal(size=shape).astype("f4")
      features, deep = tower_reference(config, tensors, tower, patches, grid)
      seen.append(features)
      behind.append(deep)
      flat["patches"].append(patches)
      flat["grid_thw"].append(np.array([[1, *grid]], np.int32))
    x[kind == 1] = np.concatenate(seen)
    flat["features"] += seen
    deep = []
    for i, each in enumerate(zip(*behind, strict=True)):
      flat.setdefault(f"deepstack_{i}", []).extend(each)
      deep.append(np.zeros_like(x))
      deep[i][kind == 1] = np.concatenate(each)
    logits = decoder_reference(config, tensors, prefix, x, position, deep)
    for key, value in zip(every, (ids, kind, position, logits), strict=True):
      every[key].append(value)
  text = np.arange(len(ids)) * np.ones((3, 1))
  found = {
    "text_ids": ids[None],
    "text_logits": decoder_reference(
      config, tensors, prefix, table[ids], text, []
    )[None],
  }
  found |= {key: np.concatenate(each) for key, each in flat.items()}
  found |= {key: np.stack(each) for key, each in every.items()}
  found["position_thw"] = found["position_thw"].swapaxes(0, 1)
  found = {
    key: array if array.dtype == np.int32 else array.astype("f4")
    for key, array in found.items()
  }
  np.savez(folder / "io.npz", **found)
  return tensors
