"""The rendered world on disk: written once, then read in any order.

Rendering 20,000 scenes costs a minute or two of a core, reading them back a
second or two.  A cache folder holds ArrayRecord shards and `manifest.json`, is
named by all that its content depends on, and appears under that name only when
it is complete.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cooper_jax.errors import UserError
from cooper_jax.sample import (
  VERSION,
  Question,
  Sample,
  from_bytes,
  questions_from_bytes,
  to_bytes,
)
from cooper_jax.training import telemetry
from cooper_jax.world import cache_writer
from cooper_jax.world.config import CLASSES

FOLDER_VERSION = 1  # of the folder's layout
SHARD = 512  # scenes in a file
ROOT = "~/.cache/cooper_jax"
MANIFEST = "manifest.json"
ARRAYS = ("image", "instances", "camera")  # of a sample, beside its maps
MAPS = ("depth", "segmentation", "normals")
CLASS_NAMES = {"segmentation": CLASSES}  # of maps of ids, in their order


def build(
  world: Any,
  *,
  split: str,
  count: int,
  root: str | os.PathLike = "",
  workers: int | None = None,
) -> pathlib.Path:
  """Folder with the first `count` scenes of a split, rendered if need be.

  `world` is a `WorldConfig`, `root` the folder of caches ("" is ~/.cache).
  The content does not depend on `workers`.  Raises UserError where the disk is
  too small, the folder can't be written, or a renderer fails.
  """
  if count < 1:
    raise UserError(
      f"a world cache of {count} {split} scenes; ask for 1 or more"
    )
  root = pathlib.Path(root or ROOT).expanduser()
  key = fingerprint(world, split=split, count=count)
  path = root / f"{split}-{count}-{key[:12]}"
  if (path / MANIFEST).exists():
    return path
  try:
    root.mkdir(parents=True, exist_ok=True)
    building = pathlib.Path(tempfile.mkdtemp(prefix="building-", dir=root))
  except OSError as error:
    raise UserError(
      f"cache folder {root} can't be written: {error.strerror}; set "
      "config.data.cache to another folder"
    ) from error
  try:
    shards = _render(building, world, split, count, workers)
    manifest = {
      "version": FOLDER_VERSION,
      "record": VERSION,
      "fingerprint": key,
      "world": dataclasses.asdict(world),
      "split": split,
      "count": count,
      "shards": shards,
    }
    (building / MANIFEST).write_text(json.dumps(manifest, indent=2))
    building.chmod(0o755)
    _publish(building, path)
  finally:
    shutil.rmtree(building, ignore_errors=True)
  return path


def fingerprint(world: Any, *, split: str, count: int) -> str:
  """Hash of all that the cache's bytes depend on."""
  content = {
    "layout": [FOLDER_VERSION, VERSION, SHARD],
    "world": world.fingerprint(),
    "split": split,
    "count": count,
  }
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


class CachedSource:
  """The samples of a cache folder by index; may be sent to other processes."""

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path)
    self.manifest = read_manifest(self.path)
    self._shards = [
      self._open(self.path / shard["file"]) for shard in self.manifest["shards"]
    ]
    self._ends = np.cumsum([len(shard) for shard in self._shards])
    if self._ends[-1] != len(self):
      raise UserError(
        f"{self.path} holds {self._ends[-1]} of {len(self)} samples; "
        f"{self._mend()}"
      )

  def __len__(self) -> int:
    return self.manifest["count"]

  def kind(self, index: int) -> str:
    """All scenes have the same maps."""
    return str(self.path)

  def __getitem__(self, index: int) -> Sample:
    return self._read(index, from_bytes)

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions alone."""
    return self._read(index, questions_from_bytes)

  def _read(self, index: int, unpack: Callable[[bytes], Any]) -> Any:
    if not 0 <= index < len(self):
      raise IndexError(index)
    shard = int(np.searchsorted(self._ends, index, side="right"))
    within = index - (int(self._ends[shard - 1]) if shard else 0)
    try:
      return unpack(self._shards[shard][within])
    except (ValueError, RuntimeError, OSError) as error:
      file = self.path / self.manifest["shards"][shard]["file"]
      raise UserError(
        f"{file}: record {within} (sample {index}) is damaged: "
        f"{_short(error)}; {self._mend()}"
      ) from error

  def _open(self, file: pathlib.Path) -> Sequence[bytes]:
    # Imported here: absl and its flags, which rendering need not load.
    from array_record.python import array_record_data_source

    try:
      return array_record_data_source.ArrayRecordDataSource(str(file))
    except (ValueError, RuntimeError, OSError) as error:
      raise UserError(
        f"{file} is damaged: {_short(error)}; {self._mend()}"
      ) from error

  def _mend(self) -> str:
    return f"delete {self.path} to have it rendered again"

  def __repr__(self) -> str:  # grain names the source in its iterator's state
    return f"CachedSource({self.path.name})"


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
  """The manifest, after checking that every shard is there in full size."""
  mend = f"delete {path} to have it rendered again"
  try:
    manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    version, shards = manifest["version"], manifest["shards"]
    sizes = {shard["file"]: shard["bytes"] for shard in shards}
  except FileNotFoundError as error:
    raise UserError(
      f"{path} has no {MANIFEST}; expected the folder of a world cache, as"
      " `build` gives it"
    ) from error
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path / MANIFEST} is damaged; {mend}") from error
  if version != FOLDER_VERSION:
    raise UserError(
      f"{path} has cache version {version}, this code reads"
      f" {FOLDER_VERSION}; {mend}"
    )
  for file, size in sizes.items():
    found = (path / file).stat().st_size if (path / file).exists() else 0
    if found != size:
      raise UserError(f"{path / file} has {found} of {size} bytes; {mend}")
  return manifest


def verify(path: str | os.PathLike) -> None:
  """Reads every byte again; raises UserError where a hash has changed."""
  path = pathlib.Path(path)
  for shard in read_manifest(path)["shards"]:
    if _sha256(path / shard["file"]) != shard["sha256"]:
      raise UserError(
        f"{path / shard['file']} is not what was written; delete {path} to "
        "have it rendered again"
      )


def load_arrays(
  source: Sequence[Sample], *, maps: Sequence[str] = MAPS, count: int = 0
) -> dict[str, Any]:
  """A whole source in memory: 10,000 scenes of 64 px take about 450 MB.

  Maps are stacked to [n, H, W, ...]; one that the samples lack is left out.
  `id`, `questions` and `grounding` are lists.  `count` = 0 means all.
  """
  total = count or len(source)
  arrays: dict[str, Any] = {"id": [], "questions": [], "grounding": []}
  for i in range(total):
    sample = source[i]
    for name in ("id", "questions", "grounding"):
      arrays[name].append(getattr(sample, name))
    held = {name: getattr(sample, name) for name in ARRAYS}
    held |= {name: sample.maps.get(name) for name in maps}
    for name, array in held.items():
      if (array is None) != (name not in arrays) and i:
        raise UserError(
          f"sample {i} ({sample.id}) and the ones before it do not have the "
          f"same maps ({name}); leave {name} out of the maps to load"
        )
      if array is None:
        continue
      if i == 0:
        arrays[name] = np.empty((total, *array.shape), array.dtype)
      arrays[name][i] = array
  return arrays


class MemorySource:
  """Samples that are views into what `load_arrays` returned."""

  def __init__(self, arrays: dict[str, Any], name: str):
    self.arrays, self._name = arrays, name
    beside = ("id", "questions", "grounding", *ARRAYS)
    self._fields = [name for name in ARRAYS if name in arrays]
    self._maps = [name for name in arrays if name not in beside]

  def __len__(self) -> int:
    return len(self.arrays["id"])

  def kind(self, index: int) -> str:
    """All scenes have the same maps."""
    return self._name

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions alone."""
    return self.arrays["questions"][index]

  def __getitem__(self, index: int) -> Sample:
    return Sample(
      id=self.arrays["id"][index],
      source=self._name,
      questions=self.arrays["questions"][index],
      grounding=self.arrays["grounding"][index],
      maps={name: self.arrays[name][index] for name in self._maps},
      **{name: self.arrays[name][index] for name in self._fields},
    )

  def __repr__(self) -> str:
    return f"MemorySource({self._name}, {len(self)})"


def _render(
  folder: pathlib.Path,
  world: Any,
  split: str,
  count: int,
  workers: int | None,
) -> list[dict[str, Any]]:
  """Writes all shards and describes them for the manifest."""
  first = next(iter(cache_writer.generate(world, split, 0, 1)))
  kept = to_bytes(first, unit=cache_writer.UNIT, half=cache_writer.HALF)
  needed = int(1.1 * count * len(kept)) + (1 << 20)
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise UserError(
      f"{count} {split} scenes need {needed / 1e6:.0f} MB in {folder.parent}, "
      f"{free / 1e6:.0f} MB are free; make room, set config.data.cache to "
      "another disk, or ask for fewer scenes"
    )
  total = -(-count // SHARD)
  jobs = [
    (
      f"{i:05d}-of-{total:05d}.array_record",
      i * SHARD,
      min(SHARD, count - i * SHARD),
    )
    for i in range(total)
  ]
  workers = min(total, workers or min(telemetry.cores(), 16))
  with telemetry.Progress(count, f"world {split}") as progress:
    if workers == 1:
      for done in cache_writer.write_shards(folder, world, split, jobs):
        progress.advance(done)
    else:
      for done in cache_writer.write_in_processes(
        folder, world, split, jobs, workers
      ):
        progress.advance(done)
  return [
    {
      "file": file,
      "count": size,
      "bytes": (folder / file).stat().st_size,
      "sha256": _sha256(folder / file),
    }
    for file, _, size in jobs
  ]


def _publish(building: pathlib.Path, path: pathlib.Path) -> None:
  """Gives the finished folder its name, unless another process was first."""
  try:
    building.rename(path)
  except OSError:
    if not (path / MANIFEST).exists():
      shutil.rmtree(path, ignore_errors=True)  # a half-deleted cache
      building.rename(path)


def _short(error: Exception) -> str:
  return str(error).splitlines()[0][:120] if str(error) else repr(error)


def _sha256(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
