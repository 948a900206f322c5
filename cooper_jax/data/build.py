"""Builds a data set once into shards that are quick to read in any order.

python -m cooper_jax.data.build hypersim --root ~/hypersim --out ~/built \
  --size=512 --workers=8

Every sample of every split is decoded, fitted to the size and written as
training reads it, by several processes. A build that was stopped or killed goes
on where it was; what can't be read is told, and left out up to --bad_samples.
A run then reads it with --config.data.source=built
--config.data.settings.built.root=~/built.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from cooper_jax import sample
from cooper_jax.data import (
  fitting,
  line_maps,
  mixture,
  picture_files,
  shards,
  show,
  splits,
)
from cooper_jax.data.shards import ShardJob
from cooper_jax.data.sources import DataConfig, built
from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable
from cooper_jax.training import lock, telemetry

SHARD_BYTES = 1 << 29  # of samples as they are in memory; on disk it is less
SHARD_MOST, SHARD_LEAST = 4096, 16  # samples
MOST_WORKERS = 16


def build(
  config: DataConfig,
  out: Path,
  *,
  workers: int = 0,
  which: Sequence[str] = splits.NAMES,
  say=print,
) -> dict[str, Any]:
  """Builds the one source of a config into a folder; gives its manifest.

  workers: processes; 0 = one a core. which: splits. Raises UserError where the
  folder holds something else, or more samples are bad than
  `config.bad_samples` allows.
  """
  opened = {name: mixture.open_split(config, name) for name in which}
  try:
    with lock.held(out):
      return _build(config, out, opened, workers, say)
  except UserError as error:
    raise UserError(str(error).replace("--workdir", "--out")) from error


def _build(config, out, opened, workers, say) -> dict[str, Any]:
  plan = {
    "version": shards.LAYOUT,
    "record": sample.VERSION,
    **built.facts_of(config),
    "splits": {
      name: {"source": repr(each), "samples": len(each)}
      for name, each in opened.items()
    },
  }
  found = _begun(out, plan)
  if found is not None:
    _tidy(out)
    say(f"{out} is built already")
    return found
  jobs = _jobs(out, plan, opened)
  done = {job: shards.written(out, job) for job in jobs}
  left = [job for job, facts in done.items() if facts is None]
  bad = _Bad(config, plan, opened)
  for job, facts in done.items():
    if facts is not None:
      bad.add(job.split, facts["bad"])
  total = sum(len(each) for each in opened.values())
  kept = total - sum(job.stop - job.start for job in left)
  if kept:
    say(f"{out}: {kept:,} of {total:,} samples are built, the others follow")
  with (
    telemetry.Progress(total, "build", start=kept) as progress,
    contextlib.closing(_written(out, opened, left, workers)) as made,
  ):
    for job, facts in made:
      done[job] = facts
      bad.add(job.split, facts["bad"])
      progress.advance(job.stop - job.start)
  for name, split in plan["splits"].items():
    mine = [facts for job, facts in done.items() if job.split == name]
    # In the order of the samples, whichever shard was ready first.
    split["bad"] = [
      *getattr(opened[name], "left_out", ()),
      *(line for facts in mine for line in facts["bad"]),
    ]
    split["shards"] = [
      {k: v for k, v in facts.items() if k != "bad"} for facts in mine
    ]
  shards.write_json(out / shards.MANIFEST, plan)
  _tidy(out)
  return plan


def _tidy(out: Path) -> None:
  """Removes what is of use until a set is built to its end."""
  for path in (*out.glob(f"*-of-*{shards.FACTS}"), out / shards.PLAN):
    path.unlink(missing_ok=True)


class _Bad:
  """Bad samples by split; UserError once there are too many of them."""

  def __init__(self, config: DataConfig, plan, opened):
    self._share = config.bad_samples
    self.of = {
      name: list(getattr(each, "left_out", ())) for name, each in opened.items()
    }
    self._total = {
      name: split["samples"] + len(self.of[name])
      for name, split in plan["splits"].items()
    }

  def add(self, split: str, lines: list[str]) -> None:
    self.of[split] += lines
    bad, total = self.of[split], self._total[split]
    if lines and len(bad) > self._share * total:
      raise mixture.too_many(
        bad, total, self._share, setting="--bad_samples", of=f" of {split}"
      )


def _begun(out: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
  """The manifest where the same is built already; None where it is begun.

  Raises UserError where the folder holds anything else.
  """
  if (out / shards.MANIFEST).exists():
    found = built.read_manifest(out)
    if _asked(found) == plan:
      for split in found["splits"]:  # all shards are there and whole
        shards.BuiltSource(out, split, found)
      return found
    raise UserError(
      f"{out} holds another data set or other settings: {_other(found, plan)};"
      " choose another --out, or delete it"
    )
  if (out / shards.PLAN).exists():
    before = _read_plan(out)
    if _asked(before) != plan:
      raise UserError(
        f"{out} holds the half of another build: {_other(before, plan)};"
        " choose another --out, or delete it"
      )
    return None
  ours = (lock.LOCK_FILE, f"{shards.PLAN}.partial")
  strange = sorted(p.name for p in out.iterdir() if p.name not in ours)
  if strange:
    raise UserError(
      f"{out} has other files ({picture_files.shown(strange[0])}); choose an"
      " empty folder as --out"
    )
  return None


def _read_plan(out: Path) -> dict[str, Any]:
  """What a folder is being built to be; UserError where it is damaged."""
  plan = built.read_json(out / shards.PLAN)
  try:
    whole = plan["shard_samples"] >= 1 and _asked(plan)
  except built.DAMAGED:
    whole = False
  if not whole:
    raise UserError(f"{out / shards.PLAN} is damaged; {shards.REBUILD}")
  return plan


def _asked(plan: dict[str, Any]) -> dict[str, Any]:
  """What a plan or a manifest was asked to be, without what came of it."""
  settings = {
    # Of an older plan, which has the path of a class list.
    name: line_maps.told_apart(name, value)
    for name, value in plan["settings"].items()
  }
  return {
    **{key: value for key, value in plan.items() if key != "shard_samples"},
    "settings": settings,
    "splits": {
      name: {key: split[key] for key in ("source", "samples")}
      for name, split in plan["splits"].items()
    },
  }


def _other(before: dict[str, Any], plan: dict[str, Any]) -> str:
  """The first thing in which two plans differ, in words."""
  before = _asked(before)
  if before["splits"].keys() != plan["splits"].keys():
    return f"it has {', '.join(before['splits'])}"
  for key, value in plan.items():
    if key == "splits":
      continue
    if before.get(key) != value:
      return picture_files.shown(f"{key} is {before.get(key)}, not {value}")
  return "its files have changed since"


def _jobs(out: Path, plan: dict[str, Any], opened) -> list[ShardJob]:
  """The shards of all splits; as a build before this one divided them."""
  if (out / shards.PLAN).exists():
    each = _read_plan(out)["shard_samples"]
  else:
    record = sample.to_bytes(_first(opened))
    each = min(SHARD_MOST, max(SHARD_LEAST, SHARD_BYTES // len(record)))
    total = sum(len(split) for split in opened.values())
    # As large as by zstd, or larger.
    needed = total * len(zlib.compress(record, 1))
    free = shutil.disk_usage(out).free
    if free < needed:
      raise UserError(
        f"{total:,} samples need about {needed / 1e9:.3g} GB, {out} has"
        f" {free / 1e9:.3g} GB free; choose a smaller --size or another disk"
      )
    shards.write_json(out / shards.PLAN, {**plan, "shard_samples": each})
  jobs = []
  for name, split in opened.items():
    total = -(-len(split) // each)
    jobs += [
      ShardJob(name, i, total, i * each, min((i + 1) * each, len(split)))
      for i in range(total)
    ]
  return jobs


def _first(opened):
  """A sample that can be read, to know how large one is."""
  for split in opened.values():
    for index in range(min(len(split), mixture.MOST_NAMED)):
      try:
        return split[index]
      except UserError as error:
        failed = error
  raise failed


def _written(
  out, opened, jobs, workers: int
) -> Iterator[tuple[ShardJob, dict]]:
  """(job, its facts) as shards are written, by this process or by several."""
  workers = min(workers or min(telemetry.cores(), MOST_WORKERS), len(jobs))
  if workers <= 1:
    for job in jobs:
      yield job, shards.write(out, opened[job.split], job)
    return
  # Spawned: a fork is unsafe once threads run. They must not take a chip.
  before, others = os.environ.get("JAX_PLATFORMS"), _children()
  os.environ["JAX_PLATFORMS"] = "cpu"
  try:
    with concurrent.futures.ProcessPoolExecutor(
      workers,
      multiprocessing.get_context("spawn"),
      initializer=_begin,
      initargs=(out, opened),
    ) as pool:
      running = {pool.submit(_write, job): job for job in jobs}
      try:
        for future in concurrent.futures.as_completed(running):
          yield running[future], future.result()
      except BaseException:  # what they have begun is done again
        for process in _children() - others:
          process.terminate()
        raise
  except BrokenProcessPool as error:
    raise UserError(
      "a process that builds has died, perhaps for want of memory; the same"
      f" command goes on, --workers={max(1, workers // 2)} needs less of it"
    ) from error
  finally:
    os.environ.pop("JAX_PLATFORMS")
    if before is not None:
      os.environ["JAX_PLATFORMS"] = before


def _children() -> set:
  return set(multiprocessing.active_children())


_worker: dict[str, Any] = {}  # of a process that builds


def _begin(out: Path, opened) -> None:
  _worker.update(out=out, opened=opened)
  signal.signal(
    signal.SIGINT, signal.SIG_IGN
  )  # the parent is told, and ends it
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """A parent that was killed can't end its processes."""
  multiprocessing.parent_process().join()
  os._exit(1)


def _write(job: ShardJob) -> dict[str, Any]:
  return shards.write(_worker["out"], _worker["opened"][job.split], job)


def main(argv=None) -> int:
  """Builds, says what came of it, and gives the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.data.build",
    description=__doc__.splitlines()[0],
    epilog="The same command goes on with a build that was stopped.",
  )
  show.add_source(parser)
  add = parser.add_argument
  add("--out", required=True, help="the folder to build, empty or begun before")
  add("--size", type=int, default=64, help="pixels a side (64)")
  add("--fit", default=fitting.SQUASH, help="as config.data.fit (squash)")
  add("--splits", default=",".join(splits.NAMES), help="those to build (all)")
  add("--workers", type=int, default=0, help="processes, 0 = one a core")
  add("--bad_samples", type=float, default=0.0, help="share to leave out (0)")
  asked = parser.parse_args(argv)
  printable()
  if not 1 <= asked.size <= show.MOST_PIXELS:
    parser.error(f"--size is from 1 to {show.MOST_PIXELS} pixels a side")
  if asked.workers < 0 or not 0 <= asked.bad_samples < 1:
    parser.error("--workers are 0 or more, --bad_samples a share below 1")
  which = [each.strip() for each in asked.splits.split(",")]
  if not set(which) <= set(splits.NAMES):
    parser.error(f"--splits are of {', '.join(splits.NAMES)}")
  try:
    return _run(asked, which)
  except KeyboardInterrupt:
    print("stopped; the same command goes on", file=sys.stderr)
    return EXIT_USER
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER


def _run(asked, which) -> int:
  fitting.check(asked.fit)
  config = dataclasses.replace(
    show.asked_of(asked, size=asked.size),
    fit=asked.fit,
    bad_samples=asked.bad_samples,
  )
  out = Path(asked.out).expanduser()
  manifest = build(config, out, workers=asked.workers, which=which)
  for name, split in manifest["splits"].items():
    count = sum(shard["count"] for shard in split["shards"])
    bad = f", {len(split['bad']):,} left out" if split["bad"] else ""
    print(f"{name:10s} {count:,} samples{bad}")
    for line in split["bad"][: mixture.MOST_NAMED]:
      print(f"  {line}")
  print(
    f"read it with --config.data.source=built --config.data.settings.built.root"
    f"={asked.out} --config.data.image_size={asked.size}"
    f" --config.data.fit={asked.fit}"
  )
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
