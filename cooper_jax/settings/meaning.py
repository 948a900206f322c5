"""Meaning of each setting: the comment at its field, by the setting's name.

The comment behind a dataclass's field, or the lines of comment above it, is the
only place where a setting's unit and meaning stand; help, documentation and
the nearest name for a wrong one are all made from it.
"""

import contextlib
import dataclasses
import inspect
import io
import tokenize
from collections.abc import Mapping


def setting(field: dataclasses.Field) -> str:
  """A field's name in a config: `from_`, a word of Python, is `from` there."""
  return field.name.rstrip("_")


def meanings(sections: Mapping[str, type]) -> dict[str, str]:
  """Name -> meaning of every field of the classes, nested ones included.

  sections: path of a section -> dataclass, as `configs.base.SECTION_CLASSES`.
  """
  found = {}
  for path, cls in sections.items():
    said = comments(cls)
    for field in dataclasses.fields(cls):
      name = f"{path}.{setting(field)}" if path else setting(field)
      found |= _below(default(field), name, said.get(field.name, ""))
  return found


def default(field: dataclasses.Field):
  """What a field has where nothing is given; MISSING where it has nothing."""
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def _below(value, name: str, said: str) -> dict[str, str]:
  """Meanings of a field's value: of its parts, where it has any."""
  if dataclasses.is_dataclass(value):
    own = comments(type(value))
    parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
  elif isinstance(value, dict):
    own, parts = dict.fromkeys(value, said), value
  else:
    return {name: said}
  found = {name: said}
  for part, inner in parts.items():
    found |= _below(inner, f"{name}.{part}", own.get(part, ""))
  return found


def comments(cls: type) -> dict[str, str]:
  """Field -> its comment in the source, in one line; those above are kept.

  In: "steps: int = 3  # optimiser steps"   Out: {"steps": "optimiser steps"}
  """
  found = {}
  for base in reversed(cls.__mro__):
    if dataclasses.is_dataclass(base):
      with contextlib.suppress(OSError):  # made, not written: the base says it
        found |= _comments(inspect.getsource(base))
  return found


def _comments(source: str) -> dict[str, str]:
  behind, above, waiting, name = {}, {}, [], ""
  depth, fresh = 0, True  # brackets that are open; at the start of a line
  tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
  for i, token in enumerate(tokens):
    if token.type == tokenize.COMMENT:
      text = token.string.lstrip("# ").strip()
      if fresh and not depth:
        waiting.append(text)
      elif name:
        behind.setdefault(name, []).append(text)
    elif token.type == tokenize.NEWLINE:
      fresh = True
    elif token.type == tokenize.OP and token.string in "([{":
      depth += 1
    elif token.type == tokenize.OP and token.string in ")]}":
      depth -= 1
    elif token.type == tokenize.NAME and fresh and not depth:
      fresh = False
      if tokens[i + 1].string == ":":
        name = token.string
        above[name] = waiting
      else:
        name = ""
      waiting = []
    elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
      fresh = False
  lines = {n: [*above[n], *behind.get(n, [])] for n in above}
  return {n: " ".join(each) for n, each in lines.items() if each}
