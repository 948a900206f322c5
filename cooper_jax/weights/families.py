"""Families of released models: which file here reads a folder's config."""

from types import ModuleType

from cooper_jax import plugins
from cooper_jax.errors import UserError

# Parts of names of model types, with what these have that nothing here has.
NOT_YET = {
  "moe": "it is a mixture of experts",
  "mixtral": "it is a mixture of experts",
  "gpt_oss": "it is a mixture of experts",
  "smollm3": "it has layers without positions (NoPE)",
  "gemma": "it has norms of Gemma's, of 1 + weight",
  "qwen3_next": "it has linear attention",
  "qwen3_5": "it has linear attention",
  "phi": "it has partial rotary or fused projections",
  "glm": "it has partial rotary",
}


def find(config: dict, where: str) -> ModuleType:
  """The family of a config.json, by its model_type; UserError if none reads it.

  where: how errors name the file.
  """
  model_type = config.get("model_type")
  known = {}
  for name in plugins.names("weights"):
    module = plugins.find("weights", name)
    known |= dict.fromkeys(module.MODEL_TYPES, module)
  if isinstance(model_type, str) and model_type in known:
    return known[model_type]
  why = [
    f" ({said})" for part, said in NOT_YET.items() if part in str(model_type)
  ]
  raise UserError(
    f"{where}: model_type is {model_type!r}, which is not supported"
    f"{''.join(why[:1])}; allowed: {', '.join(known)}"
  )
