"""What a stage can't select is refused at the start, in one line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cooper_jax import command, main, world
from cooper_jax.data import mixture
from cooper_jax.errors import UserError
from cooper_jax.settings import checks
from cooper_jax.settings.selection import NAMING
from cooper_jax.stages import evaluate, supervised
from cooper_jax.training import (
  json_files,
  settings_version,
  stage_settings,
  workdir,
)
from cooper_jax.world.questions import families

SMOKE = "--config=configs/grpo.py:smoke"


def config_of(*changes):
  return command.parse(
    [SMOKE, *(f"--config.{each}" for each in changes)]
  ).config


@pytest.mark.parametrize(
  ("stage", "name"),
  [(stage, name) for stage, names in NAMING.items() for name in names],
)
def test_a_misspelt_family_has_its_nearest_name(stage, name, capsys):
  setting = f"--config.{stage}.{name}=('closr',)"
  assert main.main([SMOKE, setting]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert f'config.{stage}.{name} names "closr"; the training' in error
  assert 'did you mean "closer"?' in error


def test_a_family_of_lengths_without_lengths_is_refused():
  with pytest.raises(UserError, match='names "width", whose traces tell'):
    config_of(
      "pretrain.without_lengths=True", "pretrain.families=('count','width')"
    )
  config_of("pretrain.without_lengths=True", "pretrain.families=('count',)")


def test_a_family_answered_at_once_is_asked():
  with pytest.raises(UserError, match=r'names "closer", which config.sft.fam'):
    config_of("sft.direct_families=('closer',)", "sft.families=('count',)")
  config_of("sft.direct_families=('closer',)", "sft.families=('closer',)")


@pytest.mark.parametrize("name", ["counterfactual", "single_object"])
def test_maps_of_the_image_beside_exchanged_ones_are_refused(name):
  none = dict(map_context=0.5, counterfactual=0.0, single_object=0.0)
  look = "model.map_lookup=True"
  asked = [f"pretrain.{n}={v}" for n, v in (none | {name: 0.2}).items()]
  with pytest.raises(UserError, match=rf"pretrain.{name}=0.2 shows its own"):
    config_of("pretrain.exchanged_maps=True", look, *asked)
  asked = [f"pretrain.{n}={v}" for n, v in none.items()]
  config_of("pretrain.exchanged_maps=True", look, *asked)


def test_what_can_not_be_put_in_place_of_a_map_is_refused():
  with pytest.raises(UserError, match=r'names "zeros"; .* did you mean "zero"'):
    config_of("evaluate.replacements=('own','other','true','zeros')")
  with pytest.raises(UserError, match="name these three, too"):
    config_of("evaluate.replacements=('zero',)")
  config_of("evaluate.replacements=('own','other','true','zero','random')")


def own_data(folder, count=30):
  """(path, settings) of `count` images, each asked one question."""
  lines = []
  for i in range(count):
    name = f"{i}.png"
    Image.fromarray(np.full((64, 64, 3), i, np.uint8)).save(folder / name)
    lines.append(
      {"image": name, "question": "A ?", "answer": "yes", "family": "seen"}
    )
  path = folder / "lines.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return ["data.source=jsonl", f"data.settings.jsonl.path={path}"]


def check_data(folder, *changes):
  config = config_of(*own_data(folder), *changes)
  checks.check_data(SimpleNamespace(config=config, workdir=folder / "run"))


def test_a_family_of_own_data_that_nobody_asks_is_named(tmp_path):
  check_data(tmp_path, "sft.families=('seen',)")
  with pytest.raises(
    UserError, match=r'sft.families names "seem"; the .* asks seen; did you'
  ):
    check_data(tmp_path, "sft.families=('seen','seem')")


def test_ids_of_a_mixture_are_looked_at_before_any_stage(tmp_path, monkeypatch):
  seen = []
  monkeypatch.setattr(
    mixture, "check_ids", lambda data: seen.append(data.names)
  )
  check_data(tmp_path, "data.source=world,jsonl")
  assert seen == [("world", "jsonl")]


def test_more_scenes_than_there_are_is_refused(tmp_path, capsys):
  assert main.main([SMOKE, "--config.sft.scenes=1000000"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert error.startswith("error: config.sft.scenes is 1000000; the train")
  with pytest.raises(UserError, match=r"sft.scenes is 8, and .* no common"):
    config_of(*own_data(tmp_path), "sft.scenes=8", "data.source=world,jsonl")
  check_data(tmp_path, "sft.scenes=10")
  with pytest.raises(UserError, match=r"sft.scenes is 29; the .* up to 2\d:"):
    check_data(tmp_path, "sft.scenes=29")


def test_grpo_leaves_a_scene_to_ask_about(tmp_path):
  scenes = command.load_config("configs/grpo.py:smoke").data.train_scenes
  config_of(f"grpo.skip_scenes={scenes - 1}")
  with pytest.raises(UserError, match=rf"skip_scenes is {scenes}; .* up to"):
    config_of(f"grpo.skip_scenes={scenes}")
  with pytest.raises(UserError, match=r"skip_scenes is 29; .* up to 2\d:"):
    check_data(tmp_path, "grpo.skip_scenes=29")


HELDOUT_WORDS = "grpo.phrasings=heldout"
NO_TEST = "evaluate.heldout_questions=0"


def test_words_that_are_trained_on_are_no_test_of_new_words(tmp_path):
  with pytest.raises(UserError, match=r"is the test of; .* or phrasings=usual"):
    config_of(HELDOUT_WORDS)
  config_of(HELDOUT_WORDS, NO_TEST)
  with pytest.raises(UserError, match='did you mean "heldout"'):
    config_of("grpo.phrasings=held_out", NO_TEST)
  made_up = "sft.extra_counting=0"
  with pytest.raises(UserError, match=r"sft.phrasings=heldout trains on the w"):
    config_of("sft.phrasings=heldout", made_up)
  config_of("sft.phrasings=heldout", made_up, NO_TEST)
  with pytest.raises(
    UserError, match=r"counting=2 adds questions .* usual words"
  ):
    config_of("sft.phrasings=heldout", "sft.extra_counting=2", NO_TEST)
  own = own_data(tmp_path)
  with pytest.raises(UserError, match=r"held-out words, and .* is jsonl"):
    config_of(*own, HELDOUT_WORDS, NO_TEST)
  with pytest.raises(UserError, match=r'benchmark "rephrased" of .* jsonl'):
    config_of(*own, "evaluate.benchmarks=('rephrased',)")


def test_sizes_are_added_of_families_that_are_derived():
  with pytest.raises(
    UserError, match=r"sft.extra_sizes=1 adds .* height and w"
  ):
    config_of("sft.extra_sizes=1", "world.derive=('viewpoint',)")
  config_of("sft.extra_sizes=1", "world.derive=('width',)")
  made_up = "sft.extra_counting=0", "sft.phrasings=heldout", NO_TEST
  with pytest.raises(UserError, match=r"sizes=1 adds questions .* usual words"):
    config_of("sft.extra_sizes=1", "world.derive=('width',)", *made_up)


def test_an_evaluation_later_leaves_the_held_out_split_out(tmp_path, capsys):
  assert not evaluate.words_trained(tmp_path)
  for asked, said in ((NO_TEST, False), (HELDOUT_WORDS, True)):
    workdir.finish(config_of(asked, NO_TEST), tmp_path, "grpo", seconds=1.0)
    assert evaluate.words_trained(tmp_path) == said
    assert ("held-out split left out" in capsys.readouterr().out) == said
  config = config_of("sft.phrasings=heldout", NO_TEST)
  workdir.finish(config, tmp_path / "sft_alone", "sft", seconds=1.0)
  assert evaluate.words_trained(tmp_path / "sft_alone")
  assert "config.sft.phrasings=heldout" in capsys.readouterr().out


def test_sft_asks_in_the_words_and_scenes_it_is_told():
  source = world.generate(world.WorldConfig(), split="train", start=0, count=6)
  told = config_of("sft.scenes=4", "sft.phrasings=heldout", NO_TEST).sft
  found = supervised.asked_of(source, told)
  assert len(found) == 4
  last = families.PHRASINGS - 1
  assert {q.template for i in range(4) for q in found[i].questions} == {last}
  usual = supervised.asked_of(source, config_of().pretrain)
  assert usual is source
  assert last not in {q.template for s in usual for q in s.questions}


def test_older_runs_and_packages_have_the_defaults_of_what_was_added():
  config = config_of()
  flat = json_files.flat(json_files.plain(config))
  for name, default in settings_version.ADDED.items():
    assert flat[name] == default
  for stage in config.pipeline:
    noted = stage_settings.of(config, stage)
    assert not noted.keys() & settings_version.ADDED.keys()
  changed = config_of("sft.families=('closer',)")
  assert "sft.families" in stage_settings.of(changed, "sft")
  assert "sft.families" not in stage_settings.of(changed, "pretrain")


def test_a_run_of_before_is_finished_and_refuses_what_was_added(tmp_path):
  config = config_of()
  for stage in config.pipeline:
    workdir.begin(config, tmp_path, stage)
    workdir.finish(config, tmp_path, stage, seconds=1.0)
  assert workdir.plan(config, tmp_path)[1] == []
  changed = config_of("pretrain.without_lengths=True")
  with pytest.raises(
    UserError, match=r"pretrain.without_lengths is False there and True here"
  ):
    workdir.check(changed, tmp_path)
  # And a run that was begun with it is no default run.
  other = tmp_path / "other"
  workdir.begin(changed, other, "pretrain")
  with pytest.raises(
    UserError, match=r"pretrain.without_lengths is True there and False here"
  ):
    workdir.check(config, other)


def test_a_package_that_does_not_know_it_was_made_with_the_default():
  command.parse(["--config=configs/grpo.py"])
  with pytest.raises(
    UserError, match=r"sft.families is \[\] there and \['closer'\] here"
  ):
    command.parse(
      ["--config=configs/grpo.py", "--config.sft.families=('closer',)"]
    )
