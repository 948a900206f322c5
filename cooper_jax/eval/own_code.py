"""Digest of the code that an evaluation runs: a changed byte gives another.

Not all of the package: who works on a reward or a loss changes no answer of a
packaged model. The imports are followed from the module that evaluates, lazy
ones too; plug-ins, which are found by their file name, all count.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import platform
import time
from pathlib import Path

from cooper_jax import plugins

LIBRARY = "cooper_jax"
BEGINS = (f"{LIBRARY}.eval.stage_scores", f"{LIBRARY}.eval.kept")
REACHED = ("modalities", "sources", "benchmarks", "families")  # of plug-ins
COUNTED = ("jax", "jaxlib", "flax", "numpy", "einops")


def digest() -> str:
  """Hexadecimal digits for source, words and versions of libraries."""
  return _read_once()[0]


def has_changed() -> bool:
  """Whether a file has changed since its bytes were read for `digest`.

  Then nobody knows which code runs here.
  """
  try:
    return any(path.stat().st_mtime > _read_once()[1] for path in files())
  except OSError:
    return True


@functools.cache
def _read_once() -> tuple[str, float]:
  now = time.time()
  libraries = [f"{name} {importlib.metadata.version(name)}" for name in COUNTED]
  made_by = f"python {platform.python_version()}, {', '.join(libraries)}"
  text = f"{made_by} {of_files(files())}"
  return hashlib.sha256(text.encode()).hexdigest(), now


def of_files(paths) -> str:
  """Hexadecimal digits for the names and bytes of files."""
  found = hashlib.sha256()
  for path in paths:
    data = path.read_bytes()
    found.update(f"{path.name} {len(data)}\0".encode())
    found.update(data)
  return found.hexdigest()


@functools.cache
def files() -> tuple[Path, ...]:
  """The source files that are reached, and the words that the package has."""
  folder = Path(plugins.__file__).parent
  found, todo = {}, [*BEGINS, __name__]
  for path in _plugin_files():
    found[path] = None
    todo += _imports(path)
  while todo:
    path = _file(folder, todo.pop())
    if path and path not in found:
      found[path] = None
      todo += _imports(path)
  words = [path for path in (folder / "assets").iterdir() if path.is_file()]
  return tuple(sorted({*found, *words}))


def _plugin_files() -> list[Path]:
  folders = []
  for kind in REACHED:
    package = importlib.import_module(plugins.KINDS[kind])
    folders += map(Path, package.__path__)
  return [path for folder in folders for path in folder.glob("*.py")]


def _file(folder: Path, name: str) -> Path | None:
  """The file of a module, or of the module that has a function of that name.

  In: "cooper_jax.policy.make_policy"   Out: cooper_jax/policy.py
  """
  parts = name.split(".")
  if parts[0] != LIBRARY:
    return None
  while len(parts) > 1:
    path = folder.joinpath(*parts[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
      if file.is_file():
        return file
    parts.pop()
  return None  # the package itself: it imports nothing at its start


def _imports(path: Path) -> list[str]:
  """Dotted names that a file imports, anywhere in it, with their packages."""
  names = []
  for node in ast.walk(ast.parse(path.read_bytes())):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names += [f"{node.module}.{alias.name}" for alias in node.names]
  for name in names:  # the list grows: packages, and those that they are in
    package = name.rpartition(".")[0]
    if package.startswith(LIBRARY) and package not in names:
      names.append(package)
  return names
