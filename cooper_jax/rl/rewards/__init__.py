"""Rewards, one per file: `reward(view, columns, config) -> [R]`, NaN abstains.

A file here is found by its name (`plugins.find("rewards", name)`). It holds a
frozen `Config` with its settings, each with a default, and a pure `reward`; a
`check(config)`, where it has one, refuses at start-up what a default can't be.
The view and the columns are read-only, and no reward sees another's result, so
the order of the rewards can not matter. Each modality is a reward as well: how
good its drawn maps are (`map_quality.py`).
"""

from cooper_jax import plugins
from cooper_jax.rl.rewards import map_quality


def derived() -> list[str]:
  """Rewards without a file of their own: the modalities."""
  return plugins.names("modalities")


def derive(name: str):
  """The reward of a modality's maps."""
  return map_quality.of(name)
