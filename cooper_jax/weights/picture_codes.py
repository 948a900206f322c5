"""Image tokenizers of others: their tensors, and the comparison of pictures.

A network's modules bear the names of the folder, so that the table of names is
made of the network itself.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cooper_jax.tokenizers import movq, vqgan
from cooper_jax.tokenizers.picture_layers import CHANNELS_RGB, GROUPS
from cooper_jax.training.manifest import flatten
from cooper_jax.weights import decoder, fields, vision_model

FIRST_KEY = "quantize.embedding.weight"  # by which a layout is known
LAYOUTS = (("", ""), ("model.vqmodel.", ""), ("vqmodel.", ""))
# What is larger is no network, and shapes of it can't be computed.
MOST_CHANNELS, MOST_CODES = 2**16, 2**24
MOST_LEVELS, MOST_FRAMES = 10, 64
MOST_BLOCKS = 64  # of all levels; Janus has 10 and Emu3 8
SIZES = "tokenizer"  # in the sizes of an import: the network's config
# Of a whole model's config, what is of its other parts.
OF_WHOLE = (
  "text_config vision_config vocabulary_map image_token_id image_token_index"
  " tie_word_embeddings boi_token_id eoi_token_id".split()
)
# Leaf of ours -> what the key of its tensor ends with.
ENDS = {
  "kernel": "weight",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
  "quantize.embedding": FIRST_KEY,
}
# Codes in an io.npz -> the rule that they are of, in a network's config;
# `decoded` is of the first that is there.
CODES = {
  vqgan.VqganConfig: {
    "codes_raw": {"by_angle": False},
    "codes_l2": {"by_angle": True},
  },
  movq.MovqConfig: {"codes": {}},
}


def own_config(
  said: dict, where: str, whole: str, alone: str
) -> fields.ConfigFields:
  """The fields of a tokenizer's config, by itself or in a whole model's.

  whole, alone: the model types. Raises UserError as `fields` does.
  """
  read = fields.ConfigFields(said, where)
  if said["model_type"] != whole:
    return read
  own = read.get("vq_config")
  if not isinstance(own, dict):
    read.refuse("vq_config", own, "allowed: an object")
  read.known |= set(OF_WHOLE)
  read.finish()
  read = fields.ConfigFields(own, f"{where}: vq_config")
  read.only("model_type", alone, "it is another tokenizer")
  return read


def colours(read: fields.ConfigFields) -> None:
  """What all networks here have in common; UserError for what none has."""
  for name in ("in_channels", "out_channels"):
    read.only(name, CHANNELS_RGB, "pictures have three colours")
  read.only("double_latent", False, "means and variances are not supported")
  read.known.add("dropout")  # of training


def numbers(read: fields.ConfigFields, name: str, default, least: int):
  """A list of whole numbers from `least` on, as a tuple."""
  value = read.get(name, list(default))
  good = isinstance(value, (list, tuple)) and all(
    type(each) is int and each >= least for each in value
  )
  if not good:
    read.refuse(name, value, f"allowed: whole numbers from {least} on")
  return tuple(value)


def count(
  read: fields.ConfigFields, name: str, default: int, most: int = MOST_CHANNELS
) -> int:
  """A whole number from 1 to `most`."""
  value = read.count(name, default)
  if value > most:
    read.refuse(name, value, f"allowed: 1 to {most:,}")
  return value


def widths(read: fields.ConfigFields, default) -> dict:
  """`width`, `multipliers` and `blocks` of a network.

  default: its config as it stands. Raises UserError where a norm can't be.
  """
  width = count(read, "base_channels", default.width)
  multipliers = numbers(read, "channel_multiplier", default.multipliers, 1)
  if not 0 < len(multipliers) <= MOST_LEVELS:
    why = f"allowed: 1 to {MOST_LEVELS} numbers"
    read.refuse("channel_multiplier", [*multipliers], why)
  if width * max(multipliers) > MOST_CHANNELS:
    why = f"times {width} it is more than {MOST_CHANNELS:,} channels"
    read.refuse("channel_multiplier", [*multipliers], why)
  for times in (1, *multipliers):
    if width * times % GROUPS:
      read.refuse(
        "base_channels",
        width,
        f"times {times} it does not divide into {GROUPS} groups of a norm",
      )
  blocks = read.count("num_res_blocks", default.blocks)
  if blocks * len(multipliers) > MOST_BLOCKS:
    why = f"allowed: {MOST_BLOCKS} of {len(multipliers)} levels in all"
    read.refuse("num_res_blocks", blocks, why)
  return {"width": width, "multipliers": multipliers, "blocks": blocks}


@functools.cache
def _shapes(config) -> dict[str, tuple[int, ...]]:
  pictures = jnp.zeros((1, config.factor, config.factor, CHANNELS_RGB))
  made = jax.eval_shape(config.module().init, jax.random.key(0), pictures)
  return {path: leaf.shape for path, leaf in flatten(made).items()}


def names(sizes: dict) -> dict[str, decoder.TensorName]:
  """Path in our tree -> where it is in a folder."""
  found = {}
  for path, shape in _shapes(sizes[SIZES]).items():
    *parts, last = path.split("/")[1:]
    key = "{prefix}" + ".".join([*parts, ENDS.get(last, last)])
    transform = decoder.AS_IT_IS
    if last == "kernel" and len(shape) == 2:
      transform, shape = decoder.TRANSPOSED, shape[::-1]
    elif last == "kernel":
      transform = decoder.KERNEL
      shape = (shape[-1], shape[-2], *shape[:-2])
    found[path] = decoder.TensorName(key, transform, shape)
  return found


def tree(leaves: dict) -> dict:
  """The parameters of a network, of an import's leaves by path."""
  found = {path: np.asarray(leaf, np.float32) for path, leaf in leaves.items()}
  return traverse_util.unflatten_dict(found, sep="/")["params"]


@functools.partial(jax.jit, static_argnames=("config", "method"))
def run(params, given, *, config, method: str):
  """What a method of a network gives of an array [B, H, W, ...]."""
  return config.module().apply({"params": params}, given, method=method)


def compare(sizes: dict, leaves: dict, arrays: vision_model.Expected):
  """Pairs of arrays (ours, theirs) by name.

  sizes, leaves: of an import. arrays: pixels [B, 3, H, W], and any of latent
  [B, d, h, w] (what is rounded to a code), codes of each rule that there is
  ([B, h, w], or flat), and decoded [B, 3, H, W], the pictures of the first
  rule's codes.
  """
  config, params = sizes[SIZES], tree(leaves)
  floats = vision_model.FLOATS
  pixels = arrays.take("pixels", floats, None, CHANNELS_RGB, None, None)
  call = functools.partial(run, params, config=config)
  z_BHWd, found = call(np.moveaxis(pixels, 1, -1), method="features"), {}
  grid = z_BHWd.shape[:-1]
  if "grid" in arrays:
    found["grid"] = np.array(grid[1:]), arrays.take("grid", "iu", 2)
  if "latent" in arrays:
    ours = np.moveaxis(np.asarray(z_BHWd), -1, 1)
    found["latent"] = ours, arrays.take("latent", floats, *ours.shape)
  drawn = None
  for name, rule in CODES[type(config)].items():
    if name not in arrays:
      continue
    flat = (grid[0], grid[1] * grid[2])
    shape = grid if arrays.arrays[name].ndim > 2 else flat
    theirs = arrays.take(name, "iu", *shape, below=config.codes)
    own = dataclasses.replace(config, **rule)
    ours = run(params, z_BHWd, config=own, method="codes_of")
    found[name] = np.asarray(ours).reshape(shape), theirs
    drawn = theirs.reshape(grid) if drawn is None else drawn
  if "decoded" in arrays and drawn is not None:
    ours = np.moveaxis(np.asarray(call(drawn, method="decode")), -1, 1)
    found["decoded"] = ours, arrays.take("decoded", floats, *ours.shape)
  return found


def said(pairs: dict) -> list[str]:
  """How many codes are equal, and how many of the book are among them."""
  found = []
  for name, (ours, theirs) in pairs.items():
    if name.startswith("codes"):
      same, used = int((ours == theirs).sum()), np.unique(theirs).size
      found.append(
        f"{name}: {same:,} of {theirs.size:,} equal, {used:,} different ones"
      )
  return found
