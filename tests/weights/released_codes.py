"""Folders of released image tokenizers in small, and what they give.

The reference is written down from the published rules in float64 and shares no
code with the package; of a film it draws every frame.
"""

import math

import numpy as np

from tests.weights import released

VQ16 = {
  "model_type": "janus_vqgan",
  "embed_dim": 4,
  "num_embeddings": 30,
  "latent_channels": 6,
  "base_channels": 32,
  "channel_multiplier": [2, 1],
  "num_res_blocks": 1,
  "double_latent": False,
  "in_channels": 3,
  "out_channels": 3,
  "dropout": 0.0,
  "num_patches": 3,
  "hidden_act": "gelu",
}
EMU3 = {
  "model_type": "emu3_vqgan",
  "embed_dim": 3,
  "latent_channels": 3,
  "codebook_size": 30,
  "base_channels": 32,
  "channel_multiplier": [1, 2],
  "num_res_blocks": 1,
  "attn_resolutions": [1],
  "hidden_size": 64,
  "num_attention_heads": 2,
  "temporal_downsample_factor": 4,
  "double_latent": False,
  "attention_dropout": 0.0,
}
CASES = {"janus_vqgan": VQ16, "emu3_vqgan": EMU3}
BOOK = "quantize.embedding.weight"


class Shapes:
  """Names and shapes of the tensors, as the classes make them."""

  def __init__(self, config):
    self.config, self.found = config, {}
    self.levels = [
      config["base_channels"] * times for times in config["channel_multiplier"]
    ]
    self.film = config["model_type"] == "emu3_vqgan"
    getattr(self, "emu3" if self.film else "vq16")()

  def add(self, key, *shape):
    self.found[f"{key}.weight"], self.found[f"{key}.bias"] = shape, shape[:1]

  def norm(self, key, width, code=0):
    self.add(f"{key}.norm_layer" if code else key, width)
    for name in ("conv_y", "conv_b") if code else ():
      self.add(f"{key}.{name}", width, code, 1, 1)

  def block(self, key, into, out, code=0):
    self.norm(f"{key}.norm1", into, code)
    self.add(f"{key}.conv1", out, into, 3, 3)
    self.norm(f"{key}.norm2", out, code)
    self.add(f"{key}.conv2", out, out, 3, 3)
    if into != out:
      self.add(f"{key}.nin_shortcut", out, into, 1, 1)

  def attention(self, key, width, norm="", code=0):
    if self.film:
      self.norm(norm, width, code)
      for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        self.add(f"{key}.{name}", width, width)
    else:
      self.norm(f"{key}.norm", width)
      for name in ("q", "k", "v", "proj_out"):
        self.add(f"{key}.{name}", width, width, 1, 1)

  def level(self, key, into, out, *, blocks, attends, change="", code=0):
    for i in range(blocks):
      self.block(f"{key}.block.{i}", out if i else into, out, code)
      if attends:
        self.attention(f"{key}.attn.{i}", out, f"{key}.attn_norms.{i}", code)
    if change:
      self.add(f"{key}.{change}.conv", out, out, 3, 3)

  def middle(self, key, width, code=0):
    self.block(f"{key}.block_1", width, width, code)
    self.attention(f"{key}.attn_1", width, f"{key}.attn_norm", code)
    self.block(f"{key}.block_2", width, width, code)

  def vq16(self):
    config, levels = self.config, self.levels
    latent, blocks = config["latent_channels"], config["num_res_blocks"]
    last, width = len(levels) - 1, config["base_channels"]
    self.add("encoder.conv_in", width, 3, 3, 3)
    for i, (into, out) in enumerate(zip([width, *levels], levels)):
      change = "" if i == last else "downsample"
      self.level(
        f"encoder.down.{i}", into, out, blocks=blocks, attends=i == last,
        change=change,
      )  # fmt: skip
    self.middle("encoder.mid", levels[-1])
    self.norm("encoder.norm_out", levels[-1])
    self.add("encoder.conv_out", latent, levels[-1], 3, 3)
    self.add("quant_conv", config["embed_dim"], latent, 1, 1)
    self.add("post_quant_conv", latent, config["embed_dim"], 1, 1)
    self.add("decoder.conv_in", levels[-1], latent, 3, 3)
    self.middle("decoder.mid", levels[-1])
    down = levels[::-1]
    for i, (into, out) in enumerate(zip([down[0], *down], down)):
      self.level(
        f"decoder.up.{i}", into, out, blocks=blocks + 1, attends=i == 0,
        change="" if i == last else "upsample",
      )  # fmt: skip
    self.norm("decoder.norm_out", levels[0])
    self.add("decoder.conv_out", 3, levels[0], 3, 3)
    self.found[BOOK] = (config["num_embeddings"], config["embed_dim"])

  def emu3(self):
    config, levels = self.config, self.levels
    code, blocks = config["embed_dim"], config["num_res_blocks"]
    last, width = len(levels) - 1, config["base_channels"]
    attends = [i in config["attn_resolutions"] for i in range(len(levels))]
    self.add("encoder.conv_in", width, 3, 3, 3)
    for i, (into, out) in enumerate(zip([width, *levels], levels)):
      self.level(
        f"encoder.down_block.down.{i}", into, out, blocks=blocks,
        attends=attends[i], change="" if i == last else "downsample",
      )  # fmt: skip
    self.middle("encoder.middle_block", levels[-1])
    self.norm("encoder.norm_out", levels[-1])
    self.add("encoder.conv_out", code, levels[-1], 3, 3)
    self.add("decoder.conv_in", levels[-1], code, 3, 3)
    self.middle("decoder.middle_block", levels[-1], code)
    for i in range(len(levels)):
      self.level(
        f"decoder.up_block.up.{i}", levels[min(i + 1, last)], levels[i],
        blocks=blocks + 1, attends=attends[i], code=code,
        change="upsample" if i else "",
      )  # fmt: skip
    self.norm("decoder.norm_out", levels[0], code)
    self.add("decoder.conv_out", 3, levels[0], 3, 3)
    for name in ("quant_conv", "post_quant_conv"):
      self.add(f"{name}.conv", code, code, 3, 1, 1)
    steps = int(math.log2(config["temporal_downsample_factor"]))
    for part, frames in (("encoder", 4), ("decoder", 3)):
      for i in range(steps):
        key = f"{part}.time_conv.{i}.conv.conv"
        self.add(key, code, code, frames, 3, 3)
      for i in range(blocks):
        for n in (1, 2):
          key = f"{part}.time_res_stack.{i}"
          self.add(f"{key}.conv{n}.conv", code, code, 3, 3, 3)
          self.add(f"{key}.norm{n}", code)
          for name in ("running_mean", "running_var"):
            self.found[f"{key}.norm{n}.{name}"] = (code,)
          self.found[f"{key}.norm{n}.num_batches_tracked"] = ()
    self.found[BOOK] = (config["codebook_size"], code)


def random_tensors(config, seed=0):
  """Tensors by key, none of them like another, in float32."""
  rng, found = np.random.default_rng(seed), {}
  for key, shape in Shapes(config).found.items():
    if not shape:
      found[key] = np.array(7, np.int64)
      continue
    scale = 0.3 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
    values = rng.normal(0, scale, shape)
    if key.endswith("running_var"):
      values = 0.5 + np.abs(values)
    elif len(shape) == 1 and key.endswith("weight"):
      values += 1
    found[key] = values.astype(np.float32)
  return found


class Reference:
  """What the classes compute, of tensors by key; pictures [B, D, H, W]."""

  def __init__(self, config, tensors):
    self.config = config
    self.film = config["model_type"] == "emu3_vqgan"
    self.tensors = {k: v.astype(np.float64) for k, v in tensors.items()}
    self.heads = config.get("num_attention_heads", 1)

  def conv(self, x, key, pad=None, stride=1):
    """A convolution over the last axes of x [B, D, ..]."""
    weight = self.tensors[f"{key}.weight"]
    if pad is None:
      pad = [(n // 2, n // 2) for n in weight.shape[2:]]
    if weight.ndim == 5:
      pad = [(2, 0), *pad[1:]]
    x = np.pad(x, [(0, 0), (0, 0), *pad])
    axes = tuple(range(2, x.ndim))
    parts = np.lib.stride_tricks.sliding_window_view(
      x, weight.shape[2:], axis=axes
    )
    steps = [slice(None, None, stride)] * len(axes)
    if weight.ndim == 5:  # time alone is halved
      steps[1:] = [slice(None)] * 2
    parts = parts[(slice(None), slice(None), *steps)]
    own = "xyz"[: len(axes)], "pqr"[: len(axes)]
    rule = f"bd{''.join(own)},ed{own[1]}->be{own[0]}"
    out = np.einsum(rule, parts, weight, optimize=True)
    bias = self.tensors[f"{key}.bias"]
    return out + bias.reshape(-1, *[1] * len(axes))

  def norm(self, x, key, code=None):
    if code is not None:
      times = x.shape[-1] // code.shape[-1]
      code = code.repeat(times, -1).repeat(times, -2)
      scale, shift = (self.conv(code, f"{key}.conv_{n}") for n in "yb")
      return self.norm(x, f"{key}.norm_layer") * scale + shift
    groups = x.reshape(len(x), 32, -1)
    groups = groups - groups.mean(-1, keepdims=True)
    groups = groups / np.sqrt(groups.var(-1, keepdims=True) + 1e-6)
    scale, bias = (self.tensors[f"{key}.{n}"] for n in ("weight", "bias"))
    return groups.reshape(x.shape) * scale[:, None, None] + bias[:, None, None]

  def block(self, x, key, code=None):
    h = self.conv(silu(self.norm(x, f"{key}.norm1", code)), f"{key}.conv1")
    h = self.conv(silu(self.norm(h, f"{key}.norm2", code)), f"{key}.conv2")
    if f"{key}.nin_shortcut.weight" in self.tensors:
      x = self.conv(x, f"{key}.nin_shortcut")
    return x + h

  def attention(self, x, key, norm, code=None):
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    if not self.film:
      names, norm = ("q", "k", "v", "proj_out"), f"{key}.norm"
    h = self.norm(x, norm, code).reshape(*x.shape[:2], -1)

    def product(h, name):
      weight = self.tensors[f"{key}.{name}.weight"]
      weight = weight.reshape(weight.shape[:2])
      return weight @ h + self.tensors[f"{key}.{name}.bias"][:, None]

    parts = (product(h, name) for name in names[:3])
    shape = (len(x), self.heads, -1, h.shape[-1])
    q, k, v = (part.reshape(shape) for part in parts)
    scores = np.einsum("bndi,bndj->bnij", q, k) / math.sqrt(q.shape[2])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    read = np.einsum("bnij,bndj->bndi", weights, v).reshape(h.shape)
    return x + product(read, names[3]).reshape(x.shape)

  def level(self, x, key, code=None):
    i = 0
    while f"{key}.block.{i}.conv1.weight" in self.tensors:
      x = self.block(x, f"{key}.block.{i}", code)
      at = f"{key}.attn.{i}"
      if any(k.startswith(at) for k in self.tensors):
        x = self.attention(x, at, f"{key}.attn_norms.{i}", code)
      i += 1
    if f"{key}.downsample.conv.weight" in self.tensors:
      x = self.conv(x, f"{key}.downsample.conv", [(0, 1), (0, 1)], 2)
    if f"{key}.upsample.conv.weight" in self.tensors:
      x = self.conv(x.repeat(2, -1).repeat(2, -2), f"{key}.upsample.conv")
    return x

  def middle(self, x, key, code=None):
    x = self.block(x, f"{key}.block_1", code)
    x = self.attention(x, f"{key}.attn_1", f"{key}.attn_norm", code)
    return self.block(x, f"{key}.block_2", code)

  def stack(self, x, part):
    """The residual blocks over films [B, D, T, H, W]."""
    for i in range(self.config["num_res_blocks"]):
      h = x
      for n in (1, 2):
        key = f"{part}.time_res_stack.{i}"
        own = (
          self.tensors[f"{key}.norm{n}.{name}"][:, None, None, None]
          for name in ("running_mean", "running_var", "weight", "bias")
        )
        mean, variance, scale, bias = own
        h = silu((h - mean) / np.sqrt(variance + 1e-5) * scale + bias)
        h = self.conv(h, f"{key}.conv{n}.conv")
      x = x + h
    return x

  def latent(self, pixels):
    levels = len(self.config["channel_multiplier"])
    names = (
      ("down_block.down", "middle_block") if self.film else ("down", "mid")
    )
    x = self.conv(pixels.astype(np.float64), "encoder.conv_in")
    for i in range(levels):
      x = self.level(x, f"encoder.{names[0]}.{i}")
    x = self.middle(x, f"encoder.{names[1]}")
    x = self.conv(silu(self.norm(x, "encoder.norm_out")), "encoder.conv_out")
    if not self.film:
      return self.conv(x, "quant_conv")
    frames = self.config["temporal_downsample_factor"]
    x = x[:, :, None].repeat(frames, 2)
    for i in range(int(math.log2(frames))):
      x = silu(self.conv(x, f"encoder.time_conv.{i}.conv.conv", stride=2))
    return self.conv(self.stack(x, "encoder"), "quant_conv.conv")[:, :, 0]

  def codes(self, z, *, by_angle):
    book, z = self.tensors[BOOK], np.moveaxis(z, 1, -1)
    if by_angle:
      book, z = (v / np.linalg.norm(v, axis=-1)[..., None] for v in (book, z))
    gaps = ((z[..., None, :] - book) ** 2).sum(-1)
    return gaps.argmin(-1).astype(np.int32)

  def decoded(self, codes):
    found, code = np.moveaxis(self.tensors[BOOK][codes], -1, 1), None
    levels = range(len(self.config["channel_multiplier"]))
    if self.film:
      code = found[:, :, None]
      x = self.conv(code, "post_quant_conv.conv")
      x, code = self.slow(x), self.slow(code)
      names = ("middle_block", "up_block.up")
      levels = reversed(levels)
    else:
      found /= np.linalg.norm(found, axis=1)[:, None]
      x, names = self.conv(found, "post_quant_conv"), ("mid", "up")
    x = self.middle(
      self.conv(x, "decoder.conv_in"), f"decoder.{names[0]}", code
    )
    for i in levels:
      x = self.level(x, f"decoder.{names[1]}.{i}", code)
    x = silu(self.norm(x, "decoder.norm_out", code))
    return self.conv(x, "decoder.conv_out")

  def slow(self, x):
    """The first of the frames [B, D, H, W] that a code is drawn as."""
    x = self.stack(x, "decoder")
    steps = int(math.log2(self.config["temporal_downsample_factor"]))
    for i in range(steps):
      x = x.repeat(2, 2)
      x = silu(self.conv(x, f"decoder.time_conv.{i}.conv.conv"))
    return x[:, :, 0]


def silu(x):
  return x / (1 + np.exp(-x))


def write_weights(folder, name, *, seed=0, **changes):
  """Writes a folder of weights that nothing is expected of."""
  folder.mkdir(parents=True)
  config = CASES[name] | changes
  released.write_json(folder / "config.json", config)
  released.write_tensors(folder, random_tensors(config, seed))


def write(folder, name, *, seed=0, **changes):
  """Writes a folder with its io.npz; gives its tensors by key."""
  folder.mkdir(parents=True)
  config = CASES[name] | changes
  tensors = random_tensors(config, seed)
  rng = np.random.default_rng(seed + 1)
  side = 2 ** (len(config["channel_multiplier"]) - 1)
  pixels = rng.normal(size=(2, 3, 3 * side, 4 * side)).astype(np.float32)
  model = Reference(config, tensors)
  z = model.latent(pixels)
  # Codes that occur, and differ by the two rules.
  near = np.moveaxis(z, 1, -1).reshape(-1, z.shape[1])
  shape = tensors[BOOK].shape
  near = near[rng.integers(len(near), size=shape[0])]
  near = near * rng.uniform(0.5, 1.5, (shape[0], 1))
  near += 0.1 * near.std() * rng.normal(size=shape)
  tensors[BOOK] = near.astype(np.float32)
  model = Reference(config, tensors)
  raw = model.codes(z, by_angle=False)
  found = {"pixels": pixels, "latent": z, "decoded": model.decoded(raw)}
  if name == "janus_vqgan":
    flat = len(raw), -1
    found["codes_raw"] = raw.reshape(flat)
    found["codes_l2"] = model.codes(z, by_angle=True).reshape(flat)
    found["grid"] = np.array(raw.shape[1:])
  else:
    found["codes"] = raw
  np.savez(folder / "io.npz", **found)
  released.write_json(folder / "config.json", config)
  released.write_tensors(folder, tensors)
  return tensors
