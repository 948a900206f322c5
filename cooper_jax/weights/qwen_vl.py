"""Qwen2.5-VL and Qwen3-VL: decoder, tower, and what merges patches into cells.

The decoder is Qwen2's or Qwen3's, and turns with time, row and column. The
tower takes pictures of any shape; of Qwen3-VL the states of some of its layers
are added behind the first layers of the decoder, too (DeepStack).
"""

import math
import os
import sys

from cooper_jax.errors import UserError
from cooper_jax.models.config import RGB
from cooper_jax.weights import decoder, fields, folder, qwen

MODEL_TYPES = ("qwen2_5_vl", "qwen3_vl")
LAYOUTS = qwen.LAYOUTS
FIRST_OF_TOWER = "patch_embed.proj.weight"  # by which its prefix is known
DIVISIBLE = True  # text or tower may be taken alone
PROCESSOR = "preprocessor_config.json"
# Files that say how pictures are scaled, and the part of each that does; the
# last one counts. transformers 5 writes the second.
PROCESSORS = {PROCESSOR: "", "processor_config.json": "image_processor"}
# What a processor does before it takes the mean away.
SCALING = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
EPS = 1e-6  # of the towers' norms, in their classes
THETA = 10_000.0  # of the towers' turns, where a config doesn't say
MOST_WINDOW = 2**20  # pixels along a side
HALF = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
VISION = "params/vision/"


def config(said: dict, where: str) -> dict:
  """Fields of `ModelConfig` from a config.json; UserError names what can't be.

  where: how errors name the file.
  """
  found = qwen.config(said, where)
  own = said.get("vision_config")
  if not isinstance(own, dict):
    raise UserError(f"{where}: vision_config is {own!r}; allowed: an object")
  read = fields.ConfigFields(own, f"{where}: vision_config")
  newer = said["model_type"] == "qwen3_vl"
  found["vision"] = _tower(read, newer=newer)
  out = read.count("out_hidden_size", found["d_model"] if newer else 3584)
  if out != found["d_model"]:
    read.refuse(
      "out_hidden_size", out, f"the decoder has {found['d_model']} channels"
    )
  read.finish()
  return found | {"causal_cells": True, "rope_interleaved": newer}


def _tower(read: fields.ConfigFields, *, newer: bool) -> dict:
  """Fields of `VisionConfig`; what a config leaves out is the class's own.

  newer: whether it is Qwen3-VL's.
  """
  kind = "qwen3_vl" if newer else "qwen2_5_vl"
  name = read.get("model_type", kind)
  if name not in (kind, f"{kind}_vision"):
    read.refuse("model_type", name, "that is another tower")
  act = "gelu_pytorch_tanh" if newer else "silu"
  read.only("hidden_act", act, "other activations are not known")
  for name in ("in_channels", "in_chans"):
    read.only(name, RGB, "pictures have three colours")
  read.known.add("tokens_per_second")  # of films
  patch = read.count("patch_size", 16 if newer else 14)
  read.only("spatial_patch_size", patch, "patches have another size")
  layers = read.count("depth", 27 if newer else 32)
  if layers > decoder.MOST_LAYERS:
    read.refuse("depth", layers, f"allowed: 1 to {decoder.MOST_LAYERS}")
  merge = read.count("spatial_merge_size", 2)
  found = {
    "image_size": patch * merge,  # of the smallest picture; any is taken
    "patch": patch,
    "merge": merge,
    "frames": read.count("temporal_patch_size", 2),
    "width": read.count("hidden_size", 1152 if newer else 3584),
    "layers": layers,
    "heads": read.count("num_heads", 16),
    "ffn": read.count("intermediate_size", 4304 if newer else 3420),
    "norm_eps": EPS,
    "stem": "linear",
    "stem_bias": newer,
    "norm": "layer" if newer else "rms",
    "gated": not newer,
    "rope_theta": _theta(read),
    "position": "resized" if newer else "none",
    "position_side": 0,
    "deepstack": (),
    "window": 0,
    "full_layers": (),
    "mean": HALF if newer else CLIP_MEAN,
    "deviation": HALF if newer else CLIP_DEVIATION,
  }
  if newer:
    rows = read.count("num_position_embeddings", 2304)
    side = math.isqrt(rows)
    if side**2 != rows:
      read.refuse("num_position_embeddings", rows, "allowed: squares, as 2304")
    stacked = _layers(read, "deepstack_visual_indexes", [8, 16, 24])
    if stacked and stacked[-1] >= layers:
      read.refuse(
        "deepstack_visual_indexes", [*stacked], f"there are {layers} layers"
      )
    return found | {"position_side": side, "deepstack": stacked}
  window = read.count("window_size", 112)
  cell = merge * patch
  if not cell <= window <= MOST_WINDOW:
    why = f"a cell has {cell} pixels, allowed: {cell} to {MOST_WINDOW:,}"
    read.refuse("window_size", window, why)
  full = _layers(read, "fullatt_block_indexes", [7, 15, 23, 31])
  return found | {
    "window": window // merge // patch,
    "full_layers": tuple(layer for layer in full if layer < layers),
  }


def _theta(read: fields.ConfigFields) -> float:
  said = read.get("rope_parameters", {})
  if not isinstance(said, dict):
    read.refuse("rope_parameters", said, "allowed: an object")
  own = fields.ConfigFields(said, f"{read.where}: rope_parameters")
  kind = own.get("rope_type", "axial")
  if kind not in ("axial", "default"):
    own.refuse("rope_type", kind, "allowed: axial")
  theta = own.real("rope_theta", THETA)
  own.finish()
  return theta


def _layers(read: fields.ConfigFields, name: str, absent: list) -> tuple:
  """Numbers of a tower's layers, in order."""
  found = read.get(name, absent)
  good = isinstance(found, list) and all(type(each) is int for each in found)
  if not good or found != sorted({each for each in found if each >= 0}):
    read.refuse(name, found, "allowed: layers from 0 on, in order, each once")
  return tuple(found)


def settle(sizes: dict, source: folder.WeightsFolder, where: str) -> list[str]:
  """Completes sizes by what stands beside the config; gives notes.

  Colours' mean and deviation are the processor's, where the folder has one. A
  folder without any tensor of a tower is of text alone.
  """
  if not any(key.endswith(FIRST_OF_TOWER) for key in source.tensors):
    sizes.pop("vision")
    return [f"there is no tower, though {where} has one: text is imported"]
  for name, part in PROCESSORS.items():
    if os.path.lexists(source.path / name):
      said = folder.read_json(source.path, name)
      read = fields.ConfigFields(said, f"{source.path / name}")
      own = read.get(part, {}) if part else said
      if not isinstance(own, dict):
        read.refuse(part, own, "allowed: an object")
      _scaling(sizes["vision"], fields.ConfigFields(own, read.where), where)
  return []


def _scaling(vision: dict, read: fields.ConfigFields, where: str) -> None:
  """Takes a processor's mean and deviation; UserError where the rest differs.

  where: how errors name the config.
  """
  for name, field in (
    ("patch_size", "patch"),
    ("merge_size", "merge"),
    ("temporal_patch_size", "frames"),
  ):
    why = f"{where} has {vision[field]}; one of them is of another model"
    read.only(name, vision[field], why)
  for name, allowed in SCALING.items():
    read.only(name, allowed, "pictures are scaled otherwise here")
  for name, field in (("image_mean", "mean"), ("image_std", "deviation")):
    vision[field] = _colours(read, name, vision[field])


def _colours(read: fields.ConfigFields, name: str, absent) -> tuple:
  """A finite number of each colour."""
  found = read.get(name, list(absent))
  numbers = isinstance(found, list) and all(
    type(each) in (int, float) and abs(each) <= sys.float_info.max
    for each in found
  )
  if not numbers or len(found) != RGB:
    read.refuse(name, found, "allowed: three numbers")
  return tuple(map(float, found))


def names(sizes: dict) -> dict[str, decoder.TensorName]:
  """Path in our tree -> where it is in a folder.

  sizes: as `config` and `settle` give them.
  """
  found = decoder.names(sizes)
  if "vision" not in sizes:
    return found
  vision = sizes["vision"]
  width, patch, ffn = vision["width"], vision["patch"], vision["ffn"]
  newer, layers = vision["norm"] == "layer", vision["layers"]

  def put(own: str, key: str, *shape: int, layers=0, **more):
    transform = more.pop(
      "transform", decoder.TRANSPOSED if len(shape) > 1 else decoder.AS_IT_IS
    )
    found[f"{VISION}{own}"] = decoder.TensorName(
      f"{{tower}}{key}", transform, shape, layers, **more
    )

  def linear(own: str, key: str, out: int, into: int, layers: int, **more):
    put(f"{own}/kernel", f"{key}.weight", out, into, layers=layers, **more)
    put(f"{own}/bias", f"{key}.bias", out, layers=layers, **more)

  def norm(own: str, key: str, size: int, layers: int):
    put(f"{own}/scale", f"{key}.weight", size, layers=layers)
    if newer:
      put(f"{own}/bias", f"{key}.bias", size, layers=layers)

  kernel = (width, RGB, vision["frames"], patch, patch)
  put("stem/kernel", FIRST_OF_TOWER, *kernel, transform=decoder.PATCHES)
  if newer:
    put("stem/bias", "patch_embed.proj.bias", width)
    rows = vision["position_side"] ** 2
    put(
      "position",
      "pos_embed.weight",
      rows,
      width,
      transform=decoder.AS_IT_IS,
    )
  block = "blocks.{layer}."
  for i in (1, 2):
    norm(f"blocks/norm{i}", f"{block}norm{i}", width, layers)
  for i, own in enumerate("qkv"):
    fused = f"{block}attn.qkv"
    linear(f"blocks/{own}", fused, 3 * width, width, layers, part=(i, 3))
  linear("blocks/out", f"{block}attn.proj", width, width, layers)
  for own, key, out, into in (
    (("fc1", "linear_fc1", ffn, width), ("fc2", "linear_fc2", width, ffn))
    if newer
    else (
      ("gate", "gate_proj", ffn, width),
      ("up", "up_proj", ffn, width),
      ("down", "down_proj", width, ffn),
    )
  ):
    linear(f"blocks/{own}", f"{block}mlp.{key}", out, into, layers)
  wide = vision["merge"] ** 2 * width
  merger = ("norm", "linear_fc1", "linear_fc2")
  if not newer:
    merger = ("ln_q", "mlp.0", "mlp.2")
  stacked = "deepstack_merger_list.{layer}"
  for own, key, size, count in (
    ("merger", "merger", width, 0),
    ("deepstack", stacked, wide, len(vision["deepstack"])),
  ):
    if own == "merger" or count:
      norm(f"{own}/norm", f"{key}.{merger[0]}", size, count)
      linear(f"{own}/fc1", f"{key}.{merger[1]}", wide, wide, count)
      linear(f"{own}/fc2", f"{key}.{merger[2]}", sizes["d_model"], wide, count)
  return found


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  del said
  return (decoder.FREQUENCIES,)
