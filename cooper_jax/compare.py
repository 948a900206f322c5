"""Compares runs of two recipes, seed by seed, on the same questions.

  python -m cooper_jax.compare runs/with0 runs/with1 runs/with2 \\
    --against runs/without0 runs/without1 runs/without2 --mode=text

Runs are paired in order. Prints differences of accuracy in points, with a 95 %
interval over seeds and questions, for all questions, for distance and size,
and by family.
"""

import argparse
import sys

from cooper_jax.errors import (
  EXIT_DONE,
  EXIT_USER,
  UserError,
  printable,
  unread,
)
from cooper_jax.eval import comparison


def main(argv=None) -> int:
  """Prints a line a group; gives the exit code."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.compare", description=__doc__.splitlines()[0]
  )
  add = parser.add_argument
  add("runs", nargs="+", help="workdirs of one recipe, evaluated")
  add("--against", nargs="+", required=True, help="as many of the other")
  add("--stage", default="sft", help="whose answers (default sft)")
  add("--mode", default="adaptive", help="of use (default adaptive)")
  asked = parser.parse_args(argv)
  try:
    if len(asked.runs) != len(asked.against):
      raise UserError(
        f"{len(asked.runs)} runs and {len(asked.against)} of --against; give"
        " as many of each, one pair a seed"
      )
    made = comparison.pairs(asked.runs, asked.against, asked.stage, asked.mode)
    print("\n".join(lines(asked, made)), flush=True)
  except BrokenPipeError:
    unread()
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  return EXIT_DONE


def lines(asked, made) -> list[str]:
  """What is printed of pairs of runs."""
  found = [f"{len(made)} pairs, stage {asked.stage}, mode {asked.mode}"]
  for name, (mean, low, high, count) in comparison.differences(made).items():
    mean, low, high = (100 * value for value in (mean, low, high))
    said = f"{mean:+6.1f} ({low:+.1f} to {high:+.1f})  n {count}"
    found.append(f"{name:18s} {said}")
  return found


if __name__ == "__main__":
  sys.exit(main())
