"""Every setting is read by the part that it is of."""

import ast
import functools
import inspect
import pathlib

import pytest

from configs import base, reinforcement
from cooper_jax import plugins
from cooper_jax.training import json_files

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "cooper_jax"
STAGES = ("tokenizer", "pretrain", "sft", "grpo", "evaluate")


class Source:
  """What a file loads: names of attributes and of items, arguments, imports."""

  def __init__(self, text: str):
    self.text, self.generic = text, False
    self.loads, self.arguments, self.imports = set(), set(), set()
    self.endings = ()  # of items whose name is put together
    self._visit(ast.parse(text))

  def _visit(self, node):
    if isinstance(node, ast.FunctionDef) and node.name == "__post_init__":
      return  # a check of a value is no use of it
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
      self.loads.add(node.attr)
    if isinstance(node, ast.Subscript):
      if isinstance(node.slice, ast.Constant):
        self.loads.add(node.slice.value)
      elif ast.unparse(node.value) == "config":
        self.generic = True  # config[stage]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get"):
      self.loads |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
      last = getattr(node.args[1], "values", [None])[-1]  # of an f-string
      if isinstance(last, ast.Constant):
        self.endings += (last.value,)
    if isinstance(node, ast.arg):
      self.arguments.add(node.arg)
    if isinstance(node, ast.ImportFrom):
      self.imports |= {node.module}
      self.imports |= {f"{node.module}.{each.name}" for each in node.names}
    for child in ast.iter_child_nodes(node):
      self._visit(child)

  def reads(self, name: str) -> bool:
    return name in self.loads or name.endswith(self.endings)


@functools.cache
def sources() -> dict[str, Source]:
  """Dotted name -> Source of the package, less what only checks settings."""
  found = {}
  for path in sorted(PACKAGE.rglob("*.py")):
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    name = dotted.removesuffix(".__init__")
    if not name.startswith(("cooper_jax.settings", "cooper_jax.command")):
      found[name] = Source(path.read_text(encoding="utf-8"))
  return found


def about(section: str, files: dict[str, Source]) -> list[Source]:
  """Files that read a section.

  Those that name it, and of a stage those that are handed whichever section
  theirs is: `config[stage]`, or an argument `settings`, as far as imports lead
  from the stage's file.
  """
  named = {
    name
    for name, each in files.items()
    if section in each.loads | each.arguments
  }
  ahead = [f"cooper_jax.stages.{section}"]
  plugins = {f"cooper_jax.stages.{stage}" for stage in STAGES}
  while ahead:
    name = ahead.pop()
    if (name in files and name not in named) or name in plugins:
      named |= {name} & files.keys()
      ahead += [
        other
        for other in files.get(name, Source("")).imports
        if other in files
        and other not in named | plugins
        and (files[other].generic or "settings" in files[other].arguments)
      ]
  return [files[name] for name in sorted(named)]


def owner(name: str) -> tuple[str, type | None]:
  """The section that a setting lies in, and the class that it is made from."""
  section = name.rpartition(".")[0]
  if section.endswith(".optim"):
    return section, base.OptimConfig
  while section not in base.SECTION_CLASSES and section:
    section = section.rpartition(".")[0]
  if name.startswith("grpo.rl.") and section == "grpo":
    return "grpo.rl", reinforcement.RLSettings
  return section, base.SECTION_CLASSES[section]


def reward_file(name: str) -> str:
  """The dotted name of a reward's file; a modality has no file of its own."""
  return plugins.find("rewards", name).reward.__module__


def is_read(name: str, files: dict[str, Source]) -> bool:
  """Whether a setting is loaded in a file that is about its section.

  A section that is splatted into a class of the package is read by the part
  of that class; a dictionary of weights is read as one.
  """
  leaf = name.rpartition(".")[2]
  section, cls = owner(name)
  below = name.removeprefix(f"{section}.").split(".")
  if name.startswith("grpo.rl.settings."):  # the Config of one reward
    return files[reward_file(below[1])].reads(leaf)
  if section == "init":  # a dictionary, too, is read as one
    leaf = below[0]
  if name.startswith("maps."):  # the Config of one modality
    return files[f"cooper_jax.modalities.{below[1]}"].reads(leaf)
  if not cls.__module__.startswith("configs."):
    module = inspect.getmodule(cls).__name__
    if "astuple(" in files[module].text:
      return True
    part = ".".join(module.split(".")[:2])
    readers = [s for n, s in files.items() if n.startswith(part)]
    readers += about(name.split(".")[0], files)
    return any(each.reads(leaf) for each in readers)
  if len(below) > 1 or cls is reinforcement.CodeLossSettings:
    leaf = below[0] if len(below) > 1 else "code"
  if not section:
    return any(each.reads(leaf) for each in files.values())
  *_, last = section.split(".")
  return any(each.reads(leaf) for each in about(last, files))


def names() -> list[str]:
  config = base.get_base("tiny", STAGES)
  return [
    name for name in json_files.flat(config.to_dict()) if name != "variant"
  ]


def test_every_setting_is_read():
  assert len(names()) > 200
  assert [name for name in names() if not is_read(name, sources())] == []


@pytest.mark.parametrize(
  "name",
  ["sft.nothing", "nothing", "model.nothing", "grpo.rl.nothing"]
  + ["data.nothing", "pretrain.optim.nothing", "grpo.rl.loss.nothing"]
  + ["grpo.rl.settings.answer.nothing", "grpo.rl.settings.depth.nothing"]
  + ["evaluate.nothing", "grpo.map_context"]
  + ["tokenizer.code_noise", "evaluate.temperature", "world.nothing"],
)
def test_a_setting_that_nothing_reads_is_found(name):
  assert not is_read(name, sources())


@pytest.mark.parametrize("field", ["image_every", "save_every", "z_weight"])
def test_a_stage_that_leaves_a_shared_setting_alone_is_found(field):
  """As `image_every` was, which the tokenizers' stage alone read."""
  files = {
    name: Source(each.text.replace(f".{field}", ".steps"))
    if name in ("cooper_jax.stages.supervised", "cooper_jax.training.loop")
    else each
    for name, each in sources().items()
  }
  found = {name for name in names() if not is_read(name, files)}
  assert found == {f"pretrain.{field}", f"sft.{field}"}
