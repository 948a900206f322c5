"""Imports only go down, files stay small, and nothing unsafe gets in."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "cooper_jax"

FLOORS = [
  ["errors", "plugins", "shapes", "__init__", "assets"],
  ["parallel", "checkpoint", "checkpoint_folder", "manifest", "optim"]
  + ["accumulate", "state", "telemetry"]
  + ["compilation", "interrupt", "lock", "memory", "room", "workdir"],
  ["modalities", "sequence", "packing", "losses", "models", "tokenizers"],
  ["rl", "sampling", "data", "eval", "weights", "policy"],
  ["stages", "package"],
  ["checks", "command", "main", "ask", "bench", "compare", "rehearsal"]
  + ["ranges"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# `losses` scores with the one function that the sampler uses, too.
ALLOWED = {("losses", "sampling")}
FORBIDDEN_NAMES = {"utils", "common", "helpers", "misc"}
LARGEST = 400
SOURCES = sorted(PACKAGE.rglob("*.py"))
LAUNCHER = sorted((ROOT / "launch").glob("*.py"))


def part(path: pathlib.Path) -> str:
  """In: cooper_jax/models/layers.py   Out: "models"."""
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: pathlib.Path) -> set[str]:
  """Modules that a file imports, anywhere in it, as dotted names."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative import"
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def climbs(path: pathlib.Path) -> list[str]:
  mine, wrong = part(path), []
  for name in imports(path):
    parts = name.split(".")
    if parts[0] != "cooper_jax" or len(parts) < 2:
      continue
    other = parts[1]
    if other not in FLOOR or mine == other or (mine, other) in ALLOWED:
      continue
    if FLOOR[other] > FLOOR[mine]:
      wrong.append(f"{mine} imports {name}")
  return wrong


def test_every_part_has_a_floor():
  assert {part(path) for path in SOURCES} - set(FLOOR) == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.name))
def test_imports_only_go_down(path):
  assert climbs(path) == []


def test_the_check_sees_a_climbing_import(tmp_path, monkeypatch):
  monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
  (tmp_path / "models").mkdir()
  bad = tmp_path / "models" / "layers.py"
  bad.write_text("def f():\n  from cooper_jax.rl import losses\n")
  assert climbs(bad) == ["models imports cooper_jax.rl.losses"]


def test_files_are_small():
  sizes = {
    str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
    for folder in ("cooper_jax", "launch", "configs", "tests")
    for path in (ROOT / folder).rglob("*.py")
  }
  assert {n: size for n, size in sizes.items() if size > LARGEST} == {}
  assert sizes["cooper_jax/main.py"] <= 80


def test_no_drawer_for_odds_and_ends():
  assert [p for p in SOURCES if p.stem in FORBIDDEN_NAMES] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.name))
def test_flax_modules_live_in_two_places(path):
  uses = {name for name in imports(path) if name.startswith("flax.linen")}
  if part(path) not in ("models", "tokenizers"):
    assert uses == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.name))
def test_loading_data_never_runs_code(path):
  unsafe = {"pickle", "dill", "marshal", "shelve", "tensorflow"}
  roots = {name.split(".")[0] for name in imports(path)}
  assert roots & unsafe == set()
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Call):
      if isinstance(node.func, ast.Name):
        assert node.func.id not in ("eval", "exec"), path
      for keyword in node.keywords:
        if keyword.arg == "allow_pickle":
          assert ast.unparse(keyword.value) == "False", path
    if isinstance(node, ast.ExceptHandler):
      assert node.type is not None, f"{path}: bare except"


def test_every_file_says_what_it_is():
  silent = [
    str(path.relative_to(ROOT))
    for path in [*SOURCES, *LAUNCHER]
    if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
  ]
  assert silent == []
