"""Provenance of a result: command, commit, machine and precision."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from cooper_jax.training import precision
from cooper_jax.training.json_files import digest, plain


def maker(config) -> dict:
  """What runs now: settings of the command line, commit, machine and dtypes."""
  from cooper_jax.training import telemetry

  words = [word for each in sys.argv[1:] for word in each.split("=", 1)]
  asked = [
    name if value.startswith("--") else f"{name}={value}"
    for name, value in zip(words, [*words[1:], "--"])
    if name.startswith("--config")
  ]
  return {
    "command": shlex.join(["python", "-m", "cooper_jax.main", *asked]),
    "commit": commit(),
    "machine": telemetry.describe_machine()[0],
    "dtypes": str(precision.dtypes(config.precision)),
  }


def identity(config) -> str:
  """What several processes of one run must have in common."""
  made = f"{digest(plain(config))} of commit {commit()}"
  return f"{made}, in {precision.dtypes(config.precision)}"


def commit() -> str:
  """The commit of this code, "-dirty" after it if it was changed since.

  A launcher that ships files without their history says it in COOPER_COMMIT.
  """
  if said := os.environ.get("COOPER_COMMIT"):
    return said
  try:
    run = subprocess.run(
      ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
      cwd=Path(__file__).parent,
      capture_output=True,
      text=True,
      check=False,
    )
  except OSError:  # no git here
    return "unknown"
  return run.stdout.strip() or "unknown"
