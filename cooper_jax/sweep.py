"""Runs rows of a config for several seeds, and writes a table and a figure.

  python -m cooper_jax.sweep --config=configs/paper.py --rows=base,amg \\
    --seeds=0,1,2 --out=runs/paper

Prints the jobs with their minutes first (with --plan no more than that). A
stage that several rows share is made once; killed, the same command goes on.
Leaves table.md, paper.csv and figure.png in the folder.
"""

import argparse
import sys
from pathlib import Path

from cooper_jax import errors
from cooper_jax.experiments import (
  figure,
  jobs,
  kept_answers,
  results,
  rows_file,
  run,
  tables,
)
from cooper_jax.runtime import interrupt
from cooper_jax.settings import ranges
from cooper_jax.training import lock

SWEEP_FLAGS = {
  "config": dict(
    default="configs/paper.py",
    help="file with ROWS; FILE.py:smoke for rows that learn nothing",
  ),
  "rows": dict(default="all", help="names of rows or of groups of them"),
  "seeds": dict(default="0,1,2", help="whole numbers"),
  "out": dict(default="runs/paper", help="folder of the results"),
  "jobs": dict(type=int, default=0, help="at once; default one a device"),
  "answers": dict(
    default="", help="folder of answers that are kept: read, and added to"
  ),
  "plan": dict(action="store_true", help="print the jobs and stop"),
  "mixed": dict(action="store_true", help="use what other commits made"),
}


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one line, as everything here."""

  def error(self, message):
    raise errors.UserError(f"{message}; see python -m cooper_jax.sweep --help")


def read(argv) -> tuple[argparse.Namespace, jobs.Experiment]:
  """The command line; raises UserError where something in it is wrong."""
  parser = _Parser(
    prog="python -m cooper_jax.sweep",
    description=__doc__.splitlines()[0],
    epilog="--config.NAME=VALUE changes a setting of every row.",
    allow_abbrev=False,
  )
  for name, options in SWEEP_FLAGS.items():
    parser.add_argument(f"--{name}", **options)
  given = [word for word in argv if not word.startswith("--config.")]
  settings = [word for word in argv if word.startswith("--config.")]
  known = [f"--{name}" for name in SWEEP_FLAGS]
  for word in given:
    flag = word.partition("=")[0]
    if flag.startswith("--") and flag not in (*known, "--help"):
      raise errors.UserError(
        f"no flag {flag}; there are {', '.join(known)} and --config.NAME=VALUE"
        f"{errors.nearest(flag, known)}"
      )
  asked = parser.parse_args(given)
  for name in ("config", "out"):
    if not getattr(asked, name):
      raise errors.UserError(
        f"--{name} needs a value: {SWEEP_FLAGS[name]['help']}"
      )
  if asked.jobs < 0:
    raise errors.UserError(f"--jobs={asked.jobs}: write a whole number above 0")
  file, colon, variant = asked.config.partition(":")
  if colon and variant != "smoke":
    raise errors.UserError(
      f'--config={asked.config}: "{variant}" is not smoke; rows are named in'
      " --rows"
    )
  module = rows_file.load(file)
  rows = jobs.expand(module, _split(asked.rows))
  seeds = [_seed(each) for each in _split(asked.seeds)]
  if not rows or not seeds:
    raise errors.UserError("--rows and --seeds name at least one each")
  seeds = tuple(dict.fromkeys(seeds))
  return asked, jobs.Experiment(file, rows, seeds, bool(colon), tuple(settings))


def _split(text: str) -> list[str]:
  return [each.strip() for each in text.split(",") if each.strip()]


def _seed(text: str) -> int:
  if not text.isdecimal():
    raise errors.UserError(
      f'--seeds names "{text}"; write whole numbers, as in --seeds=0,1,2'
    )
  if int(text) not in ranges.SEED:
    raise errors.UserError(f"--seeds names {text}; allowed: {ranges.SEED}")
  return int(text)


def sweep(argv) -> int:
  """Plans, runs and writes; gives the exit code."""
  asked, wanted = read(argv)
  made = jobs.plan(wanted, asked.out, asked.answers)
  run.check_commits(made, mixed=asked.mixed)
  print(run.table(made), flush=True)
  if asked.plan:
    return errors.EXIT_DONE
  out = Path(asked.out).expanduser().absolute()

  def keep() -> None:
    if asked.answers:
      kept_answers.keep(made, asked.answers)

  at_once = asked.jobs or max(1, len(run.devices()))
  with _held(out):
    keep()  # what a sweep had finished that was killed
    code = run.run(made, at_once=at_once, finished=keep)
    found = results.collect(wanted, made, argv)
    tables.write(found, out)
    figure.write(found, out / "figure.png")
  for each in found.verdicts:
    print(each)
  print(f"written: {out}/table.md, paper.csv and figure.png", flush=True)
  return code


def _held(out: Path):
  """The lock of the results' folder, as that of a workdir."""
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.UserError(
      f"--out={out} can't be written ({error.strerror}); choose another folder"
    ) from error
  return lock.held(out)


def main(argv=None) -> int:
  """Gives the exit code; prints one line where something is wrong."""
  errors.printable()
  try:
    with interrupt.terminable():
      return sweep(sys.argv[1:] if argv is None else argv)
  except (Exception, errors.Preempted) as error:
    return errors.tell(error)


if __name__ == "__main__":
  sys.exit(main())
