"""Jobs that end at once and leave what their stage would leave."""

import json
import os

import numpy as np

from cooper_jax.experiments import jobs
from cooper_jax.training import workdir

ROOT = workdir.Path(__file__).parents[2]
PAPER = str(ROOT / "configs/paper.py")
FAMILIES = ("distance", "height", "closer", "gap", "exists")
MODES = ("direct", "text", "depth", "adaptive")
# Rows whose answers are right more often, by how much.
GAINS = {"amg": 0.2, "cooper": 0.3}


def asked(rows, seeds=(0,), **changes) -> jobs.Experiment:
  return jobs.Experiment(
    PAPER, tuple(rows), tuple(seeds), smoke=True, **changes
  )


class Process:
  """Ends at once with a code."""

  def __init__(self, code=0):
    self.code, self.stopped = code, False

  def poll(self):
    return self.code

  def terminate(self):
    self.stopped = True
    self.code = 75

  def wait(self):
    return self.code


class Machine:
  """`begin` of `run.run`, and which jobs it was asked to make, in order."""

  def __init__(self, fail=(), commit="c0ffee"):
    self.begun, self.fail, self.commit = [], tuple(fail), commit

  def __call__(self, job, device):
    self.begun.append(job.name)
    if job.name in self.fail:
      log = job.folder / "log.txt"
      log.write_text("step 3\nerror: the loss is not finite\n")
      return Process(43)
    for stage in job.parents:  # as a stage would read them
      assert (job.folder / stage / "stage.json").exists()
    before, os.environ["COOPER_COMMIT"] = (
      os.environ.get("COOPER_COMMIT"),
      self.commit,
    )
    try:
      self.make(job)
    finally:
      if before is None:
        del os.environ["COOPER_COMMIT"]
      else:
        os.environ["COOPER_COMMIT"] = before
    return Process()

  def make(self, job):
    if job.stage == jobs.PACKAGE:
      job.folder.mkdir()
      (job.folder / "manifest.json").write_text("{}")
      return
    workdir.begin(job.config, job.folder, job.stage)
    if job.stage == jobs.EVALUATE:
      evaluate(job)
    for stage in job.config.pipeline[:-1]:  # those that a package stands for
      if stage not in job.parents:
        workdir.finish(job.config, job.folder, stage, seconds=0.0)
    workdir.add_summary(job.folder, {f"said/{job.stage}": 1})
    workdir.finish(job.config, job.folder, job.stage, seconds=30.0)


def evaluate(job):
  """Answers that depend on the row and the seed alone."""
  row, seed = job.rows[0]
  for stage in ("sft", "grpo"):
    if stage not in job.config.pipeline:
      continue
    gain = GAINS.get(row.partition("-")[0], 0.0) if stage != "sft" else 0.0
    if "grpo" not in job.config.pipeline:
      gain = GAINS.get(row.partition("-")[0], 0.0)
    lines = []
    for m, mode in enumerate(MODES):
      draws = np.random.default_rng([seed, m]).random(100)
      for k, draw in enumerate(draws):
        family, hit = FAMILIES[k % 5], draw < 0.4 + gain
        length = family in ("distance", "height", "gap")
        wrong, right = ("5.00 m", "2.00 m") if length else ("no", "yes")
        said = right if hit else wrong
        lines.append(
          {
            "sample": f"s{k}", "question": "?", "family": family, "mode": mode,
            "answer": right, "value": 2.0 if length else None,
            "text": f"<answer> {said} </answer>",
            "hit": float(hit), "drew": ["depth"] * (mode == "depth"),
          }
        )  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path = job.folder / "evaluate" / f"{stage}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    for name in job.config.evaluate.benchmarks[1:]:  # all wrong before GRPO
      (path.parent / name).mkdir(exist_ok=True)
      asked = text if stage == "grpo" else text.replace('hit": 1', 'hit": 0')
      (path.parent / name / path.name).write_text(asked)
    workdir.add_summary(
      job.folder,
      {
        f"heldout/accuracy/pair/{stage}": 0.5,
        f"maps/{stage}/depth/abs_rel": 0.25,
        "qa/accuracy/distance/constant": 0.1,
        "qa/accuracy/distance/constant/n": 20,
      },
    )
