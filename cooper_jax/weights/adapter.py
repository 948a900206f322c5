"""PEFT's form of LoRA: `adapter_model.safetensors` and `adapter_config.json`.

The layers' names are those that the model's class has on the hub, so that PEFT
loads the adapter beside the folder that it was trained from.
"""

import dataclasses
import json

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.weights import decoder, headers, qwen_vl, writing
from cooper_jax.weights.importing import ImportPlan

ADAPTER_WEIGHTS, ADAPTER_CONFIG = (
  "adapter_model.safetensors",
  "adapter_config.json",
)
INSIDE = "base_model.model."  # what PEFT calls the model that it wraps
EMBEDDING, TIED_HEAD = "params/embedding", "lm_head"
# What a class of transformers calls its decoder, where a folder may call it
# otherwise; others are as the folder has them.
CLASS_PREFIX = {
  "qwen2_5_vl": "model.language_model.",
  "qwen3_vl": "model.language_model.",
}
CLASS_PREFIX |= dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), "model.")
STEM, CLASS_TOWER = "params/vision/stem/kernel", "model.visual."  # of Qwen-VL


@dataclasses.dataclass(frozen=True)
class LayerUpdate:
  """A and B of one layer of ours, as numpy arrays.

  y = x W + scale x A B: a [.., in, rank], b [.., rank, out], layers in front.
  """

  a: np.ndarray
  b: np.ndarray


def write(
  planned: ImportPlan, target, *, updates: dict, whole: dict, scale: float
) -> list[str]:
  """Writes what a folder's model can hold of LoRA; gives what it can't.

  updates: `LayerUpdate` of each layer, by its path in our tree; whole: leaves
  that are trained in full, by path; scale: what A B counts. What has no place
  in the folder's model is named, a line each, and left out. Layers that are one
  there, as a tower's q, k and v, are one update of all their ranks. Raises
  UserError where nothing is left.
  """
  tensors, modules, left_out = {}, {}, []
  for path, update in updates.items():
    kernel = f"{path}/kernel"
    name = planned.names.get(kernel)
    if name is None or name.transform != decoder.TRANSPOSED:
      why = "the folder's model has no such layer"
      why = why if name is None else "it is no product there"
      left_out.append(f"A and B of {path}: {why}")
      continue
    which, count = name.part
    for layer, key in enumerate(planned.keys[kernel]):
      a, b = (x[layer] if name.is_stacked else x for x in (update.a, update.b))
      wide = np.zeros((len(b), count, b.shape[-1]), np.float32)
      wide[:, which] = b
      parts = modules.setdefault(_module(planned, key), [])
      parts.append((a, wide.reshape(len(b), -1)))
  for module, parts in modules.items():
    a = np.concatenate([a for a, _ in parts], axis=1)
    b = np.concatenate([b for _, b in parts], axis=0)
    tensors[f"{INSIDE}{module}.lora_A.weight"] = a.T
    tensors[f"{INSIDE}{module}.lora_B.weight"] = b.T
  ranks = {m: sum(a.shape[1] for a, _ in parts) for m, parts in modules.items()}
  saved = []
  for path, leaf in whole.items():
    keys = planned.keys.get(path, ())
    held = {_module(planned, key) for key in keys}
    if not keys or held & modules.keys():
      why = "the folder's model has it not"
      left_out.append(
        f"{path}: {'PEFT adapts that layer or trains it' if keys else why}"
      )
      continue
    name = planned.names[path]
    if name.part[1] > 1:
      left_out.append(f"{path}: it is a part of a tensor there")
      continue
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
      modules_of = [_module(planned, key)]
      if path == EMBEDDING and planned.sizes.get("tied_head"):
        # PEFT trains a copy of a table: the head, tied to the one that was
        # there, needs its own.
        modules_of.append(TIED_HEAD)
      for module in modules_of:
        saved.append(module)
        tensors[f"{INSIDE}{module}.{last}"] = part
  if not modules:
    raise UserError(
      f"{planned.source.path} has none of the layers that have A and B:"
      f" {', '.join(updates)}; set config.lora.match"
    )
  said = settings(planned, ranks, saved, scale=scale)
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
  planned: ImportPlan, ranks: dict[str, int], saved, *, scale: float
) -> dict:
  """Fields of `adapter_config.json`.

  ranks: by layer; those that are not the lowest one are listed.
  """
  rank = min(ranks.values())
  others = {module: each for module, each in ranks.items() if each != rank}
  return {
    "alpha_pattern": {module: scale * each for module, each in others.items()},
    "base_model_name_or_path": str(planned.source.path),
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": scale * rank,
    "lora_dropout": 0.0,
    "modules_to_save": sorted(set(saved)) or None,
    "peft_type": "LORA",
    "r": rank,
    "rank_pattern": others,
    "target_modules": _targets(planned, ranks),
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
  if wanted is None or key.startswith("lm_head."):
    return module
  for path, first, own in (
    (STEM, qwen_vl.FIRST_OF_TOWER, CLASS_TOWER),
    (EMBEDDING, "embed_tokens.weight", wanted),
  ):
    if path in planned.keys:
      prefix = planned.keys[path][0].removesuffix(first)
      if module.startswith(prefix):
        return own + module.removeprefix(prefix)
  return module
