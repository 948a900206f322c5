"""Writes the report page of a run again, of what the run left in its folder.

  python -m cooper_jax.report --workdir=runs/demo

For a page in the form of this version, or after figures were added. Nothing is
measured: scores come from summary.json, curves from the metrics, the gallery
and the facts of the run from what its evaluation kept.
"""

import argparse
import os
import sys
from pathlib import Path

from cooper_jax.errors import EXIT_DONE, EXIT_USER, UserError, printable


def rewrite(workdir) -> Path:
  """Writes the page of a workdir again, returns its path.

  Raises UserError where the workdir holds no run, or one that measured nothing.
  """
  from cooper_jax.report import kept, page
  from cooper_jax.training.json_files import read_json
  from cooper_jax.training.workdir import read_config

  folder = Path(workdir).expanduser()
  read_config(folder)
  summary = folder / "summary.json"
  if not summary.is_file():
    raise UserError(
      f"{folder} has no summary.json: no stage is finished; run it on with"
      f" python -m cooper_jax.main --workdir={folder}"
    )
  found = kept.load(folder / "report")
  if found is None:
    print(f"{folder} kept no gallery: the page is written without one")
  found = found or {"rows": [], "about": {}}
  return page.write_report(
    folder,
    {
      "summary": read_json(summary),
      "gallery": found["rows"],
      "about": found["about"],
    },
  )


def main(argv=None) -> int:
  """Gives the exit code; prints one line where something is wrong."""
  printable()
  parser = argparse.ArgumentParser(
    prog="python -m cooper_jax.report", description=__doc__.splitlines()[0]
  )
  parser.add_argument(
    "--workdir", type=os.path.expanduser, required=True,
    help="of a run of cooper_jax.main",
  )  # fmt: skip
  asked = parser.parse_args(argv)
  try:
    print(f"report: {rewrite(asked.workdir)}")
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
