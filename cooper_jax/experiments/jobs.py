"""Jobs of an experiment: each stage that some rows and seeds need, made once.

A row is a variant of a config file, a whole pipeline. Two stages whose settings
are equal, with all settings of the stages before them, have one result: they
are one job, named by the digest of these settings. A job has a workdir of its
own, `<stage>-<digest>` in `OUT/work`, in which the folders of the stages
before it are links to theirs.
"""

import dataclasses
import functools
import os
from pathlib import Path

from ml_collections import ConfigDict

from cooper_jax import command, package
from cooper_jax.errors import UserError, nearest
from cooper_jax.experiments import row_results, rows_file
from cooper_jax.settings import config_file
from cooper_jax.training import json_files, stage_settings, workdir

EVALUATE = row_results.EVALUATE
PACKAGE = "package"  # the job that packs a trained SFT as another row's start

# Settings that every job is given its own value of -> how it is chosen.
SET_HERE = {
  "seed": "name the seeds in --seeds=0,1,2",
  "pipeline": "a row's pipeline is that of its config; name the rows in --rows",
}
# The same in rows that begin with what another row trained.
SET_BY_START = ("init_from", "init_as")


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What an experiment runs: rows of a config file, for some seeds."""

  file: str  # the config file; it has ROWS and get_config(row)
  rows: tuple[str, ...]
  seeds: tuple[int, ...]
  smoke: bool = False
  settings: tuple[str, ...] = ()  # "--config.NAME=VALUE", of every row


@dataclasses.dataclass(frozen=True)
class Job:
  """One stage of one or several rows."""

  name: str
  stage: str
  folder: Path  # its workdir; of a package the package itself
  arguments: tuple[str, ...]  # of the module that makes it
  minutes: float  # expected, on two cores
  config: ConfigDict | None = None  # up to this stage; None of a package
  # Stage before it -> the job whose folder holds that.
  parents: dict = dataclasses.field(default_factory=dict)
  needs: tuple[str, ...] = ()  # jobs that are finished before
  rows: list = dataclasses.field(default_factory=list)  # (row, seed) it is for

  @property
  def module(self) -> str:
    made_by = PACKAGE if self.stage == PACKAGE else "main"
    return f"cooper_jax.{made_by}"

  def is_finished(self) -> bool:
    """Whether its result is there, made with these very settings."""
    if self.stage == PACKAGE:
      return package.is_one(self.folder)
    return workdir.is_finished(self.config, self.folder, self.stage)

  def seconds(self) -> float | None:
    """Seconds that it took, None where it is not finished."""
    if self.stage == PACKAGE or not self.is_finished():
      return None
    return workdir.record(self.folder, self.stage)["seconds"]

  def made_by(self) -> list[dict]:
    """What has worked at it (`provenance.maker`), in order."""
    if self.stage == PACKAGE:
      return []
    return (workdir.record(self.folder, self.stage) or {}).get("by", [])

  def commits(self) -> list[str]:
    """Commits of the code that has worked at it, in order."""
    return [each.get("commit", "unknown") for each in self.made_by()]


def expand(module, named) -> tuple[str, ...]:
  """Rows in order, each once, of names of rows and of groups of them."""
  rows = [row for name in named for row in module.GROUPS.get(name, (name,))]
  for row in rows:
    head = row.partition("-")[0]  # what follows is a point of a curve
    if head not in module.ROWS:
      raise UserError(
        f'--rows names "{row}"; there are {", ".join(module.ROWS)}, and groups'
        f" {', '.join(module.GROUPS)}"
        f"{nearest(head, (*module.GROUPS, *module.ROWS))}"
      )
    config_file.make(module, row)
  return tuple(dict.fromkeys(rows))


def plan(asked: Experiment, out, answers=None) -> dict[str, Job]:
  """name -> job, each after those it needs; checks every config.

  Raises UserError for a row without results, and a setting that each job sets.

  answers: folder of `kept_answers`. An evaluation that is finished there, and
  not in `out`, is that one, and what came before it need not be made.
  """
  module = rows_file.load(asked.file)
  _check_settings(module, asked)
  grown = _Plan(module, asked, whole(out), answers and whole(answers))
  for row in asked.rows:
    row_results.check(module, row, grown.config(row))
    for seed in asked.seeds:
      grown.add(row, seed)
  return grown.jobs


def _check_settings(module, asked: Experiment) -> None:
  """Raises UserError where a setting is given that each job sets."""
  starts = {row: rows_file.of_row(module.STARTS, row) for row in asked.rows}
  started = [row for row, start in starts.items() if start]
  for word in asked.settings:
    name = word.removeprefix("--config.").partition("=")[0]
    if name in SET_HERE:
      raise UserError(f"{word}: a sweep sets it of each job; {SET_HERE[name]}")
    if name in SET_BY_START and started:
      raise UserError(
        f"{word}: row {started[0]} begins with what row"
        f" {starts[started[0]]} trained, and a sweep sets it; leave it"
        " out, or leave such rows out of --rows"
      )


def whole(path) -> Path:
  """The whole path of a folder, wherever it is named from."""
  return Path(path).expanduser().absolute()


def to_do(jobs: dict[str, Job]) -> list[str]:
  """Names of the jobs that an evaluation which is not finished still needs."""
  todo = set()
  for name, job in reversed(jobs.items()):
    if not job.is_finished() and (job.stage == EVALUATE or name in todo):
      todo |= {name, *job.needs}
  return [
    name for name in jobs if name in todo and not jobs[name].is_finished()
  ]


def evaluation(jobs: dict[str, Job], row: str, seed: int) -> Job:
  """The job that evaluates a row."""
  return next(
    job
    for job in jobs.values()
    if job.stage == EVALUATE and (row, seed) in job.rows
  )


class _Plan:
  """Jobs as rows are added."""

  def __init__(self, module, asked: Experiment, out: Path, answers):
    self.module, self.asked, self.out = module, asked, out
    self.answers = answers
    self.jobs = {}
    self.config = functools.cache(self._parse)  # a row's, checked

  def _parse(self, row: str) -> ConfigDict:
    return command.parse([self._named(row), *self.asked.settings]).config

  def _named(self, row: str) -> str:
    small = ":smoke" if self.asked.smoke else ""
    return f"--config={self.module.__file__}:{row}{small}"

  def add(self, row: str, seed: int, *, until: str = EVALUATE) -> dict:
    """Adds what a row needs up to a stage; gives stage -> job that has it."""
    config = self.config(row).copy_and_resolve_references()
    start = rows_file.of_row(self.module.STARTS, row)
    arguments, identity, homes, needs = [], {}, {}, []
    with config.unlocked():
      config.seed = seed
      if start:
        row_results.check_start(row, config, start, self.config(start))
        job = self._package(start, seed)
        config.init_from, config.init_as = str(job.folder), "pretrain"
        arguments = [f"--config.init_from={job.folder}"]
        arguments += ["--config.init_as=pretrain"]
        identity = {"init_from": job.name}  # wherever it lies
        needs = [job.name]
      elif config.init_from:  # one name may hold another model some day
        manifest = package.read_manifest(package.find(config.init_from))
        identity = {"package": manifest["sha256"]}
      packed = package.replaced(config) if config.init_from else ()
    for stage in config.pipeline:
      if stage in packed:  # main puts it into the first workdir
        continue
      cut = config.copy_and_resolve_references()
      with cut.unlocked():
        cut.pipeline = _until(config.pipeline, stage)
      settings = stage_settings.of(cut, stage) | identity
      name = f"{stage}-{json_files.digest(settings)}"
      folder = self.out / "work" / name
      given = (
        self._named(row),
        *self.asked.settings,
        f"--config.seed={seed}",
        f"--config.pipeline={cut.pipeline!r}",
        *arguments,
        f"--workdir={folder}",
      )
      job = Job(
        name=name,
        stage=stage,
        folder=folder,
        arguments=given,
        minutes=config[stage].expected_minutes,
        config=cut,
        parents=dict(homes),
        needs=tuple(dict.fromkeys([*needs, *homes.values()])),
      )
      self._put(self._kept(job), (row, seed))
      homes[stage] = name
      for each in packed:
        homes.setdefault(each, name)
      if stage == until:
        break
    return homes

  def _kept(self, job: Job) -> Job:
    """The job as it was kept, if it is an evaluation that was."""
    if job.stage != EVALUATE or not self.answers or job.is_finished():
      return job
    config = job.config.copy_and_resolve_references()
    start = Path(config.init_from)
    if start.parent == job.folder.parent:  # kept by its name, wherever it lay
      with config.unlocked():
        config.init_from = start.name
    kept = dataclasses.replace(
      job, folder=self.answers / job.name, config=config
    )
    return kept if kept.is_finished() else job

  def _package(self, row: str, seed: int) -> Job:
    """The job that packs the trained SFT of a row."""
    made = self.add(row, seed, until=package.STAGE)[package.STAGE]
    name = f"{PACKAGE}-{made.partition('-')[2]}"
    folder = self.out / "work" / name
    given = f"--workdir={self.jobs[made].folder}", f"--out={folder}"
    job = Job(name, PACKAGE, folder, given, 0.3, needs=(made,))
    return self._put(job, (row, seed))

  def _put(self, job: Job, row) -> Job:
    job = self.jobs.setdefault(job.name, job)
    if row not in job.rows:
      job.rows.append(row)
    return job


def _until(stages, last: str) -> tuple[str, ...]:
  return tuple(stages[: list(stages).index(last) + 1])


def prepare(job: Job, jobs: dict[str, Job]) -> None:
  """Makes a job's workdir: links to the stages before it, and what they said.

  Whatever was there before a kill is left as it is. Raises UserError where a
  stage lies where a link should be.
  """
  if job.stage == PACKAGE:
    return
  job.folder.mkdir(parents=True, exist_ok=True)
  for stage, parent in job.parents.items():
    link = job.folder / stage
    there = os.path.join("..", jobs[parent].folder.name, stage)
    if link.is_symlink() and os.readlink(link) == there:
      continue
    if link.exists() and not link.is_symlink():
      raise UserError(
        f"{link} is a folder where a link to {there} belongs; move it away"
      )
    partial = job.folder / f"{stage}.partial"
    partial.unlink(missing_ok=True)
    partial.symlink_to(there)
    os.replace(partial, link)
  summary = job.folder / "summary.json"
  if not summary.exists():  # an evaluation reads what earlier stages measured
    said = {}
    for parent in dict.fromkeys(job.parents.values()):
      before = jobs[parent].folder / "summary.json"
      said |= json_files.read_json(before) if before.exists() else {}
    json_files.write_json(summary, said)
