"""Config file of one's own: it is run, and what it returns is looked at.

Whatever is wrong with it ends the command in one line, naming file and line.
"""

import inspect
import re
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict, FrozenConfigDict

from cooper_jax import python_file
from cooper_jax.errors import CODE_FAILS, UserError, fault, short
from cooper_jax.training import json_files

# What ml_collections shows of a config at a key that it has not.
DUMP = re.compile(r'Other fields present: ".*"(?=\nDid you mean|$)', re.DOTALL)


def load(path: Path) -> ModuleType:
  """Runs a file that has a function get_config.

  Raises UserError where it fails, or has no such function.
  """
  module = _call(path, python_file.load, path, "config")
  if module is None:
    raise UserError(f"{path} is no Python file; --config takes FILE.py")
  if not callable(getattr(module, "get_config", None)):
    raise UserError(f"{path} has no function get_config(variant)")
  return module


def make(module: ModuleType, *variant: str) -> ConfigDict:
  """What the get_config of a file returns, without or with a variant.

  Raises UserError where it fails, takes no such argument, or returns what is
  no config.
  """
  path = Path(module.__file__)
  try:
    inspect.signature(module.get_config).bind(*variant)
  except TypeError as error:
    mend = (
      f"takes no variant; write --config={path.name}, or get_config(variant)"
      if variant
      else f"needs a variant; write --config={path.name}:VARIANT"
    )
    raise UserError(f"get_config of {path} {mend} ({error})") from error
  except ValueError:  # of what is not written in Python
    pass
  config = _call(path, module.get_config, *variant)
  if not isinstance(config, ConfigDict) or isinstance(config, FrozenConfigDict):
    raise UserError(
      f"get_config of {path} returned {short(config)}; return a ConfigDict of"
      " ml_collections, as configs.base.get_base makes one"
    )
  missing = sorted(_names() - json_files.flat(config.to_dict()).keys())
  if missing:
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    raise UserError(
      f"get_config of {path} returned a config without"
      f" {', '.join(missing[:3])}{more}; begin with configs.base.get_base"
    )
  return config


def _names() -> frozenset[str]:
  """Names of the settings that every config has."""
  from configs import base

  named = json_files.flat(base.defaults().to_dict())
  return frozenset(named) | {"variant", "pipeline"}


def _call(path: Path, function, *given):
  """What a function of a file returns; UserError where it fails."""
  try:
    return function(*given)
  except UserError:
    raise
  except CODE_FAILS as error:
    said = fault(str(path), error, _words)
    raise UserError(f"the config {path.name} failed {said}") from error


def _words(error: BaseException) -> str:
  """The text of an error, without the quotes of a KeyError and the dump."""
  while error.args and isinstance(error.args[0], Exception):
    error = error.args[0]
  quoted = isinstance(error, KeyError) and len(error.args) == 1
  return DUMP.sub("", str(error.args[0] if quoted else error))
