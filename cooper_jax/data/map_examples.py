"""Training maps of the tokenizers: which samples have one, and its arrays.

Own data may lack a map everywhere, or for most images. A source says with
`kind(index)` which samples are alike, so that one of each kind is read and not
all; and an example that lacks a map takes it from a sample that has it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cooper_jax import modalities
from cooper_jax.errors import UserError

MOST_MAPS = 1 << 20  # samples whose maps are stacked, however small they are
MAP_BYTES = 1 << 31  # of maps that are stacked
_ALIKE = 3  # samples of a kind that are looked at where one lacks a map
_TRIES = 20  # samples looked at for a map that another one lacks


@dataclasses.dataclass(frozen=True)
class Maps:
  """Maps of one modality, and where the objects are."""

  targets: np.ndarray  # [n, H, W, ...]
  objects: np.ndarray  # bool [n, H, W]


def places(source, modules) -> dict[str, np.ndarray]:
  """Modality -> indices of the samples that have its map, in order.

  Of a source with `kind` one sample of each kind is read, or a few where that
  lacks a map that the kind names; else every one.
  Raises UserError where none of a kind can be read.
  """
  alike = {}
  for index in range(len(source)):
    kind = source.kind(index) if hasattr(source, "kind") else index
    alike.setdefault(kind, []).append(index)
  found = {name: [] for name in modules}
  for kind, indices in alike.items():
    there, said = set(), _said(kind) & set(modules)
    for start in range(min(len(indices), _ALIKE)):
      sample = _first_readable(source, indices[start:])
      there |= {n for n, m in modules.items() if m.read(sample) is not None}
      if said <= there:  # else one of its maps may be empty
        break
    for name in there:
      found[name] += indices
  return {name: np.array(sorted(each), int) for name, each in found.items()}


def _said(kind) -> set[str]:
  """The maps that a kind names, of a source or of one in a mixture."""
  if isinstance(kind, tuple) and kind and isinstance(kind[-1], tuple):
    kind = kind[-1]
  return set(kind) if isinstance(kind, tuple) else set()


def _first_readable(source, indices):
  """The first sample that can be read: a few bad ones may be allowed."""
  failed = UserError(f"{source!r}: none of {_TRIES} samples can be read")
  for index in indices[:_TRIES]:
    try:
      if (sample := source[index]) is not None:
        return sample
    except UserError as error:
      failed = error
  raise failed


def read_maps(source, modules, *, count: int = 0) -> dict[str, Maps]:
  """The maps of the first `count` samples that have them (0: all), stacked.

  A modality that no sample has is left out, and so is a sample that can't be
  read and is allowed to be bad. Of large maps no more are read than `MAP_BYTES`
  hold.
  """
  wanted = {
    name: set(each[: min(count or MOST_MAPS, _that_fit(source, each))].tolist())
    for name, each in places(source, modules).items()
    if len(each)
  }
  found = {name: ([], []) for name in wanted}
  for index in sorted(set().union(*wanted.values())):
    sample = source[index]
    if sample is None:
      continue
    for name, (targets, objects) in found.items():
      if index in wanted[name]:
        target = modules[name].read(sample)
        if target is not None:
          targets.append(target)
          objects.append(_objects(sample, target))
  return {
    name: Maps(np.stack(targets), np.stack(objects))
    for name, (targets, objects) in found.items()
  }


def _that_fit(source, indices) -> int:
  """How many samples have as much to hold as `MAP_BYTES` are."""
  sample = _first_readable(source, indices.tolist())
  size = sum(each.nbytes for each in sample.maps.values())
  return MAP_BYTES // max(1, size)


def _objects(sample, target) -> np.ndarray:
  if sample.instances is None:
    return np.zeros(target.shape[:2], bool)
  return sample.instances > 0


@dataclasses.dataclass(frozen=True)
class Build:
  """Sample -> the maps that one example trains on; picklable.

  Mirrored half of the time; a modality with `MARKS` now and then shows one
  object alone, because the model will be asked to draw just that. A map that
  the sample lacks is that of another one, so that no step is without it.
  """

  names: tuple[str, ...]
  source: Any = None
  places: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  # Name -> what is where one object alone is not, as a run has set it up.
  absent: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def __call__(self, sample, rng):
    mirrored, example = rng.random() < 0.5, {}
    for name in self.names:
      module, shown = modalities.found()[name], sample
      target = module.read(shown)
      if target is None:
        shown, target = self._another(name, rng)
      chance = rng.random()
      if chance < getattr(module, "MARKS", 0.0):
        absent = self.absent.get(name, 0)
        target = _one_object(target, shown.instances, rng, absent)
      example[name] = np.ascontiguousarray(
        target[:, ::-1] if mirrored else target
      )
    return example

  def _another(self, name, rng):
    module = modalities.found()[name]
    tried = rng.choice(self.places[name], _TRIES).tolist()
    for start in range(_TRIES):
      shown = _first_readable(self.source, tried[start:])
      target = module.read(shown)
      if target is not None:
        return shown, target
    raise UserError(
      f"{self.source!r}: none of {_TRIES} samples that should have {name} has"
    )


def _one_object(target, instances, rng, absent):
  present = np.unique(instances) if instances is not None else np.zeros(0)
  present = present[present > 0]
  if not present.size:
    return target
  return modalities.only(target, instances, rng.choice(present), absent)
