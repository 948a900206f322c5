"""A default stands once, and the default run is what it says."""

import ast
import dataclasses
import inspect
import pathlib

import pytest

from configs import base, reinforcement, stage, variants
from cooper_jax.settings import meaning
from cooper_jax.training import json_files
from cooper_jax.training.optim import OptimConfig

STAGES = ("tokenizer", "pretrain", "sft", "grpo", "evaluate")
SOURCE = "\n".join(
  pathlib.Path(module.__file__).read_text()
  for module in (stage, reinforcement, base)
)


def at(config, path):
  for part in filter(None, path.split(".")):
    config = config[part]
  return config


@pytest.mark.parametrize("path", base.SECTION_CLASSES)
def test_a_section_has_what_its_dataclass_says(path):
  cls, here = base.SECTION_CLASSES[path], at(base.defaults(), path)
  derived = base.DERIVED_FIELDS.get(path, ())
  names = {field.name for field in dataclasses.fields(cls)}
  assert set(derived) < names  # else the list is out of date
  for field in dataclasses.fields(cls):
    own = meaning.setting(field)
    name = f"{path}.{own}" if path else own
    if field.name in derived:
      assert field.name not in here
    elif field.default is dataclasses.MISSING:
      known = field.default_factory is not dataclasses.MISSING
      assert known or name in {*base.WITHOUT_DEFAULT, *base.SECTION_CLASSES}
    elif not dataclasses.is_dataclass(field.default):
      assert here[own] == field.default
      assert name not in base.WITHOUT_DEFAULT  # it would stand twice


def test_the_default_run_is_what_long_trains():
  tiny, long = (base.get_base(name, STAGES) for name in ("tiny", "long"))
  one, other = (json_files.flat(json_files.plain(c)) for c in (tiny, long))
  changed = {name for name in one if one[name] != other[name]}
  assert changed == {"variant", "init_from", "data.train_scenes"}


def repeated(source: str) -> list[str]:
  """Fields of classes of base.py that say what their parent says already,
  and settings of an optimiser that are those of every optimiser."""
  found, tree = [], ast.parse(source)
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "OptimConfig":
      plain = OptimConfig()
      found += [
        f"{node.lineno}: {each.arg}"
        for each in node.keywords
        if ast.literal_eval(each.value) == getattr(plain, each.arg)
      ]
  values = {}  # (class, field) -> value as it is written
  for node in tree.body:
    if isinstance(node, ast.ClassDef):
      above = {}
      for parent in node.bases:
        above |= values.get(ast.unparse(parent), {})
      own = {
        each.target.id: ast.unparse(each.value)
        for each in node.body
        if isinstance(each, ast.AnnAssign) and each.value
      }
      found += [
        f"{node.name}.{name}" for name in own if own[name] == above.get(name)
      ]
      values[node.name] = above | own
  return found


def test_no_default_is_written_twice():
  assert repeated(SOURCE) == []
  assert repeated(
    SOURCE.replace("save_every: int = 100", "save_every: int = 500")
  ) == ["GRPOSettings.save_every"]
  assert (
    len(repeated(SOURCE.replace("warmup_steps=4\n", "warmup_steps=20\n"))) == 1
  )


def written(source: str) -> list[int]:
  """Lines of functions that set a setting to a number or a text."""
  lines = []
  for function in ast.parse(source).body:
    for node in ast.walk(function):
      if not isinstance(function, ast.FunctionDef):
        continue
      if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
        target = node.targets[0]
        if isinstance(target, (ast.Attribute, ast.Subscript)):
          lines.append(node.lineno)
      if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
        ".update"
      ):
        lines += [node.lineno] * bool(node.keywords)
  return lines


def test_defaults_stand_at_the_fields_alone():
  assert written(SOURCE) == []
  planted = SOURCE.replace(
    "  config = ConfigDict()\n", "  config = ConfigDict()\n  config.seed = 1\n"
  )
  assert len(written(planted)) == 1


@pytest.mark.parametrize("name", variants.CHANGES)
def test_a_variant_changes_what_there_is_and_says_why(name):
  before, after = base.defaults(), base.defaults()
  variants.CHANGES[name](after)
  one, other = (json_files.flat(json_files.plain(c)) for c in (before, after))
  assert one.keys() == other.keys() and one != other
  source = inspect.getsource(variants.CHANGES[name])
  assert '"""' in source and source.count("#") >= 1


def test_all_rewards_have_a_weight_of_one_kind():
  config = base.get_base("tiny", STAGES)
  weights = config.grpo.rl.rewards
  assert set(weights) == set(config.grpo.rl.settings)
  assert {type(v) for v in weights.values()} == {float, type(None)}
