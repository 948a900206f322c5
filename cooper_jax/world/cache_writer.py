"""Renders the shards of a world cache, in this process or in several.

The processes are plain `python -m` of this file: forking is unsafe once jax
has started its threads, and multiprocessing's spawn imports the caller's main
module again.  Nothing here imports jax.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from cooper_jax.errors import UserError
from cooper_jax.sample import Sample, to_bytes

UNIT = ("normals",)  # maps of vectors of length one
HALF = ("depth",)  # maps of floats that half precision is enough for
SCENES_AT_ONCE = 32  # scenes rendered at once
Job = tuple[str, int, int]  # file, first scene, number of scenes


def generate(
  world: Any, split: str, start: int, count: int
) -> Iterator[Sample]:
  """Samples of a world, rendered; imports the renderer when it is needed."""
  from cooper_jax.world import scenes

  yield from scenes.generate(world, split=split, start=start, count=count)


def write_shards(
  folder: pathlib.Path,
  world: Any,
  split: str,
  jobs: Sequence[Job],
) -> Iterator[int]:
  """Renders each job's (file, start, count); yields as scenes are done."""
  from array_record.python import array_record_module

  for file, start, count in jobs:
    # A group of one: a random read decompresses one record, not its group.
    writer = array_record_module.ArrayRecordWriter(
      str(folder / file), "group_size:1,zstd:1"
    )
    for begin in range(start, start + count, SCENES_AT_ONCE):
      size = min(SCENES_AT_ONCE, start + count - begin)
      for sample in generate(world, split, begin, size):
        writer.write(to_bytes(sample, unit=UNIT, half=HALF))
      yield size
    writer.close()


def write_in_processes(
  folder: pathlib.Path,
  world: Any,
  split: str,
  jobs: Sequence[Job],
  workers: int,
) -> Iterator[int]:
  """Shares the jobs among subprocesses that report through one pipe.

  Neither fork (unsafe after jax has started threads) nor spawn (imports the
  caller's main module again): a plain `python -m` of this file.
  """
  package = str(pathlib.Path(__file__).parents[2])
  old = os.environ.get("PYTHONPATH")
  environment = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([package, old] if old else [package]),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
  }
  with contextlib.ExitStack() as stack:
    reading, writing = os.pipe()
    reports = stack.enter_context(os.fdopen(reading, encoding="ascii"))
    running = []
    for worker in range(workers):
      log = stack.enter_context(tempfile.TemporaryFile("w+"))
      process = subprocess.Popen(
        [sys.executable, "-m", "cooper_jax.world.cache_writer"],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=log,
        env=environment,
        text=True,
      )
      stack.callback(process.wait)
      stack.callback(process.kill)
      running.append((process, log))
      task = {
        "folder": str(folder),
        "world": dataclasses.asdict(world),
        "split": split,
        "jobs": jobs[worker::workers],
      }
      with contextlib.suppress(BrokenPipeError):  # its log says why
        process.stdin.write(json.dumps(task))
        process.stdin.close()
    os.close(writing)
    for line in reports:
      yield int(line)
    for process, log in running:
      if process.wait():
        log.seek(0)
        lines = log.read().strip().splitlines() or ["no message"]
        raise UserError(
          f"rendering {split} scenes failed (exit code {process.returncode}): "
          f"{lines[-1][:300]}"
        )


def _worker() -> None:
  """One renderer: the task comes as JSON on stdin, counts go to stdout."""
  from cooper_jax.world.config import WorldConfig

  task = json.load(sys.stdin)
  jobs = [tuple(job) for job in task["jobs"]]
  world = WorldConfig(**_tuples(task["world"]))
  folder = pathlib.Path(task["folder"])
  for done in write_shards(folder, world, task["split"], jobs):
    # One write: all processes share the pipe, and print() may make two.
    os.write(sys.stdout.fileno(), b"%d\n" % done)


def _tuples(value: Any) -> Any:
  """JSON's lists as the tuples that a frozen config holds."""
  if isinstance(value, dict):
    return {key: _tuples(item) for key, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


if __name__ == "__main__":
  _worker()
