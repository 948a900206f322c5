"""Names of the package: one meaning each, and no module under two names."""

import ast
import pathlib
import re

import pytest

from cooper_jax import plugins

ROOT = pathlib.Path(__file__).parents[1]
CONSTANT = re.compile("[A-Z][A-Z0-9_]*")
FILES = sorted((ROOT / "cooper_jax").rglob("*.py"))
# One plug-in a file: what each has to offer is named by the contract.
PLUGINS = (
  "data/sources",
  "eval/benchmarks",
  "modalities",
  "rl/rewards",
  "stages",
  "weights",
  "world/questions/families",
)


def part(path: pathlib.Path) -> str:
  return path.relative_to(ROOT / "cooper_jax").as_posix()


def is_plugin(path: pathlib.Path) -> bool:
  machinery = {"__init__"} | plugins.MACHINERY.get(path.parent.name, set())
  return part(path.parent) in PLUGINS and path.stem not in machinery


def classes(tree: ast.Module):
  """Names of the public classes of a module."""
  for node in tree.body:
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      yield node.name


def constants(tree: ast.Module):
  """(name, value) of the public constants whose value is written there."""
  for node in tree.body:
    if isinstance(node, ast.AnnAssign) and node.value is not None:
      targets = [node.target]
    elif isinstance(node, ast.Assign):
      targets = node.targets
    else:
      continue
    try:
      value = eval(ast.unparse(node.value), {"__builtins__": {"range": range}})
    except Exception:  # made from other names
      continue
    for target in targets:
      if isinstance(target, ast.Tuple):
        pairs = list(zip(target.elts, value, strict=True))
      else:
        pairs = [(target, value)]
      for name, one in pairs:
        if isinstance(name, ast.Name) and CONSTANT.fullmatch(name.id):
          yield name.id, one


def aliases(tree: ast.AST):
  """Our own modules and names that are imported under another name."""
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom):
      ours = (node.module or "").split(".")[0] in ("cooper_jax", "tests")
      yield from (
        a.asname
        for a in node.names
        if ours and a.asname not in (None, a.name)  # `x as x` hands it on
      )
    if isinstance(node, ast.Import):
      yield from (
        a.asname
        for a in node.names
        if a.asname and a.name.split(".")[0] in ("cooper_jax", "tests")
      )


def trees(files):
  for path in files:
    yield path, ast.parse(path.read_text("utf-8"))


def shared_classes(files) -> dict[str, list[str]]:
  """Class names that several modules have, with the modules."""
  found: dict[str, list[str]] = {}
  for path, tree in trees(files):
    for name in classes(tree):
      if not (is_plugin(path) and name == "Config"):
        found.setdefault(name, []).append(part(path))
  return {name: where for name, where in found.items() if len(where) > 1}


def shared_constants(files) -> dict[str, dict[str, object]]:
  """Constants that have different values in several modules."""
  found: dict[str, dict[str, object]] = {}
  for path, tree in trees(files):
    if not is_plugin(path):
      for name, value in constants(tree):
        found.setdefault(name, {})[part(path)] = value
  return {
    name: where
    for name, where in found.items()
    if len({repr(v) for v in where.values()}) > 1
  }


def test_no_two_public_classes_have_one_name():
  assert shared_classes(FILES) == {}


def test_no_two_constants_of_one_name_have_different_values():
  assert shared_constants(FILES) == {}


def test_no_module_of_ours_is_imported_under_another_name():
  files = [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]
  found = {
    path.relative_to(ROOT).as_posix(): sorted(aliases(tree))
    for path, tree in trees(files)
    if any(aliases(tree))
  }
  assert found == {}


@pytest.mark.parametrize(
  ("one", "other", "clash"),
  [
    ("class A: pass", "class A: pass", True),
    ("class _A: pass", "class _A: pass", False),
    ("A = 1", "A = 2", True),
    ("A = 1", "A = 1", False),
    ("A, B = range(2)", "B = 0", True),
    ("A = f()", "A = 2", False),
    ("a = 1", "a = 2", False),
  ],
)
def test_a_planted_clash_is_found(tmp_path, monkeypatch, one, other, clash):
  monkeypatch.setitem(globals(), "ROOT", tmp_path)
  folder = tmp_path / "cooper_jax"
  folder.mkdir()
  files = [folder / "one.py", folder / "other.py"]
  for path, text in zip(files, (one, other), strict=True):
    path.write_text(text, "utf-8")
  assert bool(shared_classes(files) or shared_constants(files)) is clash


def test_a_planted_alias_is_found():
  text = "def f():\n  from cooper_jax.parallel import mesh as meshes\n"
  assert list(aliases(ast.parse(text))) == ["meshes"]
  assert not list(aliases(ast.parse("import numpy as np")))
