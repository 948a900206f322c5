"""Plug-ins: modules of a folder, found by their file name.

There is no registry to keep in step and no decorator to forget: the file
`cooper_jax/modalities/depth.py` is the modality "depth". A package's
`__path__` may be extended to look in further folders.

A package of plug-ins may hold two functions: `complete(module)` gives a plug-in
the defaults of what it leaves out, `derived()` names plug-ins that have no file
of their own, which `derive(name)` makes: of each modality, a reward.
"""

import importlib
import pkgutil
from types import ModuleType

from cooper_jax.errors import UserError, nearest

KINDS = {
  "modalities": "cooper_jax.modalities",
  "rewards": "cooper_jax.rl.rewards",
  "sources": "cooper_jax.data.sources",
  "benchmarks": "cooper_jax.eval.benchmarks",
  "families": "cooper_jax.world.questions.families",
  "stages": "cooper_jax.stages",
  "weights": "cooper_jax.weights",
}
SINGULAR = {
  "modalities": "modality",
  "rewards": "reward",
  "sources": "source",
  "benchmarks": "benchmark",
  "families": "question family",
  "stages": "stage",
  "weights": "weights family",
}
# Files in a plug-in folder that are machinery, not plug-ins.
MACHINERY = {
  "modalities": {
    "class_ids",
    "class_lists",
    "colour_codes",
    "depth_files",
    "depth_pictures",
    "valid_share",
  },
  "rewards": {"map_quality"},
  "stages": {"supervised", "tokenizer_scores"},
  "weights": {
    "adapter",
    "convert",
    "decoder",
    "exporting",
    "families",
    "fields",
    "folder",
    "headers",
    "importing",
    "live",
    "origins",
    "picture_codes",
    "picture_start",
    "rows_with_pictures",
    "starting",
    "streaming",
    "text_model",
    "verify",
    "vision_model",
    "writing",
  },
}


def _package(kind: str) -> ModuleType:
  if kind not in KINDS:
    raise UserError(
      f'no kind of plug-in "{kind}"; there are {", ".join(KINDS)}'
      f"{nearest(kind, KINDS)}"
    )
  return importlib.import_module(KINDS[kind])


def names(kind: str) -> list[str]:
  """Lists the plug-ins of a kind, sorted."""
  return sorted(_files(kind) | set(_derived(kind)))


def _files(kind: str) -> set[str]:
  found = {
    module.name
    for module in pkgutil.iter_modules(_package(kind).__path__)
    if not module.name.startswith("_")
  }
  return found - MACHINERY.get(kind, set())


def _derived(kind: str) -> list[str]:
  return getattr(_package(kind), "derived", list)()


def find(kind: str, name: str) -> ModuleType:
  """Imports the plug-in `name`, or raises UserError naming what exists."""
  package = _package(kind)
  if name not in _files(kind):
    check(kind, name)
    return package.derive(name)
  module = importlib.import_module(f"{KINDS[kind]}.{name}")
  if hasattr(package, "complete"):
    package.complete(module)
  return module


def check(kind: str, name: str) -> None:
  """Raises UserError unless the plug-in exists; imports no plug-in."""
  available = names(kind)
  if name not in available:
    folder = KINDS[kind].replace(".", "/")
    raise UserError(
      f'no {SINGULAR[kind]} "{name}"; available: '
      f"{', '.join(available) or 'none'} (files in {folder}/)"
      f"{nearest(name, available)}"
    )
