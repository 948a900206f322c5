"""A name that is none leads to the setting that was meant."""

import pytest

from configs import base
from cooper_jax import main
from cooper_jax.settings import meaning, suggest

SAID = meaning.meanings(base.SECTION_CLASSES)
SMOKE = "--config=configs/grpo.py:smoke"


@pytest.mark.parametrize(
  ("asked", "meant"),
  [
    # Misspelt.
    ("sft.stps", "sft.steps"),
    ("stf.steps", "sft.steps"),
    ("model.d_modl", "model.d_model"),
    ("sft.weight.name", "sft.weights.name"),
    # Moved.
    ("rl.group", "grpo.rl.group_size"),
    ("rl.advantage", "grpo.rl.advantage"),
    ("rl.loss.kind", "grpo.rl.loss.kind"),
    # Older words, by the meaning of the new one.
    ("sft.measured", "sft.lengths_need_map"),
    ("start", "init_from"),
    ("grpo.blocks", "grpo.bins"),
    ("sft.faulty", "sft.corrupted"),
    ("sft.own_maps", "sft.self_map_scenes"),
    ("data.jsonl", "data.settings.jsonl.path"),
    ("model.map_group", "model.codes_per_step"),
    ("pretrain.given", "pretrain.map_context"),
    ("pretrain.marks", "pretrain.single_object"),
    ("pretrain.counts", "pretrain.extra_counting"),
    ("pretrain.edited", "pretrain.counterfactual"),
    ("sft.own_scenes", "sft.self_map_scenes"),
    ("model.read", "model.map_lookup"),
    ("rl.control", "grpo.rl.shuffle_rewards"),
  ],
)
def test_the_nearest_setting_is_named(asked, meant):
  assert suggest.suggest(asked, SAID) == f'; did you mean "--config.{meant}"?'


@pytest.mark.parametrize("asked", ["zzz", "sft.qqqq", "xx.yy"])
def test_what_is_near_to_nothing_suggests_nothing(asked):
  assert suggest.suggest(asked, SAID) == ""


@pytest.mark.parametrize(
  ("word", "said"),
  [
    ("sft.measured=depth", "--config.sft.lengths_need_map"),
    ("rl.group=8", "--config.grpo.rl.group_size"),
    ("start=tiny", "--config.init_from"),
    ("grpo.blocks=1", "--config.grpo.bins"),
    ("sft.faulty=.1", "--config.sft.corrupted"),
  ],
)
@pytest.mark.parametrize("flag", ["--config.", "--"])
def test_an_old_word_is_one_line_with_the_new_one(flag, word, said, capsys):
  assert main.main([SMOKE, f"{flag}{word}"]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert f'did you mean "{said}"' in error
