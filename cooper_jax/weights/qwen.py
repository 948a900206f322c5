"""Qwen2, Qwen2.5 and Qwen3, and the text half of Qwen2.5-VL and Qwen3-VL.

Of the two that see, text alone is the same as in the text models: their three
turning axes are one where no picture is. `qwen_vl` has the rest of them.
"""

from cooper_jax.weights import decoder, fields

SEEING = ("qwen2_5_vl", "qwen3_vl")
MODEL_TYPES = ("qwen2", "qwen3")
# How a folder may call the decoder and the head.
LAYOUTS = (
  ("model.language_model.", "lm_head.weight"),
  ("language_model.model.", "language_model.lm_head.weight"),
  ("language_model.", "lm_head.weight"),
  ("model.", "lm_head.weight"),
  ("", "lm_head.weight"),
)
names = decoder.names
# Ids of what stands for a picture; some versions wrote them in the text half.
IDS_OF_PICTURES = (
  "image_token_id",
  "video_token_id",
  "vision_token_id",
  "vision_start_token_id",
  "vision_end_token_id",
)


def config(said: dict, where: str) -> dict:
  """Fields of `ModelConfig` from a config.json; UserError names what can't be.

  where: how errors name the file.
  """
  model_type = said["model_type"]
  sees, newer = model_type in SEEING, model_type.startswith("qwen3")
  read, top = fields.ConfigFields(said, where), None
  if sees and "text_config" in said:
    top = read
    own = top.get("text_config")
    if not isinstance(own, dict):
      top.refuse("text_config", own, "allowed: an object")
    read = fields.ConfigFields(own, f"{where}: text_config")
    read.only("model_type", f"{model_type}_text", "that is another text model")
    # Some versions wrote the text half's fields a second time, on top.
    top.known |= {name for name in own if said.get(name) == own[name]}
    if not said.get("use_sliding_window"):  # the text half's word counts
      top.known |= {"use_sliding_window", "sliding_window", "max_window_layers"}
  parts = (read, top) if top else (read,)
  if sees:
    parts[-1].known.add("vision_config")
    for each in parts:
      each.known |= set(IDS_OF_PICTURES)
  found = decoder.config(
    read,
    eps=1e-5 if model_type == "qwen2_5_vl" else 1e-6,
    head_dim=128 if newer else None,
  )
  decoder.no_windows(read, found["layers"])
  # `use_mrope` says that there may be pictures.
  read.known.add("use_mrope")
  half = found["head_dim"] // 2 if sees else 0
  found |= fields.rope(read, axes=half, interleaved=newer)
  found |= {"qk_norm": newer, "qkv_bias": not newer}
  if top:
    found["tied_head"] = _tied(top, read)
  else:
    found["tied_head"] = read.flag("tie_word_embeddings", False)
  for each in parts:
    each.finish()
  return found


def _tied(top: fields.ConfigFields, own: fields.ConfigFields) -> bool | None:
  """Whether the head is the embedding, by the whole and by its text half.

  None where their words differ, as defaults of a class were written that no
  model meant, or where neither says: then the tensors tell.
  """
  said = {
    part.flag("tie_word_embeddings")
    for part in (top, own)
    if part.has("tie_word_embeddings")
  }
  return said.pop() if len(said) == 1 else None


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  del said
  return (decoder.FREQUENCIES,)
