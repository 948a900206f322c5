"""Qwen2, Qwen2.5 and Qwen3, and the text half of Qwen2.5-VL and Qwen3-VL.

Of the two that see, text alone is the same as in the text models: their three
turning axes are one where no picture is. The vision tower is left where it is.
"""

from cooper_jax.weights import decoder, fields

SEEING = ("qwen2_5_vl", "qwen3_vl")
MODEL_TYPES = ("qwen2", "qwen3", *SEEING)
# How a folder may call the decoder and the head.
LAYOUTS = (
  ("model.language_model.", "lm_head.weight"),
  ("language_model.model.", "language_model.lm_head.weight"),
  ("language_model.", "lm_head.weight"),
  ("model.", "lm_head.weight"),
  ("", "lm_head.weight"),
)
# Ids of what stands for a picture, and the tower that is not imported.
OF_PICTURES = (
  "vision_config",
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
  sees = model_type in SEEING
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
  if sees:
    (top or read).known |= set(OF_PICTURES)
  found = decoder.config(read)
  decoder.no_windows(read, found["layers"], used=False)
  # `use_mrope` says that there may be pictures.
  read.known.add("use_mrope")
  found |= fields.rope(read, axes=sees)
  with_norms = model_type.startswith("qwen3")
  found |= {"qk_norm": with_norms, "qkv_bias": not with_norms}
  # The whole model's word on its head counts before that of its text half.
  tied = read.flag("tie_word_embeddings", False)
  found["tied_head"] = top.flag("tie_word_embeddings", tied) if top else tied
  for each in (read, top) if top else (read,):
    each.finish()
  return found


def names(sizes: dict) -> dict[str, decoder.TensorName]:
  """Path in our tree -> where it is in a folder."""
  return decoder.names(sizes)


def skipped(said: dict) -> tuple[decoder.Skipped, ...]:
  """What a folder may hold and is not imported."""
  found = [decoder.FREQUENCIES]
  if said["model_type"] in SEEING:
    why = "vision tower: of this model, text alone is imported"
    found += [
      decoder.Skipped(pattern, why, True)
      for pattern in ("model.visual.*", "visual.*")
    ]
  return tuple(found)
