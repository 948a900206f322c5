"""Kept evaluations of packaged models: their answers are never others.

A run that begins with a package evaluates it before it evaluates what it made
of it. What was found out is kept in the user's cache, a file named by a digest
of all that it depends on: parameters, questions, settings, code and machine.
What a run has trained itself is never kept.
"""

import dataclasses
import datetime
import gzip
import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from cooper_jax.eval import own_code, stage_scores
from cooper_jax.eval.stage_scores import LOG_LABEL, Found, QuestionSet, Speaker
from cooper_jax.runtime import compilation
from cooper_jax.training import (
  json_files,
  manifest,
  provenance,
  telemetry,
)

KEPT_IN = "answers"  # of the user's cache
MOST_KEPT = 8  # files, the last used; one of the default run has 2 MB
HALF_WRITTEN = 24 * 3600  # seconds after which nobody is writing it any more
# Settings that say where and how a run is watched, and of GRPO, which comes
# after. All others count, those that are new as well.
WATCHED = frozenset(
  "pipeline variant init_from expected_minutes log_every save_every image_every"
  " keep workers cache in_memory reuse".split()
)
LATER = "grpo"
# Of JAX's own, what changes the numbers that are computed.
JAX_OPTIONS = (
  "jax_default_matmul_precision",
  "jax_disable_most_optimizations",
  "jax_enable_x64",
  "jax_default_prng_impl",
  "jax_threefry_partitionable",
)
COMPILER_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def measure(
  config, asked: QuestionSet, who: Speaker, *, package: str
) -> tuple[Found, str]:
  """As `stage_scores.measure`, kept from before where it can be.

  package: name of the one that the policy came in.

  Returns what was found, and where it was kept from, "" if it was not.
  """
  if own_code.has_changed():
    print(
      f"{LOG_LABEL}  {who.stage}: the code has changed since the run began;"
      " nothing is kept",
      flush=True,
    )
    return stage_scores.measure(config, asked, who), ""
  key = key_of(config, asked, who)
  path = folder() / f"{package}-{who.stage}-{json_files.digest(key)}.json.gz"
  entry = read(path, key)
  if entry is None:
    found = stage_scores.measure(config, asked, who)
    write(path, key, found)
    return found, ""
  made = entry["made"]
  said = (
    f"answers of package {package} kept from {made['date']}, by commit"
    f" {made['commit']}, in {path}"
  )
  print(
    f"{LOG_LABEL}  {who.stage}: {said};"
    " --config.evaluate.reuse=False asks anew",
    flush=True,
  )
  return Found(**manifest.from_json(entry["found"])), said


def folder() -> Path:
  """Where evaluations are kept."""
  return compilation.user_cache() / KEPT_IN


def key_of(config, asked: QuestionSet, who: Speaker) -> dict:
  """All that the scores depend on, plain: what is large as a digest."""
  params = {
    name: manifest.flatten(jax.device_get(tree))
    for name, tree in {
      who.stage: who.params,
      **{f"{name} codec": codec.params for name, codec in who.codecs.items()},
    }.items()
  }
  settings = {
    name: value
    for name, value in json_files.flat(json_files.plain(config)).items()
    if not WATCHED & set(name.split(".")) and name.split(".")[0] != LATER
  }
  asked_items = {name: each.items for name, each in asked.others.items()}
  device = jax.devices()[0]
  key = {
    "stage": who.stage,
    "parameters": digest(params),
    "trained": sorted(who.trained),
    "questions": digest(
      [asked.items, asked.unseen, asked.validation, asked_items]
    ),
    "settings": settings,
    # As it is after looking at the machine: kernels, layers unrolled.
    "model": [repr(who.policy.form.model), repr(who.policy.limits)],
    "code": own_code.digest(),
    "machine": [
      compilation.machine_kind(),
      telemetry.cores(),
      jax.device_count(),
      device.device_kind,
      device.client.platform_version,
      {name: repr(jax.config.values[name]) for name in JAX_OPTIONS},
      {name: os.environ.get(name, "") for name in COMPILER_FLAGS},
    ],
  }
  return json_files.plain(key)


def read(path: Path, key: dict) -> dict | None:
  """An entry {"key", "made", "found"}; None where there is none that is whole.

  It counts as used just now.
  """
  try:
    entry = json.loads(gzip.decompress(path.read_bytes()))
    fields = {field.name for field in dataclasses.fields(Found)}
    if entry["key"] != key or entry["found"].keys() != fields:
      raise ValueError("of something else")
    entry["made"]["date"], entry["made"]["commit"]
    os.utime(path)
  except FileNotFoundError:
    return None
  except (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError,
    zlib.error,
  ) as error:  # fmt: skip
    why = str(error) or type(error).__name__
    print(f"{LOG_LABEL}  {path} can't be read ({why}): asked anew", flush=True)
    return None
  return entry


def write(path: Path, key: dict, found: Found) -> None:
  """Keeps what was found, whole or not at all, and drops what is old."""
  entry = {
    "key": key,
    "made": {
      "date": datetime.date.today().isoformat(),
      "commit": provenance.commit(),
    },
    "found": manifest.to_json(vars(found)),
  }
  data = gzip.compress(json.dumps(entry).encode(), 4, mtime=0)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix="making-", dir=path.parent)
    try:
      with os.fdopen(handle, "wb") as file:
        file.write(data)
      os.replace(partial, path)
    finally:
      Path(partial).unlink(missing_ok=True)
    drop_old(path.parent)
  except OSError as error:
    print(f"{LOG_LABEL}  {path} can't be kept: {error.strerror}", flush=True)


def drop_old(folder: Path) -> None:
  """Leaves the MOST_KEPT files that were used last, and none half written."""
  times = {}
  for path in folder.iterdir():
    try:
      times[path] = path.stat().st_mtime
    except FileNotFoundError:  # another process drops them, too
      continue
  whole = sorted(folder.glob("*.json.gz"), key=lambda p: times.get(p, 0.0))
  half = [
    path
    for path, when in times.items()
    if path.name.startswith("making-") and time.time() - when > HALF_WRITTEN
  ]
  for path in [*whole[:-MOST_KEPT], *half]:
    path.unlink(missing_ok=True)


def digest(value) -> str:
  """Hexadecimal digits of records, arrays and what JSON holds, at any depth."""
  found = hashlib.sha256()
  for part in _parts(value, {}):
    found.update(len(part).to_bytes(8, "little"))
    found.update(part)
  return found.hexdigest()


def _parts(value, seen: dict[int, int]) -> Iterator[bytes]:
  """The bytes of a value, each with its type: 1, 1.0 and "1" differ.

  seen: the number of each record that came before, by its identity. Of one that
  comes again, as a sample of which more is asked, that number is told.
  """
  if dataclasses.is_dataclass(value):
    if id(value) in seen:
      yield f"record {seen[id(value)]}".encode()
      return
    seen[id(value)] = len(seen)
    value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
  if isinstance(value, dict):
    yield f"dict {len(value)}".encode()
    for name in sorted(value):
      yield str(name).encode()
      yield from _parts(value[name], seen)
  elif isinstance(value, list | tuple):
    yield f"list {len(value)}".encode()
    for each in value:
      yield from _parts(each, seen)
  elif isinstance(value, np.ndarray | np.generic | jax.Array):
    array = np.asarray(value)
    yield f"array {array.dtype.str} {array.shape}".encode()
    yield array.tobytes()
  elif value is None or isinstance(value, str | bytes | bool | int | float):
    yield f"{type(value).__name__} {value!r}".encode()
  else:
    raise TypeError(f"no digest of a {type(value).__name__}")
