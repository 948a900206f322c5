"""Settings that the result of a stage depends on, and those that are free.

A stage depends on its own section of the config and on those of the stages
before it, less what only says how a run is watched or where it runs.
"""

from cooper_jax.training import settings_version, start_folders
from cooper_jax.training.json_files import flat, plain

# Sections of the config that a stage is the first to depend on; it depends
# on those of the stages before it as well.
COMMON = ("init_from", "init_as", "seed", "precision", "text_rows")
COMMON += ("text_digest", "modalities", "maps", "world", "data", "init")
SECTIONS = {
  "tokenizer": ("tokenizer",),
  "pretrain": ("model", "lora", "pretrain"),
  "sft": ("lora", "sft"),
  "grpo": ("lora", "sampling", "grpo"),
  "evaluate": ("sampling", "evaluate"),
}
# Settings that change how a run is watched or where it runs, not its result.
FREE = frozenset(
  "log_every save_every image_every keep expected_minutes workers cache "
  "in_memory rows remat attention unroll kept_logits_mib prompt_buckets "
  "micro_batches".split()
)
# As free, but only here: in other sections these names change what is learned.
FREE_HERE = frozenset(["evaluate.batch", "evaluate.reuse", "grpo.bins"])
# What these name is noted beside them; an export comes after a stage.
FREE_HERE |= {*start_folders.PATHS, "maps.segmentation.classes", "lora.export"}
# Where the last parameters are taken, validation only watches.
FREE_LAST = FREE_HERE | {"grpo.validate_every", "grpo.validation_questions"}


def of(config, stage: str) -> dict:
  """Gives the settings that the result of a stage depends on, flat."""
  pipeline = list(config.pipeline)
  before = pipeline[: pipeline.index(stage)]
  sections = list(COMMON)
  for name in [*before, stage]:
    sections += SECTIONS.get(name, (name,))
  settings = flat({name: plain(config[name]) for name in sections})
  # Settings of a source or a reward that is not used change nothing.
  used = [s.partition(":")[0].strip() for s in config.data.source.split(",")]
  below = [f"data.settings.{n}." for n in config.data.settings if n not in used]
  if "grpo" in sections:
    off = [n for n, w in config.grpo.rl.rewards.items() if w is None]
    below += [f"grpo.rl.settings.{name}." for name in off]
    gone = {f"grpo.rl.rewards.{each}" for each in off}
    settings = {k: v for k, v in settings.items() if k not in gone}
  adapted = [s for s in [*before, stage] if s in config.lora.stages]
  settings["lora.stages"] = adapted  # of later ones nothing depends on it
  below += [] if adapted and config.lora.rank else ["lora."]
  below = tuple(below)
  settings = {k: v for k, v in settings.items() if not k.startswith(below)}
  if settings["init_as"] == "sft":  # as it is where nothing is said of it
    del settings["init_as"]
  return bound(settings) | {"after": before}


def bound(settings: dict) -> dict:
  """Those of flat settings that may not change in a workdir."""
  free = FREE_HERE if settings.get("grpo.result") == "best" else FREE_LAST
  return {
    name: value
    for name, value in settings_version.without_added(settings).items()
    if name not in free and name.rsplit(".", 1)[-1] not in FREE
  }
