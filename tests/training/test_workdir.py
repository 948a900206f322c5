"""What may change in a workdir, and what is done again for it."""

import pytest

from configs import base
from cooper_jax.errors import UserError
from cooper_jax.training import json_files, settings_version, workdir

STAGES = ("tokenizer", "pretrain", "sft", "grpo", "evaluate")


def config_of(**changes):
  config = base.get_base("scratch", STAGES).copy_and_resolve_references()
  with config.unlocked():
    config.update_from_flattened_dict(
      {name.replace("__", "."): value for name, value in changes.items()}
    )
  return config


@pytest.fixture
def done(tmp_path):
  """A workdir in which every stage is finished."""
  config = config_of()
  workdir.prepare(config, tmp_path)
  for stage in STAGES:
    workdir.begin(config, tmp_path, stage)
    workdir.finish(config, tmp_path, stage, seconds=1.0)
  return tmp_path


def todo(config, folder):
  """The stages that are still to be run, after what differs is refused."""
  workdir.prepare(config, folder)
  return workdir.plan(config, folder)[1]


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("sampling__prompt_buckets", (96, 160, 6080)),
    ("evaluate__batch", 32),
    ("grpo__bins", 4),
    ("grpo__rows", 8),
    ("sft__optim__micro_batches", 2),
    *((f"{stage}__log_every", 7) for stage in STAGES[:4]),
    *((f"{stage}__save_every", 7) for stage in STAGES[:4]),
    *((f"{stage}__keep", 7) for stage in STAGES[:4]),
    *((f"{stage}__image_every", 7) for stage in STAGES[:4]),
    *((f"{stage}__expected_minutes", 7.0) for stage in STAGES),
  ],
)
def test_what_changes_no_result_may_change_and_nothing_is_run_again(
  done, name, value
):
  assert todo(config_of(**{name: value}), done) == []


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("grpo__steps", 4),  # of 24 that were done
    ("sft__steps", 10_000),
    ("grpo__batch", 16),
    ("sft__bins", 4),
    ("evaluate__questions", 7),
    ("sampling__text", 41),
    ("seed", 1),
  ],
)
def test_what_changes_a_result_may_not(done, name, value):
  shown = name.replace("__", r"\.")
  with pytest.raises(UserError, match=rf"{shown} is .* there and .* here"):
    workdir.prepare(config_of(**{name: value}), done)


def test_more_steps_of_grpo_go_on_and_are_evaluated_again(done):
  longer = config_of(grpo__steps=48)
  assert todo(longer, done) == ["grpo", "evaluate"]
  assert "grpo      goes on" in "\n".join(workdir.plan(longer, done)[0])
  workdir.begin(longer, done, "grpo")  # and stopped before its end
  assert todo(longer, done) == ["grpo", "evaluate"]
  with pytest.raises(UserError, match=r"grpo\.steps is 48 there and 24 here"):
    workdir.prepare(config_of(), done)
  workdir.finish(longer, done, "grpo", seconds=1.0)
  assert todo(longer, done) == ["evaluate"]
  workdir.begin(longer, done, "evaluate")
  workdir.finish(longer, done, "evaluate", seconds=1.0)
  assert todo(longer, done) == []


def test_where_validation_only_watches_it_may_be_switched_on(done):
  watched = config_of(grpo__validate_every=10, grpo__validation_questions=64)
  assert todo(watched, done) == []
  chosen = config_of(grpo__validate_every=10, grpo__result="best")
  with pytest.raises(UserError, match=r"grpo\.result is last there and best"):
    workdir.prepare(chosen, done)


def test_where_the_best_is_taken_validation_is_bound(tmp_path):
  def chosen(every):
    return config_of(grpo__validate_every=every, grpo__result="best")

  workdir.prepare(chosen(10), tmp_path)
  workdir.begin(chosen(10), tmp_path, "grpo")
  with pytest.raises(UserError, match=r"validate_every is 10 there and 5"):
    workdir.prepare(chosen(5), tmp_path)


def test_a_record_from_before_a_setting_was_free_is_still_of_this_run(done):
  """As runs have it that were made when buckets could not change."""
  for stage in STAGES:
    path = done / stage / "stage.json"
    record = json_files.read_json(path)
    record["settings"]["sampling.prompt_buckets"] = [96, 160]
    record["settings"]["evaluate.batch"] = 256
    record["digest"] = json_files.digest(record["settings"])
    json_files.write_json(path, record)
  assert todo(config_of(sampling__prompt_buckets=(64, 96)), done) == []


def test_a_reward_that_is_not_computed_may_be_set_to_anything(done):
  assert todo(config_of(grpo__rl__settings__length__limit=99), done) == []


@pytest.mark.parametrize(
  ("name", "value", "said"),
  [
    ("length", 0.1, "is absent there and 0.1 here"),
    ("length", 0.0, "is absent there and 0.0 here"),
    ("format", None, "is 0.2 there and absent here"),
    ("format", 0.3, "is 0.2 there and 0.3 here"),
  ],
)
def test_rewards_that_differ_are_refused(done, name, value, said):
  config = config_of()
  with config.unlocked():
    config.grpo.rl.rewards[name] = value
  with pytest.raises(UserError, match=rf"grpo\.rl\.rewards\.{name} {said}"):
    workdir.prepare(config, done)


def test_the_config_comes_back_as_it_was_saved(done):
  assert workdir.read_config(done).to_dict() == config_of().to_dict()


def test_a_run_of_other_names_says_which_code_made_it(done):
  """As runs from before settings were renamed: no version is said in them."""
  for path in (done / "config.json", done / "sft" / "stage.json"):
    saved = json_files.read_json(path)
    del saved["version"]
    if "by" in saved:
      saved["by"][-1]["commit"] = "c0ffee"
    json_files.write_json(path, saved | {"commit": "c0ffee"})
  before = {p: p.read_bytes() for p in done.rglob("*.json")}
  said = "settings of version 1, commit c0ffee; this code has version 2"
  with pytest.raises(UserError, match=said) as error:
    workdir.prepare(config_of(), done)
  assert "sft/stage.json" in str(error.value) and "\n" not in str(error.value)
  with pytest.raises(UserError, match=said):
    workdir.read_config(done)
  assert before == {p: p.read_bytes() for p in done.rglob("*.json")}


def test_a_stage_that_is_a_link_to_nothing_is_refused(done, tmp_path):
  copied = tmp_path / "copied"
  copied.mkdir()
  (copied / "tokenizer").symlink_to("../elsewhere/tokenizer")
  with pytest.raises(UserError, match=r"is a link to \.\./elsewhere/"):
    workdir.check(config_of(), copied)
  (copied / "tokenizer").unlink()
  (copied / "tokenizer").touch()
  with pytest.raises(UserError, match="tokenizer is a file, not the folder"):
    workdir.check(config_of(), copied)
  (copied / "tokenizer").unlink()
  (copied / "tokenizer").symlink_to(done / "tokenizer")
  assert workdir.plan(config_of(), copied)[1][0] == "pretrain"
  workdir.check(config_of(), copied)


def test_each_value_that_is_to_be_given_again_is_named(tmp_path):
  new = base.get_base("long", STAGES)
  old = new.copy_and_resolve_references()
  before = {  # as long was before it was told the lens
    "data.tell_lens": False,
    "world.derive": (),
    "pretrain.text_bins": 2,
    "pretrain.texts": 140,
    "pretrain.extra_sizes": 0,
    "sft.steps": 500,
    "sft.extra_sizes": 0,
  }
  with old.unlocked():
    old.update_from_flattened_dict(before)
  workdir.begin(old, tmp_path, "sft")
  with pytest.raises(UserError) as refused:
    workdir.check(new, tmp_path)
  assert all(name in str(refused.value) for name in before)
  assert " more " not in str(refused.value)


def test_of_another_recipe_a_line_names_the_first_settings():
  most = settings_version.MOST_DIFFERENCES
  found = [f"a{i} is 1 there and 2 here" for i in range(most + 2)]
  assert settings_version.several(found[:most]) == "; ".join(found[:most])
  assert settings_version.several(found).endswith(
    f"{found[most - 1]}; and 2 more"
  )
