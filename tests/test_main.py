"""The command: stages in order, each once; one clear line for a wrong word."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from cooper_jax import command, main, plugins
from cooper_jax.rl import scoring
from cooper_jax.settings import checks
from cooper_jax.training import provenance, stage_settings, workdir

ROOT = pathlib.Path(__file__).parent.parent

CONFIG = """
from configs import base
from ml_collections import ConfigDict

def get_config(variant="smoke"):
  config = base.get_base(variant, pipeline=("first_toy", "second_toy"))
  with config.unlocked():
    for name in config.pipeline:
      config[name] = ConfigDict(dict(steps=3, expected_minutes=0.5))
  return config
"""
STAGE = """
'''A stage for a test.'''
import signal
from cooper_jax.errors import NumericsError, UserError

def run(config, workdir):
  folder = workdir / {name!r}
  calls = folder / "calls"
  calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
  what = (workdir / "do").read_text() if (workdir / "do").exists() else ""
  if what == {name!r} + " user":
    raise UserError("the data is wrong")
  if what == {name!r} + " numerics":
    raise NumericsError("not finite")
  if what == {name!r} + " term":
    signal.raise_signal(signal.SIGTERM)
  if what == {name!r} + " interrupt":
    raise KeyboardInterrupt
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
  """A config file with two toy stages, and the folder of its run."""
  folder = tmp_path / "stages"
  folder.mkdir()
  for name in ("first_toy", "second_toy"):
    (folder / f"{name}.py").write_text(STAGE.format(name=name))
    monkeypatch.delitem(sys.modules, f"cooper_jax.stages.{name}", False)
  package = plugins._package("stages")
  monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
  monkeypatch.setattr(checks, "_check_plugins", lambda config: None)
  (tmp_path / "toy.py").write_text(CONFIG)
  work = tmp_path / "work"
  work.mkdir()
  return [f"--config={tmp_path / 'toy.py'}", f"--workdir={work}"], work


def calls(work, stage):
  path = work / stage / "calls"
  return len(path.read_text()) if path.exists() else 0


def run(arguments, *more):
  return main.main([*arguments, "--compile_cache=off", *more])


def test_stages_run_in_order_and_only_once(toy, capsys):
  arguments, work = toy
  assert run(arguments) == 0
  said = capsys.readouterr().out
  assert "process 1 of 1" in said and "mesh data 8" in said
  assert said.index("first_toy done") < said.index("second_toy done")
  assert run(arguments) == 0
  assert "second_toy finished before, skipped" in capsys.readouterr().out
  assert calls(work, "first_toy") == calls(work, "second_toy") == 1
  summary = json.loads((work / "summary.json").read_text())
  assert summary["time/first_toy_s"] >= 0
  config = json.loads((work / "config.json").read_text())
  assert config["pipeline"] == ["first_toy", "second_toy"]


def test_a_later_stage_may_change_while_earlier_ones_stay(toy, capsys):
  arguments, work = toy
  (work / "do").write_text("second_toy user")
  assert run(arguments) == 2
  (work / "do").unlink()
  (work / "second_toy" / "stage.json").unlink()
  assert run(arguments, "--config.second_toy.steps=9") == 0
  assert calls(work, "first_toy") == 1


def test_a_workdir_of_another_config_says_which_keys_differ(toy, capsys):
  arguments, work = toy
  assert run(arguments) == 0
  before = (work / "config.json").read_bytes()
  assert run(arguments, "--config.first_toy.steps=9") == 2
  said = capsys.readouterr().err
  assert "first_toy.steps is 3 there and 9 here" in said
  assert "another --workdir" in said and "delete" in said
  assert said.count("\n") == 1
  assert (work / "config.json").read_bytes() == before


def test_settings_that_only_change_the_watching_are_free(toy):
  arguments, work = toy
  assert run(arguments) == 0
  assert run(arguments, "--config.first_toy.expected_minutes=9") == 0
  assert calls(work, "first_toy") == 1


@pytest.mark.parametrize(
  "what, code, said",
  [
    ("user", 2, "error: the data is wrong"),
    ("numerics", 43, "error: not finite"),
    ("term", 75, "the same command goes on"),
    ("interrupt", 75, "the same command goes on"),
  ],
)
def test_how_a_run_ends_is_its_exit_code(toy, capsys, what, code, said):
  arguments, work = toy
  (work / "do").write_text(f"second_toy {what}")
  assert run(arguments) == code
  assert said in capsys.readouterr().err
  assert not workdir.record(work, "second_toy")["finished"]
  # The same command goes on after what is done.
  (work / "do").unlink()
  assert run(arguments) == 0
  assert (calls(work, "first_toy"), calls(work, "second_toy")) == (1, 2)


def test_a_broken_record_is_one_line(toy, capsys):
  arguments, work = toy
  assert run(arguments) == 0
  (work / "first_toy" / "stage.json").write_text("{")
  assert run(arguments) == 2
  assert "stage.json can't be read" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"{", b"", b"\0" * 40, b"\xff{}", b"[]"])
@pytest.mark.parametrize("name", ["summary.json", "first_toy/stage.json"])
def test_a_damaged_file_is_refused_before_a_stage_begins(
  toy, capsys, name, content
):
  arguments, work = toy
  assert run(arguments) == 0
  (work / "second_toy" / "stage.json").unlink()
  (work / name).write_bytes(content)
  capsys.readouterr()
  assert run(arguments) == 2
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and str(work / name) in said
  assert calls(work, "second_toy") == 1


def test_a_workdir_that_can_not_be_made_is_one_line(toy, tmp_path, capsys):
  arguments, _ = toy
  (tmp_path / "file").write_text("")
  assert run([arguments[0], f"--workdir={tmp_path / 'file' / 'run'}"]) == 2
  assert "can't be written" in capsys.readouterr().err


SMOKE = "--config=configs/grpo.py:smoke"


@pytest.mark.parametrize(
  "arguments, said",
  [
    (["--config=configs/grp.py"], 'did you mean "configs/grpo.py"'),
    (["--config=configs/grpo.py:smok"], 'did you mean "smoke"'),
    (["--config=configs/grpo.py:7b@v9:4x4"], 'no topology "v9:4x4"'),
    ([SMOKE, "--config.sft.stps=3"], 'did you mean "--config.sft.steps"'),
    ([SMOKE, "--config.sft=3"], "is a section"),
    ([SMOKE, "--config.seed.x=3"], "is a value"),
    ([SMOKE, "--config.sft.steps=1e3"], "expected a whole number, as in 8"),
    ([SMOKE, "--config.sft.optim.learning_rate=fast"], "expected a number"),
    ([SMOKE, "--config.modalities=('deph',)"], 'did you mean "depth"'),
    ([SMOKE, "--config.data.image_size=60"], "not divisible by the patch 8"),
    ([SMOKE, "--config.sft.optim.name=mun"], 'did you mean "muon"'),
    ([SMOKE, "--config.sft.steps=0"], "config.sft.steps is 0"),
    ([SMOKE, "--config.grpo.rl.loss.kind=dapoo"], 'did you mean "dapo"'),
    ([SMOKE, "--config.grpo.rl.advantage=grp"], 'did you mean "grpo"'),
    ([SMOKE, "--config.grpo.rl.settings.exploration.share=2."], "share is 2.0"),
    (
      [SMOKE, "--config.grpo.rl.settings.answer.tolerance=2."],
      "tolerance is 2.0",
    ),
    (
      [SMOKE, "--config.grpo.rl.rewards.judge=1."],
      "judge.url to http://host",
    ),
    ([SMOKE, "--config.grpo.rl.group_size=1"], "groups of 2 and more"),
    ([SMOKE, "--config.sampling.text=4"], "config.sampling: a turn of 4"),
    (
      [SMOKE, "--config.grpo.families=('counts',)"],
      'families names "counts"; the training split asks',
    ),
    (
      [SMOKE]
      + [
        f"--config.grpo.rl.rewards.{name}=0."
        for name in ("answer", "format", "exploration")
      ],
      "no reward has a",
    ),
    ([SMOKE, "--config.grpo.rl.rewards.formt=1."], 'rewards.format"'),
    ([SMOKE, "--config.grpo.rl.rewards.format=much"], "expected a number"),
    ([SMOKE, "--config.grpo.rl.rewards=('answer',)"], "is a section"),
    ([SMOKE, "--config.sft.counterfactual=1.5"], "0 to 1 (a share)"),
    (
      [SMOKE, "--config.pretrain.map_context=.5"],
      "config.model.map_lookup=True",
    ),
    ([SMOKE, "--config.sft.lengths_need_map=dept"], 'did you mean "depth"'),
    ([SMOKE, "--config.init_as=sfd"], "allowed: sft, pretrain"),
    ([SMOKE, "--config.init_as=pretrain"], "none is named"),
    (
      [
        "--config=configs/sft.py",
        "--config.init_from=tiny",
        "--config.init_as=pretrain",
        "--config.pipeline=('tokenizer', 'sft')",
      ],
      "which config.pipeline has not",
    ),
    (
      [SMOKE, "--config.pretrain.counterfactual=.5"],
      "pretrain.map_context is 0",
    ),
    ([SMOKE, "--config.precision=fp8"], "allowed: auto, f32, bf16"),
    (["--confg=x"], 'did you mean "--config"?'),
    (["--workdri=x"], 'did you mean "--workdir"?'),
    (["--sft.steps=3"], 'did you mean "--config.sft.steps"?'),
    (["--confg.sft.steps=3"], 'did you mean "--config.sft.steps"?'),
    (["--seed=3"], 'did you mean "--config.seed"?'),
    (["workdir=x"], 'did you mean "--workdir"?'),
    (["seed=3"], 'did you mean "--config.seed"?'),
    (["--config=configs/grpo.py:"], "allowed: tiny, long, scratch, smoke"),
    (["--config=configs/grpo.py:7b@"], "names no slice"),
    ([SMOKE, "--config.modalities=('depth', 'depth')"], "a modality twice"),
    ([SMOKE, "--config.pipeline=('sft', 'sft')"], "a stage twice"),
    ([SMOKE, "--config.data.source=world, world"], "a source twice"),
    (
      [SMOKE, "--config.pipeline=('sft', 'tokenizer', 'grpo')"],
      "allowed: tokenizer, sft, grpo",
    ),
    (
      [SMOKE, "--config.data.settings.jsonl.path=my.jsonl"],
      "config.data.source=jsonl",
    ),
    (
      [SMOKE, "--config.data.source=jsonl"],
      "config.data.settings.jsonl.path=FILE",
    ),
    (
      [SMOKE, "--config.data.source=world,jsonl"],
      "config.data.settings.jsonl.path=FILE",
    ),
    ([SMOKE, "--config.data.weights=(1., 2.)"], "names 1 sources"),
    (["train"], "is no flag"),
  ],
)
def test_a_wrong_word_is_one_line_that_says_what_is_right(
  arguments, said, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  assert main.main(arguments) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert said in error
  assert list(tmp_path.iterdir()) == []  # nothing was made


@pytest.mark.parametrize(
  ("pipeline", "said"),
  [
    ("('tokenizer', 'grpo')", "grpo begins with what sft made"),
    ("('sft',)", "sft begins with what tokenizer made"),
    ("('evaluate',)", "evaluate begins with what tokenizer made"),
  ],
)
def test_a_stage_whose_start_is_nowhere_is_refused_before_any(
  pipeline, said, tmp_path, capsys
):
  arguments = [SMOKE, f"--config.pipeline={pipeline}"]
  work = tmp_path / "work"
  assert main.main([*arguments, f"--workdir={work}"]) == 2
  error = capsys.readouterr().err
  assert said in error and error.count("\n") == 1
  assert not work.exists()


def test_what_a_workdir_holds_may_be_started_from(tmp_path):
  asked = command.parse([SMOKE, "--config.pipeline=('sft',)"])
  (tmp_path / "tokenizer" / "checkpoints").mkdir(parents=True)
  assert workdir.check(asked.config, tmp_path) == tmp_path


def test_overrides_keep_the_types_of_the_config():
  asked = command.parse(
    [SMOKE, "--config.sft.steps=7", "--config.sft.optim.clip_norm", "2"]
    + ["--config.grpo.rl.text_only", "--config.model.pointer=False"]
    + ["--config.pipeline=('tokenizer',)", "--workdir=x"]
  )
  config = asked.config
  assert config.sft.steps == 7 and config.sft.optim.clip_norm == 2.0
  assert config.grpo.rl.text_only is True and config.model.pointer is False
  assert config.pipeline == ("tokenizer",)


def test_a_reward_is_weighed_left_out_or_only_logged_by_its_name():
  words = ["length=0.1", "format=None", "exploration=0"]
  asked = command.parse(
    [SMOKE, *(f"--config.grpo.rl.rewards.{word}" for word in words)]
  )
  assert scoring.weights_of(asked.config.grpo.rl) == {
    "answer": 1.0,
    "depth": 0.0,
    "exploration": 0.0,
    "length": 0.1,
    "segmentation": 0.0,
  }
  made = scoring.make_scorer(asked.config.grpo.rl)
  assert list(made.weights) == sorted(made.weights)  # in whatever order given


def test_the_default_workdir_names_the_config():
  assert command.parse([SMOKE]).workdir == pathlib.Path("runs/grpo-smoke")


def test_help_says_the_command(capsys):
  assert main.main(["--help"]) == 0
  said = capsys.readouterr().out
  assert "usage: python -m cooper_jax.main --config=" in said
  assert "grpo.py" in said and "Exit codes" in said
  assert "grpo.rl.group_size=8 " in said and "docs/settings.md" in said


def test_a_real_process_ends_with_two_and_no_traceback(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "cooper_jax.main", "--config.grpo.stps=1"],
    cwd=tmp_path,  # any folder: configs are found beside the package
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2, done.stderr
  assert "Traceback" not in done.stderr and 'no key "stps"' in done.stderr


def test_stage_settings_hold_what_a_stage_depends_on():
  config = command.load_config("configs/grpo.py:smoke")
  tokenizer = stage_settings.of(config, "tokenizer")
  assert "tokenizer.network.levels" in tokenizer and "seed" in tokenizer
  # Another model needs no other tokenizer.
  assert not any(name.startswith("model.") for name in tokenizer)
  sft = stage_settings.of(config, "sft")
  assert "model.d_model" in sft and "pretrain.steps" in sft
  assert "sft.log_every" not in sft and "grpo.rl.group_size" not in sft


def test_a_commit_that_was_shipped_without_its_history_is_known(monkeypatch):
  monkeypatch.delenv("COOPER_COMMIT", raising=False)
  assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", provenance.commit())
  monkeypatch.setenv("COOPER_COMMIT", "c0ffee")
  assert provenance.commit() == "c0ffee"
