"""VQ-16, the image tokenizer of Janus-Pro, by itself or in the whole model."""

from cooper_jax.tokenizers.vqgan import VqganConfig
from cooper_jax.weights import decoder, picture_codes

ALONE, WHOLE = "janus_vqgan", "janus"
MODEL_TYPES = (ALONE, WHOLE)
LAYOUTS, FIRST = picture_codes.LAYOUTS, picture_codes.FIRST_KEY
DEFAULT = VqganConfig()
names = picture_codes.names

# Of training, of what leads from a code to the language model, and of how many
# codes the class will decode at once.
OF_OTHERS = (
  "beta num_patches projection_dim num_hidden_layers hidden_act"
  " image_token_embed_dim".split()
)


def config(said: dict, where: str) -> dict:
  """{"tokenizer": VqganConfig}; UserError names what can't be.

  where: how errors name the file.
  """
  read = picture_codes.own_config(said, where, WHOLE, ALONE)
  picture_codes.colours(read)
  read.known |= set(OF_OTHERS)
  count = picture_codes.count
  found = VqganConfig(
    codes=count(
      read, "num_embeddings", DEFAULT.codes, picture_codes.MOST_CODES
    ),
    code_width=count(read, "embed_dim", DEFAULT.code_width),
    latent=count(read, "latent_channels", DEFAULT.latent),
    **picture_codes.widths(read, DEFAULT),
  )
  read.finish()
  return {picture_codes.SIZES: found}


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  if said["model_type"] == ALONE:
    return ()
  why = "the rest of Janus: of it the image tokenizer alone is imported"
  rest = ("language_model", "vision_model", "aligner", "generation_*")
  patterns = [f"model.{name}.*" for name in rest]
  return tuple(
    decoder.Skipped(pattern, why, True)
    for pattern in (*patterns, "lm_head.weight")
  )
