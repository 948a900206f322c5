"""Answers of finished rows, kept apart from the gigabytes that made them.

Of an evaluation a folder of its name holds what the results are read off: who
made it, its summary, and of each answer, packed, the fields that are read. A
sweep that is given the folder of these (`--answers`) makes no such row again,
on whatever machine, and adds the rows that it finishes.
"""

import gzip
import json
import os
from pathlib import Path

from cooper_jax.errors import UserError
from cooper_jax.eval import comparison
from cooper_jax.experiments.jobs import EVALUATE, Job, whole
from cooper_jax.training import json_files, workdir

# Of an answer, in this order.
KEPT_FIELDS = ("mode", "family", "sample", "question", "answer", "value")
KEPT_FIELDS += ("text", "hit", "drew")


def keep(jobs: dict[str, Job], folder) -> list[str]:
  """Adds what is finished; gives the names of what was added.

  Raises UserError where the folder can't be written.
  """
  folder, added = whole(folder), []
  for name, job in jobs.items():
    there = folder / name
    if job.stage != EVALUATE or job.folder == there or not job.is_finished():
      continue
    try:
      _copy(job, jobs, there)
    except OSError as error:
      raise UserError(
        f"--answers={folder} can't be written ({error.strerror}); choose"
        " another folder"
      ) from error
    added.append(name)
  return added


def _anywhere(record, job: Job):
  """A record as it is on any machine: without the folders of this one.

  Commands are as from this repository's root, and what another job made is
  called by that job's name.
  """
  if isinstance(record, str):
    for folder in (Path(__file__).parents[2], job.folder.parent):
      record = record.replace(f"{folder}{os.sep}", "")
  elif isinstance(record, dict):
    return {name: _anywhere(each, job) for name, each in record.items()}
  elif isinstance(record, list):
    return [_anywhere(each, job) for each in record]
  return record


def _copy(job: Job, jobs: dict[str, Job], there: Path) -> None:
  """Of one evaluation; what says that it is finished comes last."""
  made = job.folder / EVALUATE
  for path in sorted(made.rglob("*.jsonl")):  # of each benchmark in a folder
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    kept = [{n: line[n] for n in KEPT_FIELDS if n in line} for line in lines]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    copy = there / EVALUATE / path.relative_to(made)
    copy = copy.with_name(f"{copy.name}{comparison.PACKED}")
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = copy.with_name(f"{copy.name}.partial")
    # Without a date: the same answers are the same bytes.
    partial.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
    partial.rename(copy)
  summary = json_files.read_json(job.folder / "summary.json")
  json_files.write_json(there / "summary.json", summary)
  record = workdir.record(job.folder, EVALUATE)
  # Whoever worked at the stages before it has made it, too.
  by = [
    each for name in (*job.needs, job.name) for each in jobs[name].made_by()
  ]
  record["by"] = [each for k, each in enumerate(by) if each not in by[:k]]
  json_files.write_json(there / EVALUATE / "stage.json", _anywhere(record, job))
