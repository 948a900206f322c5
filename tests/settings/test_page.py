"""The pages of settings and the help say what the code has."""

import re

import pytest

from configs import base
from cooper_jax import command
from cooper_jax.settings import meaning, page, ranges
from cooper_jax.training import json_files

ROWS = page.setting_rows()


@pytest.mark.parametrize(
  "name", ["settings.md", "settings_model.md", "settings_rl.md"]
)
def test_a_page_is_what_the_command_writes(name):
  text = page.settings_pages()[name]
  # Else: python -m cooper_jax.settings.page
  assert (page.DOCS / name).read_text(encoding="utf-8") == text
  assert len(text.splitlines()) <= 250
  assert max(map(len, text.splitlines())) <= 170


def test_every_setting_has_a_row_with_a_meaning():
  assert {*ROWS} == {*json_files.flat(base.defaults().to_dict())}
  text = "".join(page.settings_pages().values())
  for name, row in ROWS.items():
    assert len(row.meaning) > 5, name
    assert name.rsplit(".", 1)[1 if "." in name else 0] in text
    # A thing is its subject: it can be read without the line above it.
    assert not re.match(r"(of|for|its|as|there|it)\b", row.meaning), name


def test_the_pages_and_the_help_have_what_the_default_run_has():
  run = command.load_config("configs/grpo.py")
  assert {n: row.default for n, row in ROWS.items()} == {
    name: value
    for name, value in json_files.flat(run.to_dict()).items()
    if name not in ("variant", "pipeline")
  }
  (line,) = [each for each in page.common_lines() if "sft.steps" in each]
  assert f"sft.steps={run.sft.steps} " in line


def test_every_row_of_the_page_is_a_setting():
  lines = "".join(page.settings_pages().values()).splitlines()
  named = [line.split("`")[1] for line in lines if line.startswith("| `")]
  named = named[len(page.TURNED_OFTEN) :]  # these stand twice
  leaves = len(ROWS)
  shared = [n for n in ROWS if n.startswith("sft.optim.")]
  once = 3 * (len(shared) + len(SHARED))  # a line for four stages
  assert len(named) == leaves - once


SHARED = ("steps batch expected_minutes log_every save_every").split()
SHARED += ["image_every", "keep"]


def test_what_is_allowed_is_that_of_the_table():
  assert ROWS["sft.corrupted"].allowed == str(ranges.SHARE)
  assert ROWS["sft.optim.beta1"].allowed == "0 to below 1"
  assert ROWS["model.smear"].allowed == "True, False"
  assert ROWS["sampling.prompt_buckets"].default == (96, 160)


def test_the_help_names_what_is_turned_most_often():
  lines = page.common_lines()
  assert len(lines) == len(page.TURNED_OFTEN) < 30
  assert any("grpo.rl.group_size=8 " in line for line in lines)


@pytest.mark.parametrize(
  ("source", "said"),
  [
    ("class A:\n  a: int = 1  # steps\n  b: int = 2\n", {"a": "steps"}),
    ("class A:\n  # In two\n  # lines.\n  a: int\n", {"a": "In two lines."}),
    ("class A:\n  a: int = f(\n    1\n  )  # seen\n", {"a": "seen"}),
    ("class A:\n  # Of b\n  b: int = 1  # more\n", {"b": "Of b more"}),
    ("class A:\n  a: int = 1  # one\n  c = 3  # no field\n", {"a": "one"}),
  ],
)
def test_a_comment_is_the_meaning_of_its_field(source, said):
  assert meaning._comments(source) == said
