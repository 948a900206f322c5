"""Public functions on arrays tell their shapes, by suffix or by docstring.

What is an array is decided from the code: a parameter that is annotated as one,
ends in its axes, has its `shape`, `dtype` or a reduction asked for, or goes
into a call of numpy, jax.numpy, jax.nn, jax.lax or einops; a result that is
annotated as one, or returned straight from such a call.
"""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "cooper_jax"
PARTS = ("models", "sequences", "sampling", "rl", "grading", "modalities")
MORE = (
  "tokenizers/map_tokenizer.py",
  "tokenizers/quantize.py",
  "parallel/shard.py",
)
FILES = [
  *(path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))),
  *(ROOT / name for name in MORE),
]
SUFFIX = re.compile(r"_[A-Z][A-Z0-9]*$")
SHAPE = re.compile(r"\[[^\]\n]+\]")
ARRAY = re.compile(r"\b(np\.ndarray|jax\.Array)\b")
NUMBER = re.compile(r"(int|float|bool|str)( \| None)?")
CALLS = re.compile(r"(np|jnp|einops|jax\.nn|jax\.lax)\.(?!random\.)\w+")
# Of sizes and numbers, not of arrays.
SIZES = {"zeros", "ones", "full", "empty", "arange", "float32", "isfinite"}
ASKED = {"shape", "dtype", "ndim", "astype", "reshape", "at", "sum", "mean"}
ASKED |= {"max", "min", "any", "all", "T", "ravel", "argmax", "cumsum"}


def names(expression):
  """Names that an argument is computed from: x, x[0], -x, x > y."""
  if isinstance(expression, ast.Name):
    return {expression.id}
  if isinstance(expression, ast.Subscript):
    return names(expression.value)
  if isinstance(expression, ast.BinOp | ast.UnaryOp | ast.Compare | ast.BoolOp):
    return set().union(*map(names, ast.iter_child_nodes(expression)))
  return set()


def call_of(node):
  """The name of numpy's or jax's function that a node calls, or None."""
  called = isinstance(node, ast.Call) and ast.unparse(node.func)
  known = called and CALLS.fullmatch(called)
  name = known and called.split(".")[-1]
  return name if name and name not in SIZES else None


def arrays(function):
  """(names of parameters that are arrays, whether the result is one)."""
  signature = function.args
  given = [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]
  told = {
    each.arg: ast.unparse(each.annotation) if each.annotation else ""
    for each in given
  }
  used = {name for name in told if ARRAY.search(told[name])}
  used |= set(filter(SUFFIX.search, told))
  result = bool(
    function.returns and ARRAY.search(ast.unparse(function.returns))
  )
  for node in ast.walk(function):
    if call_of(node):
      used |= set().union(*map(names, node.args))
    if isinstance(node, ast.Attribute) and node.attr in ASKED:
      used |= names(node.value)
  for node in own_nodes(function):
    if isinstance(node, ast.Return) and call_of(node.value):
      result = True
  numbers = {name for name in told if NUMBER.fullmatch(told[name])}
  return (used & told.keys()) - numbers - {"self", "cls"}, result


def own_nodes(node):
  """The nodes of a function without those of functions inside it."""
  for child in ast.iter_child_nodes(node):
    if not isinstance(child, ast.FunctionDef | ast.Lambda):
      yield child
      yield from own_nodes(child)


def functions(source):
  """(name, function, docstrings that may tell its shapes), the public ones."""
  for node in ast.parse(source).body:
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
      yield node.name, node, ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      for each in node.body:
        if not isinstance(each, ast.FunctionDef):
          continue
        said = ast.get_docstring(each) or ""
        if each.name == "__call__":  # a class of one call says it on top
          said += ast.get_docstring(node) or ""
        elif each.name.startswith("_"):
          continue
        yield f"{node.name}.{each.name}", each, said


def silent(source):
  """Names of public functions on arrays that tell no shape."""
  for name, function, said in functions(source):
    used, result = arrays(function)
    suffixed = any(SUFFIX.search(each) for each in used)
    if (used or result) and not suffixed and not SHAPE.search(said):
      yield name


FOUND = {
  f"{path.relative_to(ROOT).as_posix()}: {name}"
  for path in FILES
  for name in silent(path.read_text(encoding="utf-8"))
}


def test_public_functions_on_arrays_tell_their_shapes():
  assert sorted(FOUND) == []


@pytest.mark.parametrize(
  ("source", "tells"),
  [
    ("def f(x):\n  return jnp.exp(x)", False),
    ("def f(x: jax.Array): pass", False),
    ("def f() -> np.ndarray: pass", False),
    ("def f(x):\n  return x.shape", False),
    ("def f(x_BL):\n  return jnp.exp(x_BL)", True),
    ("def f(x):\n  '''Of x [B, L].'''\n  return jnp.exp(x)", True),
    ("def f(count: int):\n  return jnp.exp(count) + 1", True),
    ("class A:\n  '''x [B].'''\n  def __call__(self, x): return x.T", True),
    ("class A:\n  def look(self, x): return x.T", False),
  ],
)
def test_an_array_is_known_by_what_is_done_with_it(source, tells):
  assert (not list(silent(source))) == tells
