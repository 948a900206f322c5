"""The version of the settings' names, by which old runs and packages are known.

A run that goes on under other names would train everything anew without a
word; it is refused, and the line says which code made it.
"""

import itertools
from pathlib import Path

from cooper_jax.errors import UserError

SETTINGS_VERSION = 2  # raised when a setting is renamed or moved
# Settings that came since, with the value that runs and packages had which do
# not know them. Having it, they are not noted: an older run goes on.
ADDED = {
  "data.fit": "squash",
  "data.tell_lens": False,
  "evaluate.replacements": ["own", "other", "true"],
  "grpo.flag_margin": 0.25,
  "grpo.flag_questions": 0,
  "grpo.flag_rollouts": 0,
  "grpo.order": "random",
  "grpo.phrasings": "usual",
  "grpo.result": "last",
  "grpo.rl.minibatches": 1,
  "grpo.rl.settings.answer.graded_by": "mra",
  "grpo.rl.settings.answer.width": 0.1,
  "grpo.rl.settings.exploration.negative_share": -1.0,
  "grpo.skip_scenes": 0,
  "grpo.validate_every": 0,
  "grpo.validation_questions": 256,
  "init.by_angle": True,
  "init.digests.from": "",
  "init.digests.text": "",
  "init.digests.vision": "",
  "init.from": "",
  "init.text": "",
  "init.vision": "",
  "lora.alpha": 32.0,
  "lora.base_dtype": "auto",
  "lora.export": "none",
  "lora.full": "own",
  "lora.match": "decoder/blocks/*",
  "lora.rank": 0,
  "lora.stages": ["pretrain", "sft", "grpo"],
  "maps.depth.farthest": 20.0,
  "maps.depth.least_valid": 0.5,
  "maps.depth.nearest": 0.2,
  "maps.segmentation.classes": "world",
  "maps.segmentation.least_valid": 0.5,
  "maps.segmentation.names": [],
  "model.causal_cells": False,
  "model.one_position": False,
  "model.rope_interleaved": False,
  "model.rope_llama3": [],
  "model.rope_sections": [],
  "model.vision.cell_table": False,
  "model.vision.deepstack": [],
  "model.vision.deviation": [0.5, 0.5, 0.5],
  "model.vision.frames": 1,
  "model.vision.full_layers": [],
  "model.vision.gated": False,
  "model.vision.mean": [0.5, 0.5, 0.5],
  "model.vision.merge": 0,
  "model.vision.norm": "layer",
  "model.vision.norm_eps": 1e-6,
  "model.vision.position": "grid",
  "model.vision.position_side": 0,
  "model.vision.rope_theta": 0.0,
  "model.vision.stem_bias": True,
  "model.vision.window": 0,
  "pretrain.any_order": False,
  "pretrain.exchanged_maps": False,
  "pretrain.extra_sizes": 0,
  "pretrain.families": [],
  "pretrain.without_lengths": False,
  "sampling.code_min_p": 0.0,
  "sampling.code_top_k": 0,
  "sampling.code_top_p": 1.0,
  "sampling.min_p": 0.0,
  "sampling.top_k": 0,
  "sampling.top_p": 1.0,
  "sft.any_order": False,
  "sft.direct_families": [],
  "sft.extra_sizes": 0,
  "sft.view_dropout": 0.0,
  "sft.families": [],
  "sft.phrasings": "usual",
  "sft.scenes": 0,
  "text_digest": "",
  "text_folder": "",
  "trackers": [],
  "world.camera_height": [0.9, 2.2],
  "world.derive": [],
  "world.field_of_view": [44.0, 72.0],
  "world.near_misses": False,
  "world.object_size": 1.0,
}
# The same of settings that each modality has: they were "".
BY_MODALITY = ("init.tokenizer.", "init.networks.")


SHORT = 120  # characters of two lists that are shown whole
# Differences that a line names; more is another recipe, which nobody types.
MOST_DIFFERENCES = 8


def made_by(saved: dict) -> str:
  """In: {"version": 1, "commit": "c0ffee"}   Out: "version 1, commit c0ffee".

  saved: `version`, 1 where nothing is said, and, where that was noted, `commit`
  or a list of what it was made `by`.
  """
  commits = [each.get("commit") for each in (*saved.get("by", ()), saved)]
  commits = [each for each in commits if each]
  version = f"version {saved.get('version', 1)}"
  return f"{version}, commit {commits[-1]}" if commits else version


def check(saved: dict, path: Path) -> None:
  """Raises UserError where a file of a run has names of another version."""
  if saved.get("version", 1) != SETTINGS_VERSION:
    raise UserError(
      f"{path} holds settings of {made_by(saved)}; this code has version"
      f" {SETTINGS_VERSION}, with other names: take another --workdir, or go on"
      " with the code that made it"
    )


def without_added(settings: dict) -> dict:
  """Flat settings less those that say what was so before they were there."""
  return {
    name: value
    for name, value in settings.items()
    if (name not in ADDED or value != ADDED[name])
    and (value or not name.startswith(BY_MODALITY))
  }


def completed(config: dict) -> dict:
  """A saved config with the settings and sections that came to its top."""
  missing: dict = {}
  for name, value in ADDED.items():
    top, *below = name.split(".")
    if top in config:
      continue
    here = missing
    for part in [top, *below][:-1]:
      here = here.setdefault(part, {})
    here[(below or [top])[-1]] = value
  return missing | config


def paired(one: dict, other: dict) -> tuple[dict, dict]:
  """Two flat settings, each with what an added setting of the other was."""
  there = {n: ADDED[n] for n in one.keys() | other.keys() if n in ADDED}
  return there | one, there | other


def several(differences: list[str]) -> str:
  """Differences in one line: all that can be given on a command line."""
  shown = "; ".join(differences[:MOST_DIFFERENCES])
  rest = len(differences) - MOST_DIFFERENCES
  return f"{shown}; and {rest} more" if rest > 0 else shown


def differing(name: str, there: dict, here: dict) -> str:
  """How a setting of two flat ones differs; of long lists, where.

  In: "seed", {"seed": 1}, {"seed": 2}   Out: "seed is 1 there and 2 here"
  """
  one, other = there.get(name, "absent"), here.get(name, "absent")
  lists = isinstance(one, list) and isinstance(other, list)
  if not lists or len(f"{one}{other}") < SHORT:
    return f"{name} is {one} there and {other} here"
  pairs = enumerate(itertools.zip_longest(one, other))
  place, (first, second) = next(p for p in pairs if p[1][0] != p[1][1])
  return (
    f"{name} has {len(one)} entries there and {len(other)} here, entry {place}"
    f" is {first!r} there and {second!r} here"
  )
