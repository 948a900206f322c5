"""Folders of released weights that a run starts from, as its config names them.

Where they lie may change in a run; which weights they hold is a digest.
"""

ROLES = ("text", "vision", "from")
PATHS = frozenset(f"init.{role}" for role in ROLES)  # names of settings


def folders(config) -> dict[str, str]:
  """The folders that a config names, by what they are for."""
  return {role: config.init[role] for role in ROLES if config.init[role]}
