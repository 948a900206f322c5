"""Python file of one's own, run under a name that no other module has."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load(path: Path, kind: str) -> ModuleType | None:
  """Runs a file; None where it is no Python file. Raises what the file raises.

  kind: what it is for, "config" or "reward"; the file may be called as a module
  of ours or of Python's is.
  """
  spec = importlib.util.spec_from_file_location(
    f"cooper_jax_{kind}_{path.stem}", path
  )
  if spec is None:
    return None
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module  # its dataclasses look there
  spec.loader.exec_module(module)
  return module
