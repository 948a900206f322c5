"""Shards of a built data set: samples as training reads them, in ArrayRecord.

A shard is two files, of samples and of their questions alone, which are asked
for without pictures. It appears under its name when it is whole, and its facts
beside it as JSON: so a build that was killed goes on with the next one.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cooper_jax import sample
from cooper_jax.errors import UserError
from cooper_jax.sample import Question, Sample

LAYOUT = 1  # of the folder's layout
MANIFEST = "manifest.json"
PLAN = "plan.json"  # what is being built, until it is
FACTS = ".json"  # ending of a shard's facts, which go into the manifest
RECORDS, QUESTIONS = ".array_record", ".questions.array_record"
# A group of one: a random read decompresses one record, not its group.
OPTIONS = "group_size:1,zstd:1"
END_BYTES = 1 << 16  # bytes at each end of a file that are looked at on opening
REBUILD = "build it again into another folder, or delete this one"


@dataclasses.dataclass(frozen=True)
class ShardJob:
  """One shard: the samples `start` to `stop` of a split."""

  split: str
  number: int
  total: int  # shards of the split
  start: int
  stop: int

  @property
  def name(self) -> str:
    """What its files begin with."""
    return f"{self.split}-{self.number:05d}-of-{self.total:05d}"


def write(folder: Path, source, job: ShardJob) -> dict[str, Any]:
  """Writes a shard and gives its facts; what can't be read is left out.

  Facts: `count`, `bad` (the line of each sample that is left out), `kinds` (the
  maps of each sample, as places in `maps`), `cameras` (whether any has one), a
  digest of all samples, and sizes and digests of the files.
  """
  from array_record.python import array_record_module

  partial = {
    ending: folder / f"{job.name}.partial{ending}"
    for ending in (RECORDS, QUESTIONS)
  }
  writers = {
    ending: array_record_module.ArrayRecordWriter(str(path), OPTIONS)
    for ending, path in partial.items()
  }
  bad, maps, kinds, digest = [], {}, [], hashlib.sha256()
  cameras = False
  for index in range(job.start, job.stop):
    try:
      one = source[index]
    except UserError as error:
      bad.append(str(error))
      continue
    kinds.append(maps.setdefault(tuple(sorted(one.maps)), len(maps)))
    cameras |= one.camera is not None
    record = sample.to_bytes(one)
    digest.update(record)
    writers[RECORDS].write(record)
    writers[QUESTIONS].write(sample.to_bytes(_without_pictures(one)))
  for writer in writers.values():
    writer.close()
  facts = {
    "name": job.name,
    "count": len(kinds),
    "bad": bad,
    "maps": [list(each) for each in maps],
    "kinds": kinds,
    "cameras": cameras,
    "digest": digest.hexdigest()[:16],
  }
  for ending, path in partial.items():
    path.replace(folder / f"{job.name}{ending}")
    facts[ending] = look(folder / f"{job.name}{ending}")
  write_json(folder / f"{job.name}{FACTS}", facts)
  return facts


def written(folder: Path, job: ShardJob) -> dict[str, Any] | None:
  """The facts of a shard that is there and whole, else None."""
  try:
    facts = json.loads((folder / f"{job.name}{FACTS}").read_text("utf-8"))
    whole = all(
      look(folder / f"{job.name}{ending}") == facts[ending]
      for ending in (RECORDS, QUESTIONS)
    )
  except (OSError, ValueError, LookupError, TypeError):
    return None
  return facts if whole else None


def write_json(path: Path, value) -> None:
  """Writes a JSON file that is there wholly or not at all."""
  partial = path.with_name(f"{path.name}.partial")
  partial.write_text(json.dumps(value), "utf-8")
  partial.replace(path)


def look(path: Path) -> list:
  """[bytes, digest of both ends] of a file; changes inside fail when read."""
  size, digest = os.stat(path).st_size, hashlib.sha256()
  with path.open("rb") as file:
    for place in (0, max(0, size - END_BYTES)):
      file.seek(place)
      digest.update(file.read(END_BYTES))
  return [size, digest.hexdigest()[:16]]


def _without_pictures(one: Sample) -> Sample:
  """A sample with its id, its source and what is asked of it."""
  empty = np.zeros((0, 0, 3), np.uint8)
  return dataclasses.replace(
    one, image=empty, maps={}, instances=None, camera=None
  )


class BuiltSource:
  """The samples of one split of a built folder by index.

  It may be sent to other processes, which open the files themselves.
  """

  def __init__(self, folder: Path, split: str, manifest: dict[str, Any]):
    """Raises UserError where a shard is missing, cut or another."""
    self.folder, self.split = folder, split
    self._shards = manifest["splits"][split]["shards"]
    self._ends = np.cumsum([shard["count"] for shard in self._shards])
    self._files: dict[tuple[int, str], Sequence[bytes]] = {}
    told = hashlib.sha256(json.dumps(self._shards).encode()).hexdigest()
    self._name = f"BuiltSource({manifest['source']}, {split}, {told[:12]})"
    for shard in self._shards:
      for ending in (RECORDS, QUESTIONS):
        path = folder / f"{shard['name']}{ending}"
        try:
          found = look(path)
        except OSError as error:
          raise UserError(f"{path} can't be read; {REBUILD}") from error
        if found != shard[ending]:
          raise UserError(
            f"{path} is not what was built: it has {found[0]:,} bytes, of"
            f" {shard[ending][0]:,}, or others; {REBUILD}"
          )

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def __getitem__(self, index: int) -> Sample:
    return self._read(index, RECORDS, sample.from_bytes)

  def questions(self, index: int) -> tuple[Question, ...]:
    """A sample's questions alone."""
    return self._read(index, QUESTIONS, sample.questions_from_bytes)

  def ids(self) -> list[str]:
    """The id of every sample that can be read; no picture is unpacked."""
    found = []
    for index in range(len(self)):
      with contextlib.suppress(UserError):  # a bad sample, as it is read
        found.append(self._read(index, QUESTIONS, sample.from_bytes).id)
    return found

  def cameras(self) -> bool:
    """Whether any sample has a camera; no picture is unpacked.

    But of what was built before that was noted.
    """
    if all("cameras" in shard for shard in self._shards):
      return any(shard["cameras"] for shard in self._shards)
    for index in range(len(self)):
      with contextlib.suppress(UserError):  # a bad sample, as it is read
        if self[index].camera is not None:
          return True
    return False

  def kind(self, index: int) -> tuple[str, ...]:
    """Which maps a sample has."""
    shard, within = self._place(index)
    facts = self._shards[shard]
    return tuple(facts["maps"][facts["kinds"][within]])

  def _place(self, index: int) -> tuple[int, int]:
    if not 0 <= index < len(self):
      raise IndexError(index)
    shard = int(np.searchsorted(self._ends, index, side="right"))
    return shard, index - (int(self._ends[shard - 1]) if shard else 0)

  def _read(self, index: int, ending: str, unpack):
    shard, within = self._place(index)
    path = self.folder / f"{self._shards[shard]['name']}{ending}"
    try:
      if (shard, ending) not in self._files:
        # Imported here: absl and its flags, which few commands need.
        from array_record.python import array_record_data_source

        self._files[shard, ending] = (
          array_record_data_source.ArrayRecordDataSource(str(path))
        )
      return unpack(self._files[shard, ending][within])
    except (ValueError, RuntimeError, OSError) as error:
      said = str(error).partition("\n")[0][:120] or repr(error)
      raise UserError(
        f"{path}: record {within} (sample {index}) is damaged: {said};"
        f" {REBUILD}"
      ) from error

  def __getstate__(self):
    return {**self.__dict__, "_files": {}}

  def __repr__(self) -> str:
    return self._name
