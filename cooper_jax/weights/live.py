"""Reference values of a folder: its own class of transformers, run live.

Needs torch and transformers, and a version of it that reads the folder's
config: an older one ignores what it doesn't know, and gives other values.
"""

from pathlib import Path

import numpy as np

from cooper_jax.errors import LIBRARY_FAILS, UserError, cause

SEEING = "vision_config"  # a config with this is of a model that sees


def run(path: Path, config: dict, ids_BL: np.ndarray) -> dict[str, np.ndarray]:
  """logits [B, L, V] and hidden [layers + 1, B, L, D] in float32, of text.

  config: of the folder. Raises UserError with the cause where the class can't
  be imported or doesn't load the folder.
  """
  try:
    import torch
    import transformers

    kind = "ImageTextToText" if SEEING in config else "CausalLM"
    loader = getattr(transformers, f"AutoModelFor{kind}")
    model = loader.from_pretrained(
      path, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    with torch.no_grad():
      ids = torch.from_numpy(np.asarray(ids_BL, np.int64))
      given = model.eval()(input_ids=ids, output_hidden_states=True)
      found = {"logits": given.logits}
      if given.hidden_states:
        found["hidden"] = torch.stack(given.hidden_states)
  except LIBRARY_FAILS as error:
    raise UserError(
      f"--live needs torch and a transformers that reads {path}: {cause(error)}"
    ) from error
  return {name: array.numpy() for name, array in found.items()}
