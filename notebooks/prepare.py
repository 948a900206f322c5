"""Requirements of the notebooks: what is missing is installed, JAX is kept.

The JAX and numpy that are there fit the machine (Colab's its accelerator), so
they stay; where their version is not one that the code works with, that is
said.
"""

import importlib.metadata
import pathlib
import subprocess
import sys

from packaging.requirements import Requirement

KEPT = ("jax", "numpy")


def wanted(root: pathlib.Path) -> list[Requirement]:
  """What requirements.txt asks for."""
  lines = (root / "requirements.txt").read_text("utf-8").splitlines()
  return [Requirement(line) for line in lines if line and line[0] != "#"]


def version(name: str) -> str | None:
  """The installed version of a package, None without it."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def missing(asked: list[Requirement]) -> list[str]:
  """Those to be installed: absent, or of a version that will not do."""
  found = []
  for each in asked:
    here = version(each.name)
    kept = here is not None and each.name in KEPT
    if not kept and (here is None or here not in each.specifier):
      found.append(str(each))
  return found


def warnings(asked: list[Requirement]) -> list[str]:
  """A line for what is kept and is of a version that will not do."""
  return [
    f"warning: {each.name} {version(each.name)} is here, the code needs"
    f" {each.specifier}; install that and restart the notebook"
    for each in asked
    if each.name in KEPT and version(each.name) not in each.specifier
  ]


def install(root: pathlib.Path) -> str:
  """Installs what is missing; says what the notebook runs on."""
  asked = wanted(root)
  needed = missing(asked)
  if needed:
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *needed], check=True)
  import jax

  python = ".".join(map(str, sys.version_info[:3]))
  devices = ", ".join(str(device) for device in jax.devices())
  runs = f"Python {python}, JAX {jax.__version__} on {devices}, {root}"
  return "\n".join([*warnings(asked), runs])
