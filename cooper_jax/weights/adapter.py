"""PEFT's form of LoRA: `adapter_model.safetensors` and `adapter_config.json`.

The layers' names are those that the model's class has on the hub, so that PEFT
loads the adapter beside the folder that it was trained from.
"""

import dataclasses
import json

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.weights import decoder, headers, writing
from cooper_jax.weights.importing import ImportPlan

ADAPTER_WEIGHTS, ADAPTER_CONFIG = (
  "adapter_model.safetensors",
  "adapter_config.json",
)
INSIDE = "base_model.model."  # what PEFT calls the model that it wraps
EMBEDDING = "params/embedding"
# What a class of transformers calls its decoder, where a folder may call it
# otherwise; others are as the folder has them.
CLASS_PREFIX = {
  "qwen2_5_vl": "model.language_model.",
  "qwen3_vl": "model.language_model.",
}
CLASS_PREFIX |= dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), "model.")


@dataclasses.dataclass(frozen=True)
class LayerUpdate:
  """A and B of one layer of ours, as numpy arrays.

  y = x W + scale x A B: a [.., in, rank], b [.., rank, out], layers in front.
  """

  a: np.ndarray
  b: np.ndarray


def write(
  planned: ImportPlan, target, *, updates: dict, whole: dict, alpha: float
) -> list[str]:
  """Writes what a folder's model can hold of LoRA; gives what it can't.

  updates: `LayerUpdate` of each layer, by its path in our tree; whole: leaves
  that are trained in full, by path; alpha: of PEFT's alpha / rank. What has no
  place in the folder's model is named, a line each, and left out. Raises
  UserError where nothing is left, or where the ranks differ.
  """
  tensors, modules, left_out = {}, [], []
  for path, update in updates.items():
    kernel = f"{path}/kernel"
    name = planned.names.get(kernel)
    if name is None or name.transform != decoder.TRANSPOSED:
      why = "the folder's model has no such layer"
      why = why if name is None else "it is no product there"
      left_out.append(f"A and B of {path}: {why}")
      continue
    for layer, key in enumerate(planned.keys[kernel]):
      module = _module(planned, key)
      modules.append(module)
      parts = (x[layer] if name.is_stacked else x for x in (update.a, update.b))
      for side, part in zip("AB", parts, strict=True):
        tensors[f"{INSIDE}{module}.lora_{side}.weight"] = part.T
  saved = []
  for path, leaf in whole.items():
    keys = planned.keys.get(path, ())
    held = {_module(planned, key) for key in keys}
    if not keys or held & set(modules):
      why = "the folder's model has it not"
      left_out.append(
        f"{path}: {'PEFT adapts that layer or trains it' if keys else why}"
      )
      continue
    name = planned.names[path]
    for layer, key in enumerate(keys):
      part = np.asarray(leaf[layer] if name.is_stacked else leaf)
      if name.transform == decoder.FIRST_ROWS:
        part = part[: name.shape[0]]
      elif name.transform == decoder.TRANSPOSED:
        part = part.T
      elif name.transform != decoder.AS_IT_IS:
        raise UserError(
          f"{path} is trained in full and is {name.transform} in"
          f" {planned.source.path}, which PEFT's form has not; export merged"
        )
      _, _, last = key.rpartition(".")
      module = _module(planned, key)
      saved.append(module)
      tensors[f"{INSIDE}{module}.{last}"] = part
  if not modules:
    raise UserError(
      f"{planned.source.path} has none of the layers that have A and B:"
      f" {', '.join(updates)}; set config.lora.match"
    )
  ranks = {update.a.shape[-1] for update in updates.values()}
  if len(ranks) > 1:
    raise UserError(
      f"layers have A and B of ranks {sorted(ranks)}, PEFT's form has one;"
      " export merged"
    )
  said = settings(planned, modules, saved, rank=ranks.pop(), alpha=alpha)
  size = sum(part.nbytes for part in tensors.values()) + 2**16
  writing.check_outside(target, planned.source.path)
  with writing.new_folder(target, size=size) as made:
    headers.write_file(
      made / ADAPTER_WEIGHTS,
      {key: ("F32", part.shape) for key, part in tensors.items()},
      lambda key: np.ascontiguousarray(tensors[key], np.float32),
      {"format": "pt"},
    )
    text = json.dumps(said, indent=2, sort_keys=True) + "\n"
    (made / ADAPTER_CONFIG).write_text(text, "utf-8")
  return left_out


def settings(
  planned: ImportPlan, modules, saved, *, rank: int, alpha: float
) -> dict:
  """Fields of `adapter_config.json`."""
  return {
    "alpha_pattern": {},
    "base_model_name_or_path": str(planned.source.path),
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": alpha,
    "lora_dropout": 0.0,
    "modules_to_save": sorted(set(saved)) or None,
    "peft_type": "LORA",
    "r": rank,
    "rank_pattern": {},
    "target_modules": _targets(planned, modules),
    "task_type": "CAUSAL_LM" if EMBEDDING in planned.keys else None,
    "use_dora": False,
    "use_rslora": False,
  }


def _targets(planned: ImportPlan, modules) -> list[str]:
  """The last parts of the layers' names, where those name no other; or whole.

  PEFT adapts every layer whose name ends with one.
  """
  short = {module.rpartition(".")[2] for module in modules}
  known = {key.rpartition(".")[0] for key in planned.source.tensors}
  known = {_module(planned, f"{each}.weight") for each in known}
  meant = {each for each in known if each.rpartition(".")[2] in short}
  return sorted(short if meant == set(modules) else set(modules))


def _module(planned: ImportPlan, key: str) -> str:
  """What the model's class calls the layer of a tensor."""
  module = key.rpartition(".")[0]
  wanted = CLASS_PREFIX.get(planned.source.config.get("model_type"))
  if wanted is None or EMBEDDING not in planned.keys:
    return module
  prefix = planned.keys[EMBEDDING][0].removesuffix("embed_tokens.weight")
  if module.startswith(prefix) and not key.startswith("lm_head."):
    return wanted + module.removeprefix(prefix)
  return module
