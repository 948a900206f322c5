"""No modality is named outside of modalities, sources, world and configs."""

import ast
import pathlib

from cooper_jax import plugins

PACKAGE = pathlib.Path(__file__).parents[1] / "cooper_jax"
# A source names what it renders, or what its files hold.
# A tower of Qwen-VL calls its number of layers "depth".
FREE = ("modalities", "world", "data/sources", "weights/qwen_vl.py")


def named(text: str, names) -> list[tuple[int, str]]:
  """(line, string) of the constants that are a name; docstrings never are."""
  return [
    (node.lineno, node.value)
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.Constant) and node.value in names
  ]


def test_no_other_file_names_a_modality():
  names = {*plugins.names("modalities"), "normals"}
  found = {
    str(path.relative_to(PACKAGE)): named(path.read_text("utf-8"), names)
    for path in PACKAGE.rglob("*.py")
    if not path.relative_to(PACKAGE).as_posix().startswith(FREE)
  }
  assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_check_sees_a_name():
  text = '"""depth"""\nMAPS = ("depth", "depth map")\n'
  assert named(text, {"depth"}) == [(1, "depth"), (2, "depth")]
  assert named("depth = 1\nx.depth\nf(depth=1)\n", {"depth"}) == []
