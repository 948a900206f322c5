"""A config file of one's own: whatever is wrong with it is one line."""

import pytest

from cooper_jax import command, errors, main, sweep

MADE = """
from configs import base

def get_config(variant="smoke"):
  config = base.get_base(variant, ("tokenizer", "sft"))
"""
NO_CONFIG = "return a ConfigDict"
WRONG = [
  ("x = 1\ndef get_config(:\n", "mine.py, line 2): SyntaxError: "),
  ("\0", "mine.py): "),
  ("import nothing_there", "line 1): ModuleNotFoundError: No module named"),
  ("\nx = 1 / 0", "line 2): ZeroDivisionError"),
  ("import sys\nsys.exit(0)", "line 2): SystemExit: 0"),
  ("x = 1", "mine.py has no function get_config"),
  ("get_config = 3", "mine.py has no function get_config"),
  (
    MADE + "  config.sft.stps = 3\n  return config",
    'line 6): AttributeError: Key "stps" does not exist and cannot be added'
    ' since the config is locked. Did you mean "steps"',
  ),
  (MADE + "  config.sfd = 3\n  return config", 'Key "sfd" does not exist'),
  (MADE + "  return config.sfd", "line 6): AttributeError: 'sfd'"),
  (MADE + "  config.sft.steps = 'a'\n  return config", "line 6): TypeError: "),
  (MADE + "  return config.to_dict()", NO_CONFIG),
  (MADE, "returned None; " + NO_CONFIG),
  (MADE + "  return [config] * 9", NO_CONFIG),
  (MADE + "  from ml_collections import *\n  return config", "SyntaxError"),
  (
    MADE + "  from ml_collections import FrozenConfigDict\n"
    "  return FrozenConfigDict(config)",
    NO_CONFIG,
  ),
  (
    MADE + "  config.unlock()\n  del config.init\n  return config",
    "a config without init.by_angle, init.digests.from, init.digests.text and"
    " 8 more; begin with configs.base.get_base",
  ),
  (MADE + "  import sys\n  sys.exit(0)", "line 7): SystemExit: 0"),
  (MADE + "  raise ValueError('word ' * 999)", "word wo.."),
  (
    "from cooper_jax.errors import UserError\n"
    "def get_config(variant=''): raise UserError('as it is')",
    "error: as it is\n",
  ),
]
# Of a file that a sweep takes as well.
ROWS = "\nROWS = {'base': None}\n"


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """mine(text) -> the file's path."""
  monkeypatch.chdir(tmp_path)
  path = tmp_path / "mine.py"

  def make(text):
    path.write_text(text, encoding="utf-8")
    return path

  return make


def one_line(code, capsys) -> str:
  error = capsys.readouterr().err
  assert code == errors.EXIT_USER
  assert error.startswith("error: ") and error.count("\n") == 1
  assert len(error) < 700
  return error


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_whatever_is_wrong_is_one_line(text, said, mine, capsys):
  words = [f"--config={mine(text)}", "--config.seed=1"]
  assert said in one_line(main.main(words), capsys)


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_a_sweep_says_it_as_well(text, said, mine, capsys):
  text = text.replace('="smoke"', "").replace("(variant,", '("smoke",')
  words = [f"--config={mine(text + ROWS)}", "--rows=base", "--plan"]
  assert said in one_line(sweep.main(words), capsys)


@pytest.mark.parametrize(
  ("takes", "variant", "said"),
  [
    ("", ":smoke", "takes no variant; write --config=mine.py"),
    ("variant", "", "needs a variant; write --config=mine.py:VARIANT"),
    ("one, other", ":smoke", "missing a required argument: 'other'"),
  ],
)
def test_a_variant_that_is_not_taken_is_refused(
  takes, variant, said, mine, capsys
):
  path = mine(f"def get_config({takes}): pass")
  words = [f"--config={path}{variant}"]
  assert said in one_line(main.main(words), capsys)


def test_a_good_file_may_have_dataclasses_and_references(mine):
  path = mine(
    "from __future__ import annotations\nimport dataclasses\n"
    "@dataclasses.dataclass\nclass Own:\n  steps: int = 3\n"
    + MADE
    + "  config.sft.steps = config.tokenizer.get_ref('steps')\n"
    "  config.pretrain.steps = Own().steps\n  return config\n"
  )
  words = [f"--config={path}", "--config.tokenizer.steps=5"]
  config = command.parse(words).config
  assert (config.sft.steps, config.pretrain.steps) == (5, 3)
