"""Settings that the parameters of a package depend on, and which differ."""

from cooper_jax.training import json_files, settings_version, stage_settings
from cooper_jax.world.config import VIEWS

# How they were trained. A setting that the package did not know is no
# difference there: it says what another training would do.
LEARNED = ("tokenizer.", "pretrain.", "sft.")
# In these a world may differ from the package's: its maps and words are alike.
VIEWED = tuple(f"world.{name}" for name in VIEWS)


def differences(made, config, sections) -> tuple[list[str], list[str]]:
  """(how cameras, lenses or sizes of the world differ, how all else does).

  made: the config of a package; sections: what counts of both.
  """
  there, here = settings_version.paired(
    *(_settings(each, sections) for each in (made, config))
  )
  found = {
    name: settings_version.differing(name, there, here)
    for name in sorted(there.keys() | here.keys())
    if there.get(name, "absent") != here.get(name, "absent")
    and (_is_strict(name) or (name in there and name in here))
  }
  seen = [said for name, said in found.items() if name in VIEWED]
  return seen, [each for each in found.values() if each not in seen]


def _is_strict(name: str) -> bool:
  """Whether a setting that one side does not know is a difference."""
  return not name.startswith(LEARNED) or name.startswith("tokenizer.network.")


def _settings(config, sections) -> dict:
  """What the parameters depend on; how they were sharded is not in it."""
  config = json_files.plain(config)
  parts = {name: config.get(name, {}) for name in sections}
  seen = ("image_size", "fit", "tell_lens")
  parts["data"] = {n: v for n, v in config["data"].items() if n in seen}
  # Older packages know neither; they have our own text and a row a token.
  parts["text_digest"] = config.get("text_digest", "")
  parts["text_rows"] = config.get("text_rows", 0)
  noted = config.get("init", {}).get("networks", {})
  parts["init.networks"] = {n: said for n, said in noted.items() if said}
  return {
    name: value
    for name, value in json_files.flat(parts).items()
    if name.rsplit(".", 1)[-1] not in stage_settings.FREE
    and name not in stage_settings.FREE_HERE
  }
