"""Ridge regression of objects' depth from the states of image cells, by layer.

  python -m cooper_jax.eval.ridge --workdir=runs/with --workdir=runs/without

How much of the distance of what is seen is told, linearly, by the image encoder
and by each layer of the decoder? Fitted to log metres on training scenes, the
penalty chosen on validation scenes, scored on test scenes, all at cells that an
object covers. Beside it the same network untrained, and one constant. Prints
R2 and AbsRel a layer, and draws them, a line a run.
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import sys
from pathlib import Path

import jax
import numpy as np

from cooper_jax import errors, policy
from cooper_jax.data import mixture
from cooper_jax.data.sources import DataConfig
from cooper_jax.errors import UserError
from cooper_jax.eval import cell_states
from cooper_jax.parallel import mesh, shard
from cooper_jax.runtime import compilation
from cooper_jax.trained import stage_params
from cooper_jax.training import workdir

LAST_FIRST = ("grpo", "sft", "pretrain")  # stages
READ_SCENES = {"train": 400, "validation": 100, "test": 200}
PENALTIES = np.logspace(-6, 2, 17)  # times the number of cells


@dataclasses.dataclass(frozen=True)
class Score:
  """How well a layer tells log depth on test scenes."""

  r2: float
  abs_rel: float  # mean |ours / true - 1|
  penalty: float


@dataclasses.dataclass(frozen=True)
class LayerScores:
  """A run's scores by layer, and those of its network untrained."""

  name: str
  stage: str
  trained: dict
  untrained: dict
  constant: float  # AbsRel of one depth for all
  cells: int  # of test scenes


def fits(x, y):
  """Yields (penalty, predictor) of y [n] from states x [n, D], standardised."""
  mean, scale, centre = x.mean(axis=0), x.std(axis=0) + 1e-6, y.mean()
  z = (x - mean) / scale
  along, axes = np.linalg.eigh(z.T @ z / len(y))
  turned = axes.T @ (z.T @ (y - centre)) / len(y)
  for penalty in PENALTIES:
    weights = axes @ (turned / (along + penalty))
    yield (
      float(penalty),
      lambda states, w=weights: (states - mean) / scale @ w + centre,
    )


def score(layer: str, train, validation, test) -> Score:
  """Fits with the penalty that is best in validation; `Cells` of each.

  Raises UserError where states are not finite.
  """
  for each in (train, validation, test):
    if not np.isfinite(each.states[layer]).all():
      raise UserError(
        f"states of {layer} are not finite: this training has diverged; give"
        " another --stage or --workdir"
      )
  best = math.inf
  for penalty, ours in fits(train.states[layer], train.log_depth):
    missed = ours(validation.states[layer]) - validation.log_depth
    if np.mean(missed**2) < best:
      best, chosen, predict = np.mean(missed**2), penalty, ours
  missed = predict(test.states[layer]) - test.log_depth
  return Score(
    r2=float(1 - np.mean(missed**2) / np.var(test.log_depth)),
    abs_rel=float(np.mean(np.abs(np.expm1(missed)))),
    penalty=chosen,
  )


def measure(made: policy.Policy, params, samples) -> tuple[dict, dict]:
  """({layer: Score}, {split: Cells}) of {split: samples}."""
  cells = {
    split: cell_states.of_samples(made.form, params, some)
    for split, some in samples.items()
  }
  names = cell_states.layers(made.form)
  return {name: score(name, **cells) for name in names}, cells


def of_workdir(folder, *, stage: str = "", scenes=READ_SCENES) -> LayerScores:
  """Scores a run's policy; stage: "" = the last that it has trained.

  Raises UserError where there is no such stage.
  """
  folder = Path(folder).expanduser()
  config = workdir.read_config(folder)
  made = policy.make_policy(config)
  stage, params = _load(made, config, folder, stage)
  samples = _samples(config, scenes)
  trained, cells = measure(made, params, samples)
  fresh = jax.jit(lambda key: shard.unbox(policy.init_params(made, key)))(
    jax.random.key(config.seed)
  )
  untrained, _ = measure(made, fresh, samples)
  centre, test = cells["train"].log_depth.mean(), cells["test"].log_depth
  return LayerScores(
    name=f"{config.variant}, seed {config.seed}",
    stage=stage,
    trained=trained,
    untrained=untrained,
    constant=float(np.mean(np.abs(np.expm1(centre - test)))),
    cells=len(test),
  )


def _load(made, config, folder: Path, stage: str):
  """The stage that is looked at, and its parameters."""
  for each in (stage,) if stage else LAST_FIRST:
    if (workdir.record(folder, each) or {}).get("finished"):
      params = stage_params(made, config, folder, each)
      if params is not None:  # a package has no pretraining
        return each, params
  raise UserError(
    f"{folder} has trained no {stage or ' or '.join(LAST_FIRST)} to the end;"
    " give a --workdir that has, or another --stage"
  )


def _samples(config, scenes) -> dict[str, list]:
  """The first samples of each split that can be read."""
  data = DataConfig.from_config(config)
  data = dataclasses.replace(data, in_memory=False)  # a few are read
  found = {}
  for split, most in scenes.items():
    source = mixture.open_tolerant(data, split)
    found[split] = [*itertools.islice(mixture.readable(source), most)]
  return found


def lines(found: LayerScores) -> list[str]:
  """What is printed of a run."""
  made = [
    f"{found.name}, {found.stage}: log depth at {found.cells} cells of objects;"
    f" one constant has AbsRel {found.constant:.3f}",
    "  layer          R2  AbsRel   untrained R2  AbsRel",
  ]
  for name, one in found.trained.items():
    other = found.untrained[name]
    made.append(
      f"  {name:11s} {one.r2:5.3f}   {one.abs_rel:5.3f}"
      f"          {other.r2:5.3f}   {other.abs_rel:5.3f}"
    )
  return made


def draw(runs: list[LayerScores], path: Path) -> None:
  """Writes a PNG: R2 and AbsRel by layer, a line a run."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
  for axis, measured, title in zip(
    axes, ("r2", "abs_rel"), ("R2 of log depth at objects", "AbsRel")
  ):
    for i, run in enumerate(runs):
      y = [getattr(each, measured) for each in run.trained.values()]
      axis.plot([*run.trained], y, marker="o", color=f"C{i}", label=run.name)
    for i, run in enumerate(runs):  # equal ones lie on each other
      y = [getattr(each, measured) for each in run.untrained.values()]
      label = None if i else "untrained"
      axis.plot([*run.untrained], y, color="gray", linestyle=":", label=label)
    axis.set_ylabel(title)
    axis.tick_params(axis="x", rotation=30)
    axis.set_ylim(bottom=0)
  figure.legend(  # above both: a curve may go anywhere
    *axes[0].get_legend_handles_labels(),
    loc="outside upper center",
    ncols=4,
    frameon=False,
    fontsize="small",
  )
  partial = path.with_suffix(".partial")
  figure.savefig(partial, dpi=120, format="png", metadata={"Software": None})
  plt.close(figure)
  os.replace(partial, path)


def _named(runs: list[LayerScores], folders) -> list[LayerScores]:
  """Runs by their folders, where two have one name."""
  if len({run.name for run in runs}) == len(runs):
    return runs
  return [
    dataclasses.replace(run, name=str(folder))
    for run, folder in zip(runs, folders)
  ]


def main(argv=None) -> int:
  """Prints the scores of each workdir; gives the exit code."""
  errors.printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.eval.ridge", description=__doc__.splitlines()[0]
  )
  add = parser.add_argument
  add("--workdir", action="append", required=True, help="of a run; several")
  add("--stage", default="", choices=("", *LAST_FIRST), help="default the last")
  add("--figure", default="", help="default ridge.png in the first workdir")
  add("--json", action="store_true", help="print a JSON line alone")
  asked = parser.parse_args(argv)
  try:
    compilation.use_cache("", fallback=Path("compiled"))
    with jax.set_mesh(mesh.make_mesh(devices=jax.local_devices()[:1])):
      runs = [of_workdir(each, stage=asked.stage) for each in asked.workdir]
    runs = _named(runs, asked.workdir)
    path = Path(asked.figure or Path(asked.workdir[0]) / "ridge.png")
    path = path.expanduser()
    if not asked.json:
      print("\n".join(line for run in runs for line in lines(run)))
    draw(runs, path)
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return errors.EXIT_USER
  if asked.json:
    print(json.dumps([dataclasses.asdict(run) for run in runs]))
  else:
    print(f"figure: {path}")
  return errors.EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
