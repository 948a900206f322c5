"""Kinds of settings: what is set is of the type that its field says.

`config_flags` knows that a setting is a tuple, and takes whatever is in it.
"""

import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping

from ml_collections import ConfigDict

from cooper_jax.errors import UserError, short
from cooper_jax.settings import meaning
from cooper_jax.training import json_files

# Kind -> (types of its values, what they are called, an example of a tuple).
KINDS = {
  bool: (bool, "True or False", (True,)),
  int: (numbers.Integral, "whole numbers", (1, 2)),
  float: (numbers.Real, "numbers", (0.5, 0.5)),
  str: (str, "texts", ("one", "two")),
}
# Settings of the top that no class has a field of.
OF_NO_CLASS = {"variant": str, "pipeline": tuple[str, ...]}


def hints(sections: Mapping[str, type]) -> dict[str, typing.Any]:
  """Name -> type of every setting, as its field is annotated.

  sections: path of a section -> dataclass, as `configs.base.SECTION_CLASSES`.
  """
  found = dict(OF_NO_CLASS)
  for path, cls in sections.items():
    defaults = {f.name: meaning.default(f) for f in dataclasses.fields(cls)}
    found |= _of_fields(cls, defaults, f"{path}." if path else "")
  return found


def _of_fields(cls, values: dict, prefix: str) -> dict:
  """Types of a dataclass's fields and of those below them."""
  found, said = {}, typing.get_type_hints(cls)
  for field in dataclasses.fields(cls):
    value = values[field.name]
    name = prefix + meaning.setting(field)
    found |= _below(name, said[field.name], value)
  return found


def _below(name: str, hint, value) -> dict:
  if value is dataclasses.MISSING:  # only a device tells it: "auto" till then
    return {name: str}
  if dataclasses.is_dataclass(value):
    fields = dataclasses.fields(value)
    values = {f.name: getattr(value, f.name) for f in fields}
    return _of_fields(type(value), values, f"{name}.")
  if not isinstance(value, dict):
    return {name: hint}
  inner = (*typing.get_args(hint), typing.Any, typing.Any)[1]
  found = {}
  for key, each in value.items():
    found |= _below(f"{name}.{key}", inner, each)
  return found


def fits(value, hint) -> bool:
  """Whether a value is of a type; True of types that are not in KINDS."""
  inner = typing.get_args(hint)
  if typing.get_origin(hint) is tuple:
    if not isinstance(value, (tuple, list)):
      return False
    if inner[-1] is Ellipsis:
      inner = inner[:1] * len(value)
    return len(inner) == len(value) and all(map(fits, value, inner))
  if typing.get_origin(hint) in (types.UnionType, typing.Union):
    return any(fits(value, each) for each in inner)
  if hint is type(None):
    return value is None
  if hint not in KINDS:
    return True
  whole = isinstance(value, KINDS[hint][0])
  return whole and (hint is bool or not isinstance(value, bool))


def check(config: ConfigDict, sections: Mapping[str, type]) -> None:
  """Raises UserError with the first setting that is not of its type.

  sections: as in `hints`; a setting of no section may be anything.
  """
  known = hints(sections)
  for name, value in json_files.flat(config.to_dict()).items():
    if name in known and not fits(value, known[name]):
      raise UserError(
        f"config.{name} is {short(value)}; allowed: {_said(known[name])}"
      )


def _said(hint) -> str:
  """In: tuple[int, ...]   Out: 'a tuple of whole numbers, as in "(1, 2)"'."""
  inner = typing.get_args(hint)
  if typing.get_origin(hint) is not tuple:
    return KINDS[hint][1] if hint in KINDS else str(hint)
  _, words, example = KINDS.get(inner[0], (None, str(inner[0]), ()))
  if inner[-1] is not Ellipsis:
    words, example = f"{len(inner)} {words}", example[:1] * len(inner)
  return f'a tuple of {words}, as in "{example}"'
