"""Llama, SmolLM2, and Mistral without windows, as transformers has them."""

from cooper_jax.weights import decoder, fields

MODEL_TYPES = ("llama", "mistral")
# How a folder may call the decoder and the head.
LAYOUTS = (("model.", "lm_head.weight"), ("", "lm_head.weight"))
names = decoder.names


def config(said: dict, where: str) -> dict:
  """Fields of `ModelConfig` from a config.json; UserError names what can't be.

  where: how errors name the file.
  """
  read = fields.ConfigFields(said, where)
  is_llama = said["model_type"] == "llama"
  found = decoder.config(read, kv_heads=None if is_llama else 8)
  # Mistral has a window unless its config says null.
  decoder.no_window(read, found["layers"], absent=None if is_llama else 4096)
  # Early folders of Llama name no base of the wavelengths: it was a constant.
  theta = 10_000.0 if is_llama else fields.REQUIRED
  found |= fields.rope(read, theta=theta)
  found |= {"qk_norm": False, "qkv_bias": False}
  found["tied_head"] = read.flag("tie_word_embeddings", False)
  read.finish()
  return found


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  del said
  return (decoder.FREQUENCIES,)
