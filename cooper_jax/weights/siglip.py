"""SigLIP and SigLIP2: the image tower, as transformers has it.

Of a whole model the tower alone is imported. Its patch embedding is a
convolution or, for pictures of any shape (NaFlex), a product: the same weights
in another order. A run has square pictures of one size, whose grid is that of
the learned table of positions.
"""

import math

from cooper_jax.weights import decoder, fields

WHOLE = ("siglip", "siglip2")
TOWERS = ("siglip_vision_model", "siglip2_vision_model")
MODEL_TYPES = (*TOWERS, *WHOLE)
LAYOUTS = (("vision_model.", ""), ("", ""))
FIRST = "embeddings.patch_embedding.weight"  # by which a layout is known
BLOCKS = "params/vision/blocks/"
COLOURS = 3


def config(said: dict, where: str) -> dict:
  """Fields of `ModelConfig`, only `vision`; UserError names what can't be.

  where: how errors name the file.
  """
  read = fields.ConfigFields(said, where)
  model_type = said["model_type"]
  if model_type in WHOLE:
    own = read.get("vision_config")
    if not isinstance(own, dict):
      read.refuse("vision_config", own, "allowed: an object")
    read.known |= {"text_config", "initializer_factor"}
    _no_decoder(read)
    read.finish()
    read = fields.ConfigFields(own, f"{where}: vision_config")
    model_type = read.get("model_type", f"{model_type}_vision_model")
    if model_type not in TOWERS:
      read.refuse("model_type", model_type, f"allowed: {', '.join(TOWERS)}")
  found = tower(read, naflex=model_type == TOWERS[1])
  read.finish()
  return {"vision": found}


def tower(read: fields.ConfigFields, *, naflex: bool = False) -> dict:
  """Fields of `VisionConfig`; what a config leaves out is the class's own.

  naflex: whether the table's size is said in cells, not in pixels.
  """
  read.only(
    "hidden_act", "gelu_pytorch_tanh", "other activations are not known"
  )
  read.only("num_channels", COLOURS, "pictures have three colours")
  read.known.add("vision_use_head")  # pooling, which is skipped
  _no_decoder(read)
  patch = read.count("patch_size", 16)
  if naflex:  # its class has no other size
    read.known.add("image_size")
    cells = read.count("num_patches", 256)
    grid = math.isqrt(cells)
    if grid**2 != cells:
      read.refuse("num_patches", cells, "allowed: squares, as 256")
  else:
    read.known.add("num_patches")
    pixels = read.count("image_size", 224)
    grid = pixels // patch  # pixels that fill no patch are never seen
    if not grid:
      read.refuse("image_size", pixels, f"a patch has {patch} pixels")
  layers = read.count("num_hidden_layers", 12)
  if layers > decoder.MOST_LAYERS:
    read.refuse(
      "num_hidden_layers", layers, f"allowed: 1 to {decoder.MOST_LAYERS}"
    )
  return {
    "image_size": grid * patch,
    "patch": patch,
    "width": read.count("hidden_size", 768),
    "layers": layers,
    "heads": read.count("num_attention_heads", 12),
    "ffn": read.count("intermediate_size", 3072),
    "norm_eps": read.real("layer_norm_eps", 1e-6),
    "stem": "linear",
  }


def _no_decoder(read: fields.ConfigFields) -> None:
  """What a config written whole says of text, of which a tower has none."""
  read.known.add("tie_word_embeddings")
  for name in ("add_cross_attention", "is_encoder_decoder"):
    read.only(name, False, "towers have no decoder")


def names(
  sizes: dict, *, prefix: str = "{prefix}", table: str = decoder.AS_IT_IS
) -> dict[str, decoder.TensorName]:
  """Path in our tree -> where it is in a folder.

  sizes: as `config` gives them. table: how the table of positions becomes ours.
  """
  vision = sizes["vision"]
  width, ffn, patch = vision["width"], vision["ffn"], vision["patch"]
  cells = (vision["image_size"] // patch) ** 2
  found = {
    "params/vision/stem/kernel": decoder.TensorName(
      f"{prefix}{FIRST}", decoder.PATCHES, (width, COLOURS, patch, patch)
    ),
    "params/vision/position": decoder.TensorName(
      f"{prefix}embeddings.position_embedding.weight", table, (cells, width)
    ),
  }
  for own, key in (
    ("stem/bias", "embeddings.patch_embedding.bias"),
    ("norm/scale", "post_layernorm.weight"),
    ("norm/bias", "post_layernorm.bias"),
  ):
    found[f"params/vision/{own}"] = decoder.TensorName(
      f"{prefix}{key}", decoder.AS_IT_IS, (width,)
    )

  def add(own: str, key: str, transform: str, *shape: int):
    found[BLOCKS + own] = decoder.TensorName(
      f"{prefix}encoder.layers.{{layer}}.{key}",
      transform,
      shape,
      vision["layers"],
    )

  for i in (1, 2):
    for own, key in (("scale", "weight"), ("bias", "bias")):
      add(f"norm{i}/{own}", f"layer_norm{i}.{key}", decoder.AS_IT_IS, width)
  for own, key, out, into in (
    *((n, f"self_attn.{n}_proj", width, width) for n in ("q", "k", "v", "out")),
    ("fc1", "mlp.fc1", ffn, width),
    ("fc2", "mlp.fc2", width, ffn),
  ):
    add(f"{own}/kernel", f"{key}.weight", decoder.TRANSPOSED, out, into)
    add(f"{own}/bias", f"{key}.bias", decoder.AS_IT_IS, out)
  return found


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  pooling = "pooling head: our decoder reads every cell"
  found = [
    decoder.Skipped(f"{prefix}head.*", pooling, True) for prefix, _ in LAYOUTS
  ]
  ids = "*embeddings.position_ids"
  found.append(decoder.Skipped(ids, "0, 1, 2, and so on", False))
  if said["model_type"] in WHOLE:
    text = "text tower: it embeds whole texts, and writes none"
    found += [
      decoder.Skipped(pattern, text, True)
      for pattern in ("text_model.*", "logit_scale", "logit_bias")
    ]
  return tuple(found)
