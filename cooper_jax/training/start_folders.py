"""Folders of released weights that a run starts from, as its config names them.

Where they lie may change in a run; which weights they hold is a digest.
"""

import dataclasses
from pathlib import Path

from cooper_jax import plugins

ROLES = ("text", "vision", "from")
# Names of settings.
PATHS = frozenset(
  f"init.{each}"
  for each in (
    *ROLES,
    *(f"tokenizer.{name}" for name in plugins.names("modalities")),
  )
)
# Parameters that the folder of a role has, by patterns of their names; of
# tables the first rows.
_TEXT = ("decoder/*", "embedding", "head")
IMPORTED = {
  "text": _TEXT,
  "vision": (
    "vision/stem/*", "vision/position", "vision/blocks/*", "vision/norm/*",
    "vision/merger/*", "vision/deepstack/*",
  ),
  "from": (*_TEXT, "vision/*"),
}  # fmt: skip


def maps_of(value: str) -> dict[str, str]:
  """One value for each modality that there is."""
  return dict.fromkeys(plugins.names("modalities"), value)


@dataclasses.dataclass(frozen=True)
class InitSettings:
  """Folders of released weights that the first stage begins with."""

  # Folder of a model of text: decoder, embedding, head and tokenizer; "" =
  # none.
  text: str = ""
  vision: str = ""  # folder of a model whose image tower is taken; "" = none
  from_: str = ""  # folder of a model that sees and speaks; "" = none
  # Folder of an image tokenizer, by modality; "" = trained here.
  tokenizer: dict[str, str] = dataclasses.field(
    default_factory=lambda: maps_of("")
  )
  # Codes of a VQ-16 are those nearest by angle, as it was trained; False: by
  # distance, as transformers has it.
  by_angle: bool = True
  # Sizes and digest of each image tokenizer, noted when a run begins; "" = one
  # is trained here.
  networks: dict[str, str] = dataclasses.field(
    default_factory=lambda: maps_of("")
  )
  # Digest of each folder's weights, noted when a run begins; "" = any.
  digests: dict[str, str] = dataclasses.field(
    default_factory=lambda: dict.fromkeys(ROLES, "")
  )


def folders(config) -> dict[str, str]:
  """The folders that a config names, by what they are for."""
  init = config.init
  paths = (init.text, init.vision, init["from"])
  return {role: path for role, path in zip(ROLES, paths) if path}


def imported(config) -> tuple[str, ...]:
  """Patterns of the parameters that the folders of a config have."""
  return tuple(name for role in folders(config) for name in IMPORTED[role])


def begins_grpo(config, workdir) -> bool:
  """Whether GRPO begins with the folders: nothing trained the policy before.

  A stage did that is in the pipeline, or left its checkpoints in the workdir.
  """
  return bool(folders(config)) and not any(
    stage in config.pipeline or (Path(workdir) / stage / "checkpoints").is_dir()
    for stage in ("pretrain", "sft")
  )
