"""Names and words that the locale can't write end no run with a traceback."""

import os
import pathlib
import subprocess
import sys

import pytest

from cooper_jax import errors
from cooper_jax.training import workdir

ROOT = pathlib.Path(__file__).parent.parent
# As LC_ALL=C is where neither PEP 538 nor PEP 540 helps.
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def python(*words, cwd, **environment):
  return subprocess.run(
    [sys.executable, *words],
    cwd=cwd,
    env=os.environ | PLAIN | {"PYTHONPATH": str(ROOT)} | environment,
    capture_output=True,
    check=False,
  )


@pytest.mark.ci
@pytest.mark.parametrize(
  "words",
  [
    ("main", "--config=configs/grpo.py:smoke", "--workdir=l\u00e4ufe"),
    ("main", "--config=configs/grpo.py:smoke"),  # in a folder of that name
    ("package", "--workdir=l\u00e4ufe", "--out=x"),
  ],
)
def test_a_workdir_that_has_two_names_is_refused_in_one_line(words, tmp_path):
  folder = tmp_path / "\u00fcbung"
  folder.mkdir()
  module, *rest = words
  done = python("-m", f"cooper_jax.{module}", *rest, cwd=folder)
  said = done.stderr.decode("ascii")
  assert done.returncode == 2, said
  assert said.startswith("error: --workdir=") and said.count("\n") == 1
  assert "LC_ALL=C.UTF-8" in said and "udcc3" in said
  assert list(folder.iterdir()) == []


def test_a_workdir_with_an_umlaut_is_fine_where_names_are_utf_8(tmp_path):
  folder = tmp_path / "l\u00e4ufe"
  workdir._check_name(folder)


def test_a_name_of_other_bytes_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match="no UTF-8"):
    workdir._check_name(pathlib.Path(os.fsdecode(b"/x/l\xe4ufe")))


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_what_the_terminal_can_not_show_is_spelt(encoding, tmp_path):
  code = (
    "from cooper_jax import errors; errors.printable(); print('\\u221a2 m')"
  )
  done = python("-c", code, cwd=tmp_path, PYTHONIOENCODING=encoding)
  assert done.returncode == 0, done.stderr
  assert done.stdout == b"\\u221a2 m\n"


@pytest.mark.parametrize(
  "module", ["main", "ask", "compare", "package", "bench/__main__"]
)
def test_every_command_prints_under_any_locale(module):
  text = (ROOT / "cooper_jax" / f"{module}.py").read_text("utf-8")
  assert "printable()\n" in text
