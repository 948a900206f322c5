"""Folders of released models in small, with random weights, and what they give.

The reference is written down from the families' published rules in float64, and
shares no code with the package; the files are written by the library.
"""

import json
import math

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

WIDTH, HEADS, KV_HEADS, HEAD, FFN, ROWS, LAYERS = 24, 3, 1, 8, 20, 40, 2
ROPE = {"rope_type": "default", "rope_theta": 500.0}
LLAMA3 = {
  "rope_type": "llama3",
  "rope_theta": 500.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 24,
}
SIZES = {
  "hidden_size": WIDTH,
  "num_attention_heads": HEADS,
  "num_key_value_heads": KV_HEADS,
  "head_dim": HEAD,
  "intermediate_size": FFN,
  "num_hidden_layers": LAYERS,
  "vocab_size": ROWS,
  "rms_norm_eps": 1e-4,
  "hidden_act": "silu",
}
QWEN2 = {"use_sliding_window": False, "sliding_window": 4096}
FULL = {"layer_types": ["full_attention"] * LAYERS}
MULTI = {"rope_type": "default", "mrope_section": [1, 2, 1]}
# Of a tower that the folder has no tensor of: text alone is imported.
TOWER = {"depth": 1, "out_hidden_size": WIDTH, "deepstack_visual_indexes": [0]}
OLDER_TOWER = {"depth": 1, "out_hidden_size": WIDTH, "in_chans": 3}


def text(model_type, tied=False, **more):
  """A config as transformers writes it."""
  more = {"rope_parameters": ROPE} | more
  return {
    "model_type": model_type,
    "tie_word_embeddings": tied,
    **SIZES,
    **more,
  }


def seeing(model_type, tied, **more):
  """A config of a model that sees, its text half in a part of its own."""
  own = text(f"{model_type}_text", tied, **more)
  return {
    "model_type": model_type,
    "tie_word_embeddings": tied,
    "text_config": own,
    "vision_config": TOWER,
    "image_token_id": 40,
  }


# Name -> (config, prefix of the keys, shards, dtype).
CASES = {
  "llama": (text("llama", True), "model.", 1, "float32"),
  "llama3": (text("llama", rope_parameters=LLAMA3), "model.", 2, "float32"),
  "mistral": (text("mistral", sliding_window=None), "model.", 1, "float32"),
  "qwen2": (text("qwen2", **QWEN2), "model.", 3, "float32"),
  # As transformers 4 spells it, and without a prefix.
  "qwen2_older": (
    text("qwen2", True, rope_parameters=None, rope_theta=500.0, **QWEN2),
    "",
    1,
    "float32",
  ),
  "qwen3": (text("qwen3", True, **FULL), "model.", 1, "float32"),
  "qwen3_bf16": (text("qwen3", **FULL), "model.", 3, "bfloat16"),
  "qwen2_5_vl": (
    text(
      "qwen2_5_vl",
      rope_parameters=None,
      rope_theta=500.0,
      rope_scaling={"type": "mrope", "mrope_section": [1, 2, 1]},
      vision_config=OLDER_TOWER,
    ),
    "model.",
    1,
    "float32",
  ),
  "qwen3_vl": (
    seeing("qwen3_vl", True, rope_parameters=ROPE | MULTI, **FULL),
    "model.language_model.",
    2,
    "float32",
  ),
}


def own_config(config):
  """The fields of the text half."""
  return config.get("text_config", config)


def family(config):
  """(biases, norms of queries and keys)."""
  with_norms = config["model_type"].startswith("qwen3")
  return config["model_type"].startswith("qwen2"), with_norms


def random_tensors(config, prefix="model.", seed=0):
  """Tensors by key, none of them like another, in float32."""
  rng = np.random.default_rng(seed)
  biases, norms = family(config)

  def draw(*shape):
    scale = 0.3 if len(shape) == 1 else 1.0 / math.sqrt(shape[-1])
    return rng.normal(0, scale, shape).astype(np.float32)

  wide = {"q": HEADS * HEAD, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}
  found = {
    f"{prefix}embed_tokens.weight": draw(ROWS, WIDTH),
    f"{prefix}norm.weight": 1 + draw(WIDTH),
  }
  if not config["tie_word_embeddings"]:
    found["lm_head.weight"] = draw(ROWS, WIDTH)
  for layer in range(LAYERS):
    at = f"{prefix}layers.{layer}."
    for name, size in wide.items():
      found[f"{at}self_attn.{name}_proj.weight"] = draw(size, WIDTH)
      if biases:
        found[f"{at}self_attn.{name}_proj.bias"] = draw(size)
    found[f"{at}self_attn.o_proj.weight"] = draw(WIDTH, wide["q"])
    for name in ("q", "k") if norms else ():
      found[f"{at}self_attn.{name}_norm.weight"] = 1 + draw(HEAD)
    for name in ("gate", "up"):
      found[f"{at}mlp.{name}_proj.weight"] = draw(FFN, WIDTH)
    found[f"{at}mlp.down_proj.weight"] = draw(WIDTH, FFN)
    for name in ("input_layernorm", "post_attention_layernorm"):
      found[f"{at}{name}.weight"] = 1 + draw(WIDTH)
  return found


def frequencies(config):
  """Turns of a position, in radians [HEAD / 2]."""
  rope = config.get("rope_parameters") or config
  found = []
  for i in range(HEAD // 2):
    frequency = 1 / rope["rope_theta"] ** (2 * i / HEAD)
    if rope.get("rope_type") == "llama3":
      low, high = rope["low_freq_factor"], rope["high_freq_factor"]
      length = rope["original_max_position_embeddings"]
      wavelength = 2 * math.pi / frequency
      if wavelength > length / low:
        frequency /= rope["factor"]
      elif wavelength >= length / high:
        smooth = (length / wavelength - low) / (high - low)
        slow = frequency / rope["factor"]
        frequency = (1 - smooth) * slow + smooth * frequency
    found.append(frequency)
  return np.array(found)


def reference(config, tensors, ids, prefix="model."):
  """(logits, hidden) in float64 of ids [B, L], by the published rules."""
  config = own_config(config)
  weights = {k: np.asarray(v, np.float64) for k, v in tensors.items()}
  rows, length = ids.shape
  angle = np.arange(length)[:, None] * frequencies(config)
  cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
  causal = np.tril(np.ones((length, length), bool))

  def norm(x, key):
    mean = np.mean(x**2, -1, keepdims=True) + config["rms_norm_eps"]
    return x / np.sqrt(mean) * weights[key]

  def linear(x, key):
    return x @ weights[f"{key}.weight"].T + weights.get(f"{key}.bias", 0)

  def heads(x, at, name):
    x = linear(x, f"{at}self_attn.{name}_proj")
    x = x.reshape(rows, length, -1, HEAD)
    if f"{at}self_attn.{name}_norm.weight" in weights:
      x = norm(x, f"{at}self_attn.{name}_norm.weight")
    if name != "v":
      a, b = np.split(x, 2, axis=-1)
      x = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    repeat = HEADS // x.shape[2]
    return np.repeat(x, repeat, axis=2)

  x = weights[f"{prefix}embed_tokens.weight"][ids]
  hidden = [x]
  for layer in range(LAYERS):
    at = f"{prefix}layers.{layer}."
    h = norm(x, f"{at}input_layernorm.weight")
    q, k, v = (heads(h, at, name) for name in "qkv")
    scores = np.einsum("blnh,bsnh->bnls", q, k) / math.sqrt(HEAD)
    scores = np.where(causal, scores, -np.inf)
    mass = np.exp(scores - scores.max(-1, keepdims=True))
    mass /= mass.sum(-1, keepdims=True)
    mixed = np.einsum("bnls,bsnh->blnh", mass, v).reshape(rows, length, -1)
    x = x + linear(mixed, f"{at}self_attn.o_proj")
    h = norm(x, f"{at}post_attention_layernorm.weight")
    gate = linear(h, f"{at}mlp.gate_proj")
    wide = gate / (1 + np.exp(-gate)) * linear(h, f"{at}mlp.up_proj")
    x = x + linear(wide, f"{at}mlp.down_proj")
    hidden.append(x)
  hidden[-1] = norm(x, f"{prefix}norm.weight")
  table = f"{prefix}embed_tokens.weight"
  head = table if config["tie_word_embeddings"] else "lm_head.weight"
  return hidden[-1] @ weights[head].T, np.stack(hidden)


def write_tensors(folder, tensors, shards=1):
  """One file, or files with an index."""
  if shards == 1:
    path = folder / "model.safetensors"
    safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    return
  listed = {}
  for shard in range(shards):
    name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
    some = {k: tensors[k] for k in list(tensors)[shard::shards]}
    safetensors.numpy.save_file(some, folder / name, {"format": "pt"})
    listed |= dict.fromkeys(some, name)
  index = {"metadata": {}, "weight_map": listed}
  write_json(folder / "model.safetensors.index.json", index)


def write_json(path, value):
  path.write_text(json.dumps(value), "utf-8")


def write(folder, name):
  """Writes the folder of a case with its io.npz; gives its tensors."""
  config, prefix, shards, dtype = CASES[name]
  rng = np.random.default_rng(5)
  tensors = random_tensors(own_config(config), prefix)
  tensors = {k: v.astype(jnp.dtype(dtype)) for k, v in tensors.items()}
  folder.mkdir(parents=True)
  write_json(folder / "config.json", config)
  write_tensors(folder, tensors, shards)
  ids = rng.integers(0, ROWS, (2, 21), dtype=np.int32)
  logits, hidden = reference(config, tensors, ids, prefix)
  logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  logp = np.take_along_axis(logp[:, :-1], ids[:, 1:, None], -1)[..., 0]
  found = {"ids": ids, "logits": logits, "hidden": hidden, "logp_next": logp}
  if "vision_config" in config:
    found |= {"text_ids": ids, "text_logits": logits}
  found = {
    k: v if v.dtype == np.int32 else v.astype("f4") for k, v in found.items()
  }
  np.savez(folder / "io.npz", **found)
  return tensors
