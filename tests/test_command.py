"""The command line: what is forgotten or of a wrong kind is told in a line."""

import pytest

from cooper_jax import command, main

SMOKE = "--config=configs/grpo.py:smoke"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  """A command that is not refused leaves nothing in the checkout."""
  monkeypatch.chdir(tmp_path)


def refused(capsys, *words) -> str:
  """The one line that a command ends with."""
  assert main.main([*words]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert len(error) < 600
  return error


@pytest.mark.parametrize(
  "words, said",
  [
    (["--workdir"], "--workdir needs a value: folder of the run"),
    (["--workdir", "--plan"], "--workdir needs a value"),
    (["--workdir", "-plan"], "--workdir needs a value"),
    (["--workdir="], "--workdir needs a value"),
    (["--config", "--plan"], "--config needs a value"),
    (["--compile_cache"], "--compile_cache needs a value"),
    (["--topology", "--compile_only"], "--topology needs a value"),
    (["--profile"], "--profile needs a value"),
    (["--config.data.cache", "--config.seed=1"], "=VALUE, a text, as in ''"),
    (["--config.sft.steps"], "--config.sft.steps needs a value"),
    (["--config.modalities"], "a tuple, as in \"('depth', 'segmentation')\""),
    (["--config.grpo.rl.rewards.length"], "=VALUE, a number, as in 0.1"),
    (["--noconfig.data.cache"], "--noconfig.data.cache is no switch"),
    (["--noconfig.quick_compile=True"], "takes no value"),
  ],
)
def test_a_flag_that_forgot_its_value_is_refused(words, said, capsys):
  assert said in refused(capsys, SMOKE, *words)


def test_switches_need_no_value_and_numbers_may_be_negative():
  asked = command.parse(
    ["--plan", "--config.quick_compile", "--config", "grpo:smoke"]
    + ["--noconfig.model.pointer", "--config.mesh.tensor", "-1"]
  )
  assert asked.plan and asked.config.quick_compile is True
  assert asked.config.model.pointer is False and asked.config.mesh.tensor == -1


@pytest.mark.parametrize(
  "words, said",
  [
    ("evaluate.benchmarks=0", "a tuple of texts"),
    ("modalities=None", "modalities is (None,); allowed: a tuple of texts"),
    ("pipeline=0", "a tuple of texts"),
    ("evaluate.replacements=1,2", "replacements is (1, 2)"),
    ("grpo.families=-1", "families is (-1,)"),
    ("sft.families=True", "families is (True,)"),
    ("trackers=1", "a tuple of texts"),
    ("lora.stages=1.5", "a tuple of texts"),
    ("maps.segmentation.names=3", "a tuple of texts"),
    ("data.settings.spar.tasks=3", "a tuple of texts"),
    ("data.weights=('a',)", 'a tuple of numbers, as in "(0.5, 0.5)"'),
    ("model.vision.deepstack=None", 'a tuple of whole numbers, as in "(1, 2)"'),
    ("model.vision.deepstack=nan", "deepstack is ('nan',)"),
    ("model.vision.full_layers=1.0", "a tuple of whole numbers"),
    ("model.rope_sections=True", "a tuple of whole numbers"),
    ("sampling.prompt_buckets=('a',)", "a tuple of whole numbers"),
    ("tokenizer.network.levels=(8, None)", "a tuple of whole numbers"),
    ("grpo.rl.loss.sapo=1.0", 'a tuple of 2 numbers, as in "(0.5, 0.5)"'),
    ("world.camera_height=('low', 'high')", "a tuple of 2 numbers"),
    ("modalities=" + repr(tuple(range(999))), "..; allowed: a tuple of texts"),
    ("init.networks.depth=abc", "set config.init.tokenizer.depth"),
    ("init.networks.depth={}", "is noted when a run begins"),
  ],
)
def test_elements_of_a_wrong_kind_are_refused(words, said, capsys):
  error = refused(capsys, SMOKE, f"--config.{words}")
  assert f"config.{words.partition('=')[0]} is " in error and said in error


@pytest.mark.parametrize(
  "asked, close",
  [
    ("grpo.py", "configs/grpo.py"),
    ("runs/grpo.py:smoke", "configs/grpo.py"),
    ("configs/grp.py", "configs/grpo.py"),
    ("grp", "grpo"),
    ("configs/grpo", "grpo"),
    ("nothing/like/it", ""),
  ],
)
def test_the_config_that_is_suggested_is_there(asked, close, capsys):
  error = refused(capsys, f"--config={asked}")
  assert ("did you mean" in error) == bool(close)
  if close:
    assert error.endswith(f'; did you mean "{close}"?\n')
    command.load_config(close)


def test_every_config_that_is_named_can_be_taken():
  found = command._configs()
  assert "grpo.py" in found and len(found) > 5
  for name in found:
    command.load_config(f"configs/{name}")
