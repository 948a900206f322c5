"""The command: what is asked is checked first, and said in one line."""

import re

import pytest

from cooper_jax import errors, sweep
from tests.experiments import fake

SMOKE = f"--config={fake.PAPER}:smoke"


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (["--rows=amg_exchangd"], 'did you mean "amg_exchanged"'),
    (["--rows=sft-1000"], 'no row "sft-1000"'),
    (["--rows=frist"], 'did you mean "first"'),
    (["--seeds=0,one"], '--seeds names "one"'),
    (["--out="], "--out needs a value"),
    (["--config="], "--config needs a value"),
    (["--config.data.cache"], "--config.data.cache needs a value"),
    (["--rows=,"], "name at least one each"),
    (["--row=base"], 'did you mean "--rows"'),
    (["--jobs=two"], "invalid int value"),
    (
      ["--config.sft.stpes=3", "--rows=base"],
      'did you mean "--config.sft.steps"',
    ),
    (["--config.sft.scenes=5000", "--rows=base"], "config.sft.scenes is 5000"),
    (["--config.seed=7", "--rows=base"], "--seeds=0,1,2"),
    (["--config.pipeline=('sft', 'evaluate')"], "is that of its config"),
    (
      ["--config.init_from=tiny", "--rows=words,sft_more"],
      "row sft_more begins with what row sft trained",
    ),
    (["--config.init_as=sft", "--rows=amg_after"], "a sweep sets it"),
    (["--workdir=x"], "no flag --workdir"),
    ([f"--config={fake.PAPER}:long"], '"long" is not smoke'),
    (["--config=configs/grpo.py"], "has no ROWS"),
    (["--rows=base", "--seeds=3000000000"], "allowed: 0 to 2,000,000,000"),
  ],
)
def test_what_is_wrong_is_said_in_one_line(words, said, capsys):
  assert sweep.main([*words, "--plan"]) == errors.EXIT_USER
  shown = capsys.readouterr().err
  assert said in shown and len(shown.splitlines()) == 1


OWN = """from configs.paper import *
from configs import paper
ROWS = {name: paper.ROWS[name] for name in ("base", "amg")}
GROUPS = MODES = BENCHMARKS = STARTS = CLAIMS = BASE = COMPARISONS = {}
"""


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ("ROWS = ['base']", "ROWS of .* is .*; make it a dict"),
    ("MODES = {'amg_': 'text'}", '"amg_"; there are amg, base'),
    ("GROUPS = {'both': ('base', 'amgg-50')}", '"both" names "amgg"'),
    ("STARTS = {'amg': 'bsae-50'}", 'names "bsae"; .* did you mean "base"'),
    ("COMPARISONS = {'a': ('amg', 'base')}", "write .row, row, families.,"),
    ("COMPARISONS = {'a': ('amg', 'sft', ())}", '"a" names "sft"'),
    ("COMPARISONS = {'a': ('before', 'amg', ())}", '"a" names "before"'),
    ("CLAIMS = {'it helps': ('a',)}", '"it helps" names "a"'),
    ("BASE = {'it helps': 'base'}", 'BASE .* "it helps" names "it helps"'),
  ],
)
def test_rows_of_ones_own_name_what_there_is(tmp_path, capsys, line, said):
  file = tmp_path / "own.py"
  words = [f"--config={file}", "--rows=base", "--seeds=0", "--plan"]
  file.write_text(f"{OWN}{line}\n")
  assert sweep.main(words) == errors.EXIT_USER
  shown = capsys.readouterr().err
  assert re.search(said, shown) and len(shown.splitlines()) == 1
  # Nothing but ROWS is needed.
  lines = [each for each in OWN.splitlines() if not each.startswith("GROUPS")]
  file.write_text("\n".join(lines).replace("import *", "import get_config"))
  assert sweep.main(words) == errors.EXIT_DONE


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  words = [SMOKE, "--rows=base", "--seeds=0", f"--out={tmp_path}/file/out"]
  assert sweep.main(words) == errors.EXIT_USER
  assert "can't be written" in capsys.readouterr().err


def test_the_plan_changes_nothing(tmp_path, capsys):
  out = tmp_path / "out"
  assert sweep.main([SMOKE, "--rows=first", f"--out={out}", "--plan"]) == 0
  assert "min" in capsys.readouterr().out and not out.exists()
