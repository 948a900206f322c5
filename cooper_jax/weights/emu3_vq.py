"""Emu3's image tokenizer, by itself or in the whole model."""

from cooper_jax.tokenizers.movq import MovqConfig
from cooper_jax.weights import decoder, picture_codes

ALONE, WHOLE = "emu3_vqgan", "emu3"
MODEL_TYPES = (ALONE, WHOLE)
LAYOUTS, FIRST = picture_codes.LAYOUTS, picture_codes.FIRST_KEY
DEFAULT = MovqConfig()
names = picture_codes.names


def config(said: dict, where: str) -> dict:
  """{"tokenizer": MovqConfig}; UserError names what can't be.

  where: how errors name the file.
  """
  read = picture_codes.own_config(said, where, WHOLE, ALONE)
  picture_codes.colours(read)
  count = picture_codes.count
  sizes = picture_codes.widths(read, DEFAULT)
  levels = [sizes["width"] * times for times in sizes["multipliers"]]
  width = read.count("hidden_size", 1024)
  attended = picture_codes.numbers(
    read, "attn_resolutions", DEFAULT.attended, 0
  )
  attended = tuple(i for i in range(len(levels)) if i in attended)
  for level in (len(levels) - 1, *attended):
    if levels[level] != width:
      read.refuse(
        "hidden_size", width, f"the level {level} has {levels[level]} channels"
      )
  heads = read.count("num_attention_heads", DEFAULT.heads)
  if width % heads:
    read.refuse("num_attention_heads", heads, f"it does not divide {width}")
  frames = count(
    read,
    "temporal_downsample_factor",
    DEFAULT.frames,
    picture_codes.MOST_FRAMES,
  )
  if frames & (frames - 1):
    read.refuse(
      "temporal_downsample_factor", frames, "allowed: powers of 2, as 4"
    )
  code_width = count(read, "embed_dim", DEFAULT.code_width)
  read.only(
    "latent_channels", code_width, "the decoder reads both by one and the same"
  )
  found = MovqConfig(
    codes=count(read, "codebook_size", DEFAULT.codes, picture_codes.MOST_CODES),
    code_width=code_width,
    attended=attended,
    heads=heads,
    frames=frames,
    **sizes,
  )
  read.finish()
  return {picture_codes.SIZES: found}


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  steps = decoder.Skipped(
    "*time_res_stack.*.num_batches_tracked", "steps of its training", True
  )
  if said["model_type"] == ALONE:
    return (steps,)
  why = "the rest of Emu3: of it the image tokenizer alone is imported"
  patterns = ("model.text_model.*", "text_model.*", "lm_head.weight")
  more = [decoder.Skipped(pattern, why, True) for pattern in patterns]
  return (steps, *more)
