"""Codes of a split's maps, made once by the trained tokenizers.

Encoding is deterministic and cheap beside training, so it is done before the
first step and kept beside the tokenizers that made it.
"""

import collections
import concurrent.futures
import dataclasses
import re
from pathlib import Path

import numpy as np

from cooper_jax import modalities
from cooper_jax.data import mixture
from cooper_jax.data.counterfactual import CounterfactualMaps
from cooper_jax.errors import UserError
from cooper_jax.tokenizers import map_tokenizer
from cooper_jax.training import telemetry

INSTANCE = re.compile(r"id=(\d+)>")
_CHUNK = 1024  # samples that are in memory at once, at most
_PART_BYTES = 1 << 28  # of their pictures and maps
_TRIES = 20  # samples looked at to know how large one is
_LEFT_OUT = "left out"  # a sample without an id, and its number


@dataclasses.dataclass(frozen=True)
class Codes:
  """Codes by sample id; `maps` holds [n, Q] a modality, -1 where unknown.

  marked [n] is the instance that `mark` [n, Q] shows alone, 0 for none.
  own: maps of the first samples [m, Q] as a policy draws them (self_maps.py).
  changed: counterfactual depth maps (counterfactual.py).
  """

  index: dict[str, int]
  maps: dict[str, np.ndarray]
  marked: np.ndarray
  mark: np.ndarray
  own: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  changed: CounterfactualMaps | None = None

  def of(self, sample_id: str, modality: str):
    """Codes [Q] of a sample's map, None where it has none."""
    codes = self.maps[modality][self.index[sample_id]]
    return None if codes[0] < 0 else codes

  def known(self, modality: str) -> np.ndarray:
    """The places of the samples that have this map."""
    return np.flatnonzero(self.maps[modality][:, 0] >= 0)

  def other(self, sample_id: str, modality: str, rng):
    """Codes of some other sample's map: a plausible wrong one.

    Where no other has one, its own, the lower half above the upper.
    """
    own, maps = self.index[sample_id], self.maps[modality]
    known = self.known(modality)
    known = known[known != own]
    if not len(known):
      return np.roll(maps[own], maps.shape[1] // 2)
    return maps[known[rng.integers(len(known))]]

  def drawn(self, sample_id: str, modality: str):
    """Codes [Q] as a policy drew this map, None where it was not asked."""
    own, place = self.own.get(modality), self.index[sample_id]
    return None if own is None or place >= len(own) else own[place]

  def counterfactual(self, sample_id: str):
    """(codes [Q], steps [256]) of the changed depth map, None without one."""
    return self.changed and self.changed.of(self.index[sample_id])

  def marking(self, sample_id: str):
    """(instance, codes) of the map of one object, or None."""
    place = self.index[sample_id]
    instance = int(self.marked[place])
    if not instance:
      return None
    return instance, self.mark[place]


def exchanged(codes: Codes, *, seed: int) -> Codes:
  """Each image's maps are those of another image; a control.

  Every image gets all its maps from the same other one, and every map is
  given once, so that the maps as a whole stay the same: what is learned costs
  as much and says nothing of the image. Images exchange with those that have
  the same maps; which with which follows from the seed.

  Raises UserError where an image has no other to exchange with.
  """
  known = np.stack([codes.maps[m][:, 0] >= 0 for m in codes.maps], -1)
  rng, source = np.random.default_rng(seed), np.arange(len(known))
  for kind in np.unique(known, axis=0):
    places = np.flatnonzero((known == kind).all(-1))
    if len(places) == 1 and kind.any():
      raise UserError(
        "config.pretrain.exchanged_maps gives each image the maps of another,"
        " and only one image has"
        f" {' and '.join(m for m, k in zip(codes.maps, kind) if k)}; add images"
      )
    # One cycle through all of them: none keeps its own.
    cycle = rng.permutation(places)
    source[cycle] = np.roll(cycle, 1)
  maps = {name: each[source] for name, each in codes.maps.items()}
  return dataclasses.replace(codes, maps=maps)


def encode(source, codecs, folder: Path | None = None, name="train") -> Codes:
  """Encodes every map of a source, or reads what was encoded before.

  Samples are read by several threads, and each part is kept as it is made, so
  that what was stopped goes on. A sample that is None, one that may be left
  out, has no codes.

  Args:
    source: samples by index.
    codecs: modality name -> trained Codec.
    folder: where to keep the result; None keeps nothing.
    name: file name in the folder.
  """
  path = None if folder is None else Path(folder) / f"{name}.npz"
  if (found := _kept(path, source)) is not None:
    return _unpack(found, codecs)
  total, parts = len(source), []
  size = _part_size(source)
  with (
    telemetry.Progress(total, f"codes {name}") as progress,
    concurrent.futures.ThreadPoolExecutor(telemetry.cores()) as pool,
  ):
    for start in range(0, total, size):
      stop = min(start + size, total)
      kept = path and path.with_name(f"{name}.{start}-{stop}.part.npz")
      part = _kept(kept, source)
      if part is None:
        samples = list(pool.map(source.__getitem__, range(start, stop)))
        part = _codes_of(samples, start, codecs)
        if kept and stop < total:  # of the last one the whole is kept
          _keep(kept, part, source)
      parts.append(part)
      progress.advance(stop - start)
  arrays = {
    key: np.concatenate([part[key] for part in parts]) for key in parts[0]
  }
  ids = arrays["ids"].tolist()
  if len(set(ids)) < total:
    twice = next(i for i, n in collections.Counter(ids).items() if n > 1)
    raise mixture.same_id(twice, repr(source))
  if path is not None:
    _keep(path, arrays, source)
    for part in path.parent.glob(f"{name}.*.part.npz"):
      part.unlink()
  return _unpack(arrays, codecs)


def _part_size(source) -> int:
  """How many samples are in memory at once: large ones are fewer."""
  for index in range(min(len(source), _TRIES)):
    if (sample := source[index]) is not None:
      arrays = [sample.image, *sample.maps.values()]
      fits = _PART_BYTES // sum(array.nbytes for array in arrays)
      least = map_tokenizer.BATCH
      return min(_CHUNK, max(least, fits // least * least))
  return _CHUNK


def _codes_of(samples, start: int, codecs) -> dict[str, np.ndarray]:
  """Arrays of some samples, the first of which is number `start`."""
  cells = next(iter(codecs.values())).config.cells
  count = len(samples)
  maps = {m: np.full((count, cells), -1, np.int32) for m in codecs}
  marked = np.zeros(count, np.uint16)
  mark = np.zeros((count, cells), np.int32)
  for modality, codec in codecs.items():
    _encode(codec, [s and codec.modality.read(s) for s in samples],
            maps[modality])  # fmt: skip
  marking = modalities.having("MARKS")
  if marking in codecs:
    marked[:] = [(s and _choose(s, start + i)) or 0
                 for i, s in enumerate(samples)]  # fmt: skip
    codec = codecs[marking]
    found = [
      modalities.only(
        codec.modality.read(s), s.instances, marked[i], codec.modality.absent()
      )
      if marked[i]
      else None
      for i, s in enumerate(samples)
    ]
    _encode(codec, found, mark)
  names = [s.id if s else f"{_LEFT_OUT} {start + i}"
           for i, s in enumerate(samples)]  # fmt: skip
  arrays = {f"map/{m}": codes for m, codes in maps.items()}
  return arrays | {"marked": marked, "mark": mark, "ids": np.array(names)}


def _kept(path: Path | None, source) -> dict[str, np.ndarray] | None:
  """The arrays of a file that was made of this very source, else None."""
  if path is None or not path.exists():
    return None
  with np.load(path) as found:
    if str(found["source"]) != repr(source):
      return None
    return {key: found[key] for key in found.files if key != "source"}


def _keep(path: Path, arrays: dict[str, np.ndarray], source) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{path.name}.partial")
  with partial.open("wb") as file:
    np.savez(file, **arrays, source=np.array(repr(source)))
  partial.replace(path)


def _encode(codec, targets, out):
  """Writes the codes of the maps that there are into the first rows of out."""
  have = [i for i, target in enumerate(targets) if target is not None]
  if have:
    stacked = np.stack([targets[i] for i in have])
    out[have] = map_tokenizer.encode_maps(codec, stacked)


def _choose(sample, number: int) -> int:
  """The instance that sample `number` is asked to mark, 0 for none."""
  asked = [q for q in sample.grounding if q.family == "mark"]
  if not asked or sample.instances is None:
    return 0
  found = INSTANCE.search(asked[number % len(asked)].reasoning)
  return int(found[1]) if found else 0


def _unpack(arrays, codecs) -> Codes:
  ids = [str(i) for i in arrays["ids"]]
  return Codes(
    index={name: i for i, name in enumerate(ids)},
    maps={m: np.asarray(arrays[f"map/{m}"]) for m in codecs},
    marked=np.asarray(arrays["marked"]),
    mark=np.asarray(arrays["mark"]),
  )
