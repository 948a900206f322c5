"""The version of the settings' names, by which old runs and packages are known.

A run that goes on under other names would train everything anew without a
word; it is refused, and the line says which code made it.
"""

from pathlib import Path

from cooper_jax.errors import UserError

SETTINGS_VERSION = 2  # raised when a setting is renamed or moved
# Settings that came since, with the value that runs and packages had which do
# not know them. Having it, they are not noted: an older run goes on.
ADDED = {
  "evaluate.replacements": ["own", "other", "true"],
  "grpo.phrasings": "usual",
  "grpo.skip_scenes": 0,
  "init.digests.from": "",
  "init.digests.text": "",
  "init.digests.vision": "",
  "init.from": "",
  "init.text": "",
  "init.vision": "",
  "model.one_position": False,
  "model.rope_llama3": [],
  "model.vision.cell_table": False,
  "model.vision.norm_eps": 1e-6,
  "pretrain.exchanged_maps": False,
  "pretrain.families": [],
  "pretrain.without_lengths": False,
  "sft.direct_families": [],
  "sft.families": [],
  "sft.scenes": 0,
  "text_digest": "",
  "text_folder": "",
  "world.camera_height": [0.9, 2.2],
  "world.field_of_view": [44.0, 72.0],
  "world.object_size": 1.0,
}
# The same of settings that each modality has: they were "".
BY_MODALITY = "init.tokenizer."


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
  """A saved config with what came since: settings of its top, and `init`."""
  found = {name: ADDED[name] for name in ADDED if "." not in name} | config
  if "init" not in config:
    found["init"] = _nested("init.")
  return found


def _nested(prefix: str) -> dict:
  """A section of the added settings, whose names begin with a prefix."""
  found = {}
  for name in ADDED:
    if name.startswith(prefix):
      *sections, last = name.removeprefix(prefix).split(".")
      here = found
      for section in sections:
        here = here.setdefault(section, {})
      here[last] = ADDED[name]
  return found


def paired(one: dict, other: dict) -> tuple[dict, dict]:
  """Two flat settings, each with what an added setting of the other was."""
  there = {n: ADDED[n] for n in one.keys() | other.keys() if n in ADDED}
  return there | one, there | other
