"""Runs of an experiment: a row's evaluations, one a seed, as they are read."""

import dataclasses

from cooper_jax.eval import comparison, pairing
from cooper_jax.experiments import rows_file
from cooper_jax.experiments.jobs import Experiment, evaluation


@dataclasses.dataclass(frozen=True)
class Run:
  """A row's evaluations, one a seed; `gap` says what is missing."""

  mode: str
  stage: str
  folders: tuple
  commits: tuple[str, ...]
  config: object
  gap: str = ""
  benchmark: str = ""  # whose answers are read, "" = the test split

  def answers(self, stage="") -> list[dict]:
    """mode -> {question: line}, of each seed."""
    return [
      comparison.answers(folder, stage or self.stage, self.benchmark)
      for folder in self.folders
    ]


def find(module, asked: Experiment, jobs, name: str) -> Run:
  """The runs of a row for every seed."""
  found = {seed: evaluation(jobs, name, seed) for seed in asked.seeds}
  missing = [str(s) for s, job in found.items() if not job.is_finished()]
  gap = f"not finished: seed {', '.join(missing)}" if missing else ""
  own = [jobs[n] for job in found.values() for n in (job.name, *job.needs)]
  commits = dict.fromkeys(commit for job in own for commit in job.commits())
  config = next(iter(found.values())).config
  mode = rows_file.of_row(module.MODES, name, pairing.FREE)
  stage = config.pipeline[-2]
  folders = tuple(job.folder for job in found.values())
  benchmark = rows_file.of_row(module.BENCHMARKS, name, "")
  run = Run(mode, stage, folders, tuple(commits), config, gap, benchmark)
  if not gap and any(mode not in each for each in run.answers()):
    return dataclasses.replace(run, gap=f"was not asked in mode {mode}")
  return run
