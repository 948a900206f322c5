"""Folders of image towers and of BAGEL in small, and what they give.

The reference is written down from the published rules in float64, as that of
text in `released`, and shares no code with the package.
"""

import math

import numpy as np
import safetensors.numpy

from tests.weights import released

PATCH, SIDE, WIDTH, HEADS, FFN, LAYERS = 4, 4, 12, 3, 20, 2
EPS = 1e-5
GRIDS = ((2, 5), (4, 4), (3, 2))  # of pictures of any shape, in patches
TOWER = {
  "hidden_size": WIDTH,
  "intermediate_size": FFN,
  "num_hidden_layers": LAYERS,
  "num_attention_heads": HEADS,
  "patch_size": PATCH,
  "layer_norm_eps": EPS,
  "hidden_act": "gelu_pytorch_tanh",
}


def fixed(pixels=PATCH * SIDE):
  """A config of a tower for pictures of one size."""
  return {"model_type": "siglip_vision_model", "image_size": pixels, **TOWER}


def any_shape():
  """A config of a tower for pictures of any shape."""
  more = {"num_patches": SIDE**2, "vision_use_head": True}
  return {"model_type": "siglip2_vision_model", **TOWER, **more}


# Name -> (config, prefix of the keys, whether patches are a convolution).
CASES = {
  # Two more pixels than patches have: they are never seen.
  "fixed": (fixed(PATCH * SIDE + 2), "", True),
  "product": (fixed(), "", False),
  "whole": (
    {
      "model_type": "siglip2",
      "text_config": {"hidden_size": 5},
      "vision_config": fixed(),
    },
    "vision_model.",
    True,
  ),
  "any_shape": (any_shape(), "", False),
}


def tower_tensors(prefix, conv, seed=0, side=SIDE):
  """Tensors of a tower by key, none of them like another, in float32."""
  rng = np.random.default_rng(seed)

  def draw(*shape):
    scale = 0.3 if len(shape) == 1 else 1 / math.sqrt(np.prod(shape[1:]))
    return rng.normal(0, scale, shape).astype(np.float32)

  stem = draw(WIDTH, 3, PATCH, PATCH)
  if not conv:
    stem = np.ascontiguousarray(stem.transpose(0, 2, 3, 1)).reshape(WIDTH, -1)
  found = {
    "embeddings.patch_embedding.weight": stem,
    "embeddings.patch_embedding.bias": draw(WIDTH),
    "embeddings.position_embedding.weight": 3 * draw(side**2, WIDTH),
    "post_layernorm.weight": 1 + draw(WIDTH),
    "post_layernorm.bias": draw(WIDTH),
  }
  for layer in range(LAYERS):
    at = f"encoder.layers.{layer}."
    for i in (1, 2):
      found[f"{at}layer_norm{i}.weight"] = 1 + draw(WIDTH)
      found[f"{at}layer_norm{i}.bias"] = draw(WIDTH)
    for name, out, into in (
      *((f"self_attn.{n}_proj", WIDTH, WIDTH) for n in ("q", "k", "v", "out")),
      ("mlp.fc1", FFN, WIDTH),
      ("mlp.fc2", WIDTH, FFN),
    ):
      found[f"{at}{name}.weight"] = draw(out, into)
      found[f"{at}{name}.bias"] = draw(out)
  return {f"{prefix}{key}": array for key, array in found.items()}


def extra_tensors(prefix):
  """Tensors of a whole model that are not imported, by key."""
  found = {f"{prefix}head.probe": np.ones((1, 1, WIDTH), np.float32)}
  if prefix:
    found |= {
      "text_model.head.bias": np.ones(3, np.float32),
      "logit_scale": np.ones((), np.float32),
      "logit_bias": np.ones((), np.float32),
    }
  return found


def gelu(x):
  return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def patches_of(picture):
  """Values of each patch [J, p * q * c] of a picture [H, W, 3], row by row."""
  rows, columns = (n // PATCH for n in picture.shape[:2])
  return np.stack(
    [
      picture[r * PATCH : (r + 1) * PATCH, c * PATCH : (c + 1) * PATCH].reshape(
        -1
      )
      for r in range(rows)
      for c in range(columns)
    ]
  )


def tower_reference(tensors, prefix, patches, position, given=None):
  """The last norm's [J, width] of a picture; given gets each layer's input."""
  weights = {k: np.asarray(v, np.float64) for k, v in tensors.items()}

  def linear(x, key):
    return (
      x @ weights[f"{prefix}{key}.weight"].T + weights[f"{prefix}{key}.bias"]
    )

  def norm(x, key):
    centred = x - x.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
    return x * weights[f"{prefix}{key}.weight"] + weights[f"{prefix}{key}.bias"]

  def heads(x):
    return x.reshape(len(x), HEADS, -1).transpose(1, 0, 2)

  stem = weights[f"{prefix}embeddings.patch_embedding.weight"]
  if stem.ndim == 4:
    stem = stem.transpose(0, 2, 3, 1).reshape(len(stem), -1)
  x = patches @ stem.T + weights[f"{prefix}embeddings.patch_embedding.bias"]
  x = x + position
  for layer in range(LAYERS):
    if given is not None:
      given.append(x)
    at = f"encoder.layers.{layer}."
    h = norm(x, f"{at}layer_norm1")
    q, k, v = (heads(linear(h, f"{at}self_attn.{n}_proj")) for n in "qkv")
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
    mass = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = mass / mass.sum(-1, keepdims=True) @ v
    mixed = mixed.transpose(1, 0, 2).reshape(len(x), -1)
    x = x + linear(mixed, f"{at}self_attn.out_proj")
    h = norm(x, f"{at}layer_norm2")
    x = x + linear(gelu(linear(h, f"{at}mlp.fc1")), f"{at}mlp.fc2")
  return norm(x, "post_layernorm")


def shrunk(table, size):
  """A table [n, D] at `size` places: bilinear, averaged where it shrinks."""
  n = len(table)
  scale = max(n / size, 1.0)
  out = []
  for i in range(size):
    middle = (i + 0.5) * n / size - 0.5
    mass = np.maximum(0, 1 - np.abs(np.arange(n) - middle) / scale)
    out.append(np.tensordot(mass / mass.sum(), table, axes=1))
  return np.stack(out)


def resized(table, rows, columns):
  """Positions [rows * columns, width] of a picture, of a square's table."""
  square = np.asarray(table, np.float64).reshape(SIDE, SIDE, -1)
  made = shrunk(shrunk(square, rows).transpose(1, 0, 2), columns)
  return made.transpose(1, 0, 2).reshape(rows * columns, -1)


def write(folder, name):
  """Writes the folder of a case with its io.npz; gives its tensors."""
  config, prefix, conv = CASES[name]
  tensors = tower_tensors(prefix, conv)
  folder.mkdir(parents=True)
  released.write_json(folder / "config.json", config)
  every = tensors | extra_tensors(prefix)
  released.write_tensors(folder, every)
  released_io = any_io if name == "any_shape" else fixed_io
  np.savez(folder / "io.npz", **released_io(config, tensors, prefix))
  return every


def fixed_io(config, tensors, prefix):
  """What a tower for one size gives of two pictures, and of one in u8."""
  rng = np.random.default_rng(7)
  pixels = config.get("vision_config", config)["image_size"]
  pictures = rng.normal(size=(2, pixels, pixels, 3))
  image = rng.integers(0, 256, (1, pixels, pixels, 3), dtype=np.uint8)
  table = tensors[f"{prefix}embeddings.position_embedding.weight"]

  def states(pictures, given=None):
    each = [
      tower_reference(tensors, prefix, patches_of(one), table, given)
      for one in pictures
    ]
    return np.stack(each).astype("f4")

  pictures, given = pictures.astype("f4"), []
  last = states(pictures, given)
  hidden = np.reshape(given, (len(pictures), LAYERS, *last.shape[1:]))
  return {
    "pixels": pictures.transpose(0, 3, 1, 2),
    "last_hidden_state": last,
    "hidden": hidden.swapaxes(0, 1).astype("f4"),
    "image_u8": image,
    "last_hidden_state_u8": states(image / 127.5 - 1),
  }


def any_io(config, tensors, prefix):
  """What a tower for any shape gives of three pictures, padded."""
  del config
  rng = np.random.default_rng(7)
  most, table = max(r * c for r, c in GRIDS), "embeddings.position_embedding"
  patches = rng.normal(size=(3, most, 3 * PATCH**2)).astype("f4")
  mask = np.zeros((3, most), np.int32)
  states = rng.normal(size=(3, most, WIDTH)).astype("f4")
  hidden = rng.normal(size=(LAYERS, 3, most, WIDTH)).astype("f4")
  for i, (rows, columns) in enumerate(GRIDS):
    count = rows * columns
    mask[i, :count] = 1
    position = resized(tensors[f"{prefix}{table}.weight"], rows, columns)
    given = []
    states[i, :count] = tower_reference(
      tensors, prefix, patches[i, :count], position, given
    )
    hidden[:, i, :count] = given
  return {
    "patches": patches,
    "mask": mask,
    "spatial_shapes": np.array(GRIDS, np.int32),
    "last_hidden_state": states,
    "hidden": hidden,
  }


# BAGEL: the sizes of `released`, with biases and norms, and this tower.
BAGEL_SIDE = 5
LLM = {
  **released.SIZES,
  "model_type": "qwen2",
  "tie_word_embeddings": False,
  "rope_theta": 500.0,
}
LLM_PREFIX, VIT_PREFIX = "language_model.model.", "vit_model.vision_model."
# Kind of each token: 0 text, 1 picture (of 2 x 3 patches), 2 drawn.
KIND = np.repeat([0, 1, 0, 2, 0], [3, 6, 2, 4, 3])
GROUP = np.concatenate([[0, 1, 2], [3] * 6, [4, 5], [6] * 4, [7, 8, 9]])
POSITION = np.concatenate([[0, 1, 2], [3] * 6, [4, 5], [6] * 4, [7, 8, 9]])
PLACE = (np.arange(2)[:, None] * BAGEL_SIDE + np.arange(3)).reshape(-1)


def bagel_tensors(seed=3):
  """Tensors of a whole folder by key, none like another."""
  rng = np.random.default_rng(seed)
  config = released.text("qwen2") | LLM
  found = {}
  for i, name in enumerate(("main", "drawing")):
    tensors = released.random_tensors(config, LLM_PREFIX, seed + i)
    for key in [k for k in tensors if "k_proj.weight" in k]:
      for which in ("q", "k"):
        norm = key.replace("k_proj", f"{which}_norm")
        tensors[norm] = (1 + 0.3 * rng.normal(size=released.HEAD)).astype("f4")
    head = tensors.pop("lm_head.weight")
    if name == "main":
      found |= tensors | {"language_model.lm_head.weight": head}
      continue
    del tensors[f"{LLM_PREFIX}embed_tokens.weight"]
    found |= {drawing_key(key): array for key, array in tensors.items()}
  found |= tower_tensors(VIT_PREFIX, conv=False, side=BAGEL_SIDE)
  d = released.WIDTH
  for key, shape in (
    ("connector.fc1.weight", (d, WIDTH)),
    ("connector.fc1.bias", (d,)),
    ("connector.fc2.weight", (d, d)),
    ("connector.fc2.bias", (d,)),
    ("vit_pos_embed.pos_embed", (BAGEL_SIDE**2, d)),
    ("latent_pos_embed.pos_embed", (4, d)),
    ("time_embedder.mlp.0.weight", (d, 6)),
    ("vae2llm.bias", (d,)),
    ("llm2vae.weight", (8, d)),
  ):
    found[key] = rng.normal(0, 0.4, shape).astype("f4")
  return found


def drawing_key(key):
  """The key of the same tensor in the weights of what is drawn."""
  for part in ("_proj", "_norm", "layernorm"):
    if "mlp." not in key and f"{part}." in key:
      return key.replace(f"{part}.", f"{part}_moe_gen.")
  if "mlp." in key:
    return key.replace("mlp.", "mlp_moe_gen.")
  return key.replace("model.norm.", "model.norm_moe_gen.")


def bagel_reference(tensors, x, kind, position, group):
  """(hidden, logits) in float64 of embedded tokens x [L, D]."""
  weights = {k: np.asarray(v, np.float64) for k, v in tensors.items()}
  drawn = kind == 2
  frequency = 1 / LLM["rope_theta"] ** (
    np.arange(0, released.HEAD, 2) / released.HEAD
  )
  angle = position[:, None, None] * frequency
  cos, sin = np.cos(angle), np.sin(angle)

  def both(apply, key):
    """Each token by its own weights."""
    mask = drawn.reshape(-1, *[1] * (apply(key).ndim - 1))
    return np.where(mask, apply(drawing_key(key)), apply(key))

  def norm(x, key):
    mean = np.mean(x**2, -1, keepdims=True) + LLM["rms_norm_eps"]
    return both(lambda k: x / np.sqrt(mean) * weights[k], key)

  def linear(x, key):
    def apply(k):
      bias = weights.get(k.replace(".weight", ".bias"), 0)
      return x @ weights[k].T + bias

    return both(apply, f"{key}.weight")

  seen = group[:, None] >= group[None]
  for layer in range(released.LAYERS):
    at = f"{LLM_PREFIX}layers.{layer}."
    h = norm(x, f"{at}input_layernorm.weight")
    parts = []
    for name in "qkv":
      part = linear(h, f"{at}self_attn.{name}_proj")
      part = part.reshape(len(x), -1, released.HEAD)
      if name != "v":
        part = norm(part, f"{at}self_attn.{name}_norm.weight")
        a, b = np.split(part, 2, axis=-1)
        part = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
      parts.append(np.repeat(part, released.HEADS // part.shape[1], axis=1))
    scores = np.einsum("lnh,snh->nls", *parts[:2]) / math.sqrt(released.HEAD)
    scores = np.where(seen, scores, -np.inf)
    mass = np.exp(scores - scores.max(-1, keepdims=True))
    mass /= mass.sum(-1, keepdims=True)
    mixed = np.einsum("nls,snh->lnh", mass, parts[2]).reshape(len(x), -1)
    x = x + linear(mixed, f"{at}self_attn.o_proj")
    h = norm(x, f"{at}post_attention_layernorm.weight")
    gate = linear(h, f"{at}mlp.gate_proj")
    wide = gate / (1 + np.exp(-gate)) * linear(h, f"{at}mlp.up_proj")
    x = x + linear(wide, f"{at}mlp.down_proj")
  hidden = norm(x, f"{LLM_PREFIX}norm.weight")
  return hidden, hidden @ weights["language_model.lm_head.weight"].T


def write_bagel(folder, *, file="ema.safetensors", layers=LAYERS, **vit):
  """Writes BAGEL's folder with its io.npz; gives its tensors.

  layers: of the tower, as its config says; vit: other fields of that config.
  """
  tensors = bagel_tensors()
  folder.mkdir(parents=True)
  released.write_json(folder / "llm_config.json", LLM)
  tower = fixed(PATCH * BAGEL_SIDE) | {"num_hidden_layers": layers} | vit
  released.write_json(folder / "vit_config.json", tower)
  safetensors.numpy.save_file(tensors, folder / file, {"format": "pt"})
  rng = np.random.default_rng(4)
  ids = rng.integers(0, released.ROWS, len(KIND), dtype=np.int32)
  patches = rng.normal(size=(len(PLACE), 3 * PATCH**2)).astype("f4")
  given = rng.normal(size=(4, released.WIDTH)).astype("f4")
  weights = {k: np.asarray(v, np.float64) for k, v in tensors.items()}
  table = weights[f"{VIT_PREFIX}embeddings.position_embedding.weight"]
  h = tower_reference(tensors, VIT_PREFIX, patches, table[PLACE])
  h = h @ weights["connector.fc1.weight"].T + weights["connector.fc1.bias"]
  h = gelu(h) @ weights["connector.fc2.weight"].T
  h = h + weights["connector.fc2.bias"]
  features = h + weights["vit_pos_embed.pos_embed"][PLACE]
  x = weights[f"{LLM_PREFIX}embed_tokens.weight"][ids]
  text_x = x.copy()
  x[KIND == 1], x[KIND == 2] = features, given
  hidden, logits = bagel_reference(tensors, x, KIND, POSITION, GROUP)
  at = np.arange(len(ids))
  _, text_logits = bagel_reference(tensors, text_x, 0 * at, at, at)
  found = {"image_features": features, "hidden": hidden, "logits": logits}
  found |= {"text_logits": text_logits, "gen_inputs": given}
  found = {name: array.astype("f4") for name, array in found.items()}
  np.savez(
    folder / "io.npz",
    ids=ids,
    kind=KIND.astype(np.int32),
    position=POSITION.astype(np.int32),
    group=GROUP.astype(np.int32),
    patches=patches,
    patch_position=PLACE.astype(np.int32),
    text_ids=ids,
    **found,
  )
  return tensors
