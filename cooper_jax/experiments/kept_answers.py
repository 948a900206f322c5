"""Answers of finished rows, kept apart from the gigabytes that made them.

Of an evaluation a folder of its name holds what the results are read off: who
made it, its summary, and of each answer, packed, the fields that are read. A
sweep that is given the folder of these (`--answers`) makes no such row again,
on whatever machine, and adds the rows that it finishes.
"""

import gzip
import json
import re
from pathlib import Path

from cooper_jax.errors import UserError
from cooper_jax.eval import comparison
from cooper_jax.experiments.jobs import EVALUATE, PACKAGE, Job, whole
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


def _anywhere(command: str) -> str:
  """A command as from a repository's root, whichever clone it was.

  A config outside of it is named by its file, and what another job packed by
  that job's name.
  """
  file = r"(--config=)\S*?/((?:configs/)?[^/\s:]+)(?=[:\s]|$)"
  command = re.sub(file, r"\1\2", command)
  return re.sub(rf"[^\s='\"]*/({PACKAGE}-[0-9a-f]+)", r"\1", command)


def _makers(job: Job, jobs: dict[str, Job]) -> list[dict]:
  """Who worked at a job and at those before it, each once."""
  found = [each for name in job.needs for each in _makers(jobs[name], jobs)]
  found += [
    each | {"command": _anywhere(each["command"])}
    if "command" in each
    else each
    for each in job.made_by()
  ]
  return [each for k, each in enumerate(found) if each not in found[:k]]


def _copy(job: Job, jobs: dict[str, Job], there: Path) -> None:
  """Of one evaluation; what says that it is finished comes last."""
  made = job.folder / EVALUATE
  for path in sorted(made.rglob("*.jsonl")):  # of each benchmark in a folder
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    kept = [{n: line[n] for n in KEPT_FIELDS if n in line} for line in lines]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    copy = there / EVALUATE / path.relative_to(made)
    copy.parent.mkdir(parents=True, exist_ok=True)
    packed = copy.with_name(f"{copy.name}{comparison.GZIPPED}")
    partial = packed.with_name(f"{packed.name}.partial")
    # Without a date: the same answers are the same bytes.
    partial.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
    partial.rename(packed)
    copy.unlink(missing_ok=True)  # as they were kept before
  summary = json_files.read_json(job.folder / "summary.json")
  json_files.write_json(there / "summary.json", summary)
  record = workdir.record(job.folder, EVALUATE)
  record["by"] = _makers(job, jobs)
  start = Path(record["settings"].get("init_from") or "")
  if start.parent == job.folder.parent:  # see `jobs`, which looks for the name
    record["settings"]["init_from"] = start.name
  json_files.write_json(there / EVALUATE / "stage.json", record)
