"""Imports only go down, files stay small, and nothing unsafe gets in."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "cooper_jax"

FLOORS = [
  ["errors", "assets"],
  ["plugins", "python_file", "sample", "runtime"],
  ["modalities"],
  ["parallel", "pictures"],
  ["tokenizers", "training", "grading"],
  ["models", "world"],
  ["sequences"],
  ["data", "sampling", "weights"],
  ["policy"],
  ["trained"],
  ["rollouts"],
  ["rl", "eval"],
  ["report"],
  ["stages", "package_settings"],
  ["package", "lora_export"],
  ["inference", "plan"],
  ["settings"],
  ["__init__", "bench", "compare", "ask", "command"],
  ["main", "experiments"],
  ["sweep"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# The rendered world is a source of data: what learns doesn't know it.
CORE = ["models", "tokenizers", "training", "sequences", "sampling", "policy"]
CORE += ["rollouts", "rl", "parallel"]
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
    if other not in FLOOR or mine == other:
      continue
    if FLOOR[other] >= FLOOR[mine]:
      wrong.append(f"{mine} imports {name}")
    if other == "world" and mine in CORE:
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


def test_the_check_sees_an_import_of_the_same_floor(tmp_path, monkeypatch):
  monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
  (tmp_path / "rl").mkdir()
  bad = tmp_path / "rl" / "step.py"
  bad.write_text("from cooper_jax.eval import questions\n")
  assert climbs(bad) == ["rl imports cooper_jax.eval.questions"]


def modules() -> dict[str, set[str]]:
  """Of each module of the package, the modules of it that it imports."""
  names = {}
  for path in SOURCES:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    names[dotted.removesuffix(".__init__")] = path
  uses = {}
  for name, path in names.items():
    found = set()
    for target in imports(path):
      while target and target not in names:
        target = target.rpartition(".")[0]
      found.add(target)
    uses[name] = found - {"", "cooper_jax", name}
  return uses


def circle(uses) -> list[str]:
  """A circle of imports, [] where there is none."""
  done, way = set(), []

  def visit(name):
    if name in way:
      return [*way[way.index(name) :], name]
    if name in done:
      return []
    way.append(name)
    for other in sorted(uses.get(name, ())):
      found = visit(other)
      if found:
        return found
    done.add(way.pop())
    return []

  return next((found for name in sorted(uses) if (found := visit(name))), [])


def test_no_module_imports_itself_by_others():
  assert circle(modules()) == []
  assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]


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
