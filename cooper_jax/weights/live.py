"""Reference values of a folder: its own class of transformers, run live.

Needs torch and transformers, and a version of it that reads the folder's
config: an older one ignores what it doesn't know, and gives other values.
"""

from pathlib import Path

import numpy as np

from cooper_jax.errors import LIBRARY_FAILS, UserError, cause
from cooper_jax.weights import siglip

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
    raise _cant(path, error) from error
  return {name: array.numpy() for name, array in found.items()}


def run_tower(path: Path, config: dict, sizes: dict) -> dict[str, np.ndarray]:
  """What `vision_model.compare_tower` takes, of pictures that are drawn.

  config: of the folder; sizes: fields of `VisionConfig`. Of a tower for any
  shape one picture is no square. Raises UserError as `run` does, and where the
  class finds other tensors than we do.
  """
  own, whole = config.get(SEEING, config), config["model_type"]
  kind = own.get("model_type", f"{whole}_vision_model")
  name = "Siglip2Vision" if kind == siglip.TOWERS[1] else "SiglipVision"
  given = _any_shape(sizes) if kind == siglip.TOWERS[1] else _squares(sizes)
  try:
    import torch
    import transformers

    model, loaded = getattr(transformers, f"{name}Model").from_pretrained(
      path,
      config=getattr(transformers, f"{name}Config")(**own),
      dtype=torch.float32,
      local_files_only=True,
      use_safetensors=True,
      output_loading_info=True,
    )
    lost = sorted(k for k in loaded["missing_keys"] if "head." not in k)
    if lost:  # it would draw them
      raise LookupError(f"it finds no {lost[0]} there")
    names = {"pixels": "pixel_values", "patches": "pixel_values"}
    names |= {"mask": "pixel_attention_mask"}
    inputs = {
      names.get(each, each): torch.from_numpy(array)
      for each, array in given.items()
    }
    with torch.no_grad():
      found = model.eval()(**inputs, output_hidden_states=True)
      # Some versions put the norm behind what the last layer gives.
      hidden = torch.stack(found.hidden_states[: sizes["layers"]])
  except LIBRARY_FAILS as error:
    raise _cant(path, error) from error
  last = found.last_hidden_state.numpy()
  return given | {"hidden": hidden.numpy(), "last_hidden_state": last}


def run_pictures(path: Path, config: dict, sizes: dict) -> dict:
  """What `rows_with_pictures.compare` takes, of pictures that are drawn.

  config: of the folder; sizes: fields of `ModelConfig`. One row of text with
  two pictures, none of which is a square. Raises UserError as `run` does.
  """
  given = _row(config, sizes)
  try:
    import torch
    import transformers

    model = transformers.AutoModelForImageTextToText.from_pretrained(
      path, dtype=torch.float32, local_files_only=True, use_safetensors=True
    ).eval()
    ids, kind, grids = (
      torch.from_numpy(given[name].astype(np.int64))
      for name in ("ids", "kind", "grid_thw")
    )
    own = {"image_grid_thw": grids, "mm_token_type_ids": kind}
    values = torch.from_numpy(given["patches"])
    with torch.no_grad():
      places, _ = model.model.get_rope_index(ids, **own)
      seen = model.model.get_image_features(values, grids).pooler_output
      logits = model(input_ids=ids, pixel_values=values, **own).logits
    seen = seen if isinstance(seen, torch.Tensor) else torch.cat([*seen])
  except LIBRARY_FAILS as error:
    raise _cant(path, error) from error
  return given | {
    "features": seen.numpy(),
    "position_thw": places.numpy().astype(np.int32),
    "logits": logits.numpy(),
  }


def _row(config: dict, sizes: dict) -> dict[str, np.ndarray]:
  """ids, kind, patches and grid_thw of a row with two pictures."""
  rng, vision = np.random.default_rng(0), sizes["vision"]
  grids = vision["merge"] * np.array([[2, 3], [4, 1]])
  cells = grids.prod(axis=1) // vision["merge"] ** 2
  counts = [3, cells[0], 2, cells[1], 4]
  kind = np.repeat([0, 1, 0, 1, 0], counts)[None]
  # Nothing in the text stands for a picture, a film, or their ends.
  own = {each for name, each in config.items() if name.endswith("_token_id")}
  words = [each for each in range(sizes["text"]) if each not in own]
  ids = np.where(
    kind == 1, config["image_token_id"], rng.choice(words, kind.shape)
  )
  values = 3 * vision["frames"] * vision["patch"] ** 2
  patches = rng.normal(size=(grids.prod(axis=1).sum(), values))
  return {
    "ids": ids.astype(np.int32),
    "kind": kind.astype(np.int32),
    "patches": patches.astype(np.float32),
    "grid_thw": np.insert(grids, 0, 1, axis=1).astype(np.int32),
  }


def run_codes(path: Path, config: dict, network) -> dict[str, np.ndarray]:
  """What `picture_codes.compare` takes, of pictures that are drawn.

  config: of the folder; network: its tokenizer's, as it is imported. Raises
  UserError as `run` does.
  """
  name = {"janus": "Janus", "emu3": "Emu3"}[config["model_type"].split("_")[0]]
  is_whole = "vq_config" in config
  kind = f"{name}{'ForConditionalGeneration' if is_whole else 'VQVAE'}"
  try:
    import torch
    import transformers

    model, loaded = getattr(transformers, kind).from_pretrained(
      path,
      dtype=torch.float32,
      local_files_only=True,
      use_safetensors=True,
      output_loading_info=True,
    )
    if loaded["missing_keys"]:  # it would draw them
      raise LookupError(f"it finds no {min(loaded['missing_keys'])} there")
    model = model.eval()
    model = model.model.vqmodel if is_whole else model
    # Janus' class decodes squares of one size alone.
    side = getattr(model.config, "num_patches", 0)
    cells = (side, side) if side else (3, 4)
    shape = (2, 3, *(n * network.factor for n in cells))
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    given = torch.from_numpy(pixels)
    with torch.no_grad():
      if side:
        found = model.encode(given, return_dict=True)
        codes = found.image_tokens.reshape(2, -1)
      else:
        sizes = torch.tensor([shape[2:]] * 2)
        found = model.encode(given, sizes, return_dict=True)
        codes = torch.stack(list(found.image_tokens))
      decoded = model.decode(codes)
  except LIBRARY_FAILS as error:
    raise _cant(path, error) from error
  named = {"codes_raw" if side else "codes": codes.numpy()}
  return {"pixels": pixels, "decoded": decoded.numpy(), **named}


def _squares(sizes: dict) -> dict[str, np.ndarray]:
  side = sizes["image_size"]
  pixels = np.random.default_rng(0).normal(size=(2, 3, side, side))
  return {"pixels": pixels.astype(np.float32)}


def _any_shape(sizes: dict) -> dict[str, np.ndarray]:
  side = sizes["image_size"] // sizes["patch"]
  grids = np.array([[side, side], [side, -(-side // 2)]])
  mask = np.arange(side**2) < grids.prod(axis=1, keepdims=True)
  shape = (*mask.shape, 3 * sizes["patch"] ** 2)
  patches = np.random.default_rng(0).normal(size=shape) * mask[..., None]
  return {
    "patches": patches.astype(np.float32),
    "mask": mask.astype(np.int32),
    "spatial_shapes": grids,
  }


def _cant(path: Path, error: Exception) -> UserError:
  return UserError(
    f"--live needs torch and a transformers that reads {path}: {cause(error)}"
  )
